"""A training run, told from its beginning to its end.

    train               restores the state, trains, returns what was reached
      Run.train         phase after phase
        _train_phase    loop after loop, until the phase or the run ends
          _train_loop   many steps inside one `tf.function`

Loops end at the same steps wherever a process entered the run. After each loop,
in this order: the run goes back if updates failed, evaluates and saves if that
is due, and leaves if it is asked to. So everything that is logged for the steps
of a checkpoint was logged before that checkpoint was saved, and nothing has to
be logged again. There is one exception: a run that is asked to leave before an
evaluation leaves this evaluation to the process that resumes.

What is left of a run follows from its state alone: a phase is entered at the
step and at the example that the state has reached.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from bert_pretrain import errors, files, interruption, options
from bert_pretrain.checkpoints import checkpoint_saver, model_directory
from bert_pretrain.devices import distribution
from bert_pretrain.model import bert_model
from bert_pretrain.telemetry import (
    accelerators,
    memory,
    metrics_log,
    profiling,
    summaries,
    train_progress,
    wandb_log,
)
from bert_pretrain.training import (
    course,
    optimizer,
    recovery,
    train_state,
    trainer,
    training_config,
)

_EVAL_SUMMARIES = "logs/eval"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """A run that has come to its end."""

    state: train_state.TrainState
    log: metrics_log.MetricsLog
    last_phase: course.Phase
    evaluation: dict[str, float]  # the last one
    totals: list[train_progress.Totals]  # of each phase that was entered


def train(  # noqa: PLR0913 (a run depends on all of these)
    config: training_config.RunConfig,
    plan: Sequence[course.Phase],
    strategy: tf.distribute.Strategy,
    new_state: Callable[[], train_state.TrainState],
    *,
    is_changed: bool = False,
    announce: Callable[[train_state.TrainState], None] = lambda state: None,
    raise_if_asked: Callable[[], None] = lambda: None,
) -> Outcome:
    """Trains to `total_steps`; resumes if `model_dir` holds a checkpoint.

    The model directory is locked and prepared (model_directory.py).

    Args:
      plan: the phases, in order.
      new_state: makes the state at step 0; it is called in the strategy's
        scope.
      is_changed: whether the directory holds a run with other options, which
        goes on with these.
      announce: tells the user what is trained; it gets the state that the run
        begins or resumes with.
      raise_if_asked: is called between two loops; raises
        `interruption.Interrupted` if the run should save and end here.

    Raises:
      UserError: if the checkpoints cannot be read, or nothing can be written.
      Interrupted: if `raise_if_asked` raised it; the state is saved.
      Diverged: if updates fail again and again; see recovery.py.
      Spoilt: if the run is over, but its model is of no use.
    """
    model_dir = config.saving.model_dir
    files.remove_temporary_files(model_dir)
    with strategy.scope():
        state = new_state()
        saver = checkpoint_saver.Saver(config.saving, state)
        is_restored = saver.restore()
    if is_changed:
        # With another rate, the run has all its rollbacks again.
        state.num_rollbacks.assign(0)
    with wandb_log.following(
        config.tracking, model_dir, options.to_dict(config)
    ) as follow:
        log = metrics_log.MetricsLog(
            f"{model_dir}/{model_directory.LOG_NAME}", state, follow
        )
        log.resume(is_restored)
        for name in (model_directory.TRAIN_SUMMARIES, _EVAL_SUMMARIES):
            summaries.forget_from(
                f"{model_dir}/{name}", state.step + 1 if is_restored else 0
            )
        # They stand again when this process, too, has completed the run.
        files.remove(f"{model_dir}/{model_directory.TRAIN_RESULTS_NAME}")
        announce(state)
        print(
            f"resuming at step {state.step:,}"
            if state.step
            else "beginning at step 0",
            flush=True,
        )
        run = Run(
            config=config,
            plan=plan,
            strategy=strategy,
            state=state,
            saver=saver,
            log=log,
            raise_if_asked=raise_if_asked,
        )
        try:
            outcome = run.train(is_restored)
        except Exception:
            # Or the thread that writes goes on, beside the next run in here.
            saver.abandon()
            raise
        finally:
            log.flush()
    saver.close()
    return outcome


# ------------------------------------------------------------------- the run


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhaseSetup:
    """What takes part in the loops of one phase."""

    phase: course.Phase
    dataset_start_example: int  # examples consumed before this dataset
    trainer: trainer.Trainer
    evaluator: course.Evaluator
    num_eval_steps: int
    progress: train_progress.TrainProgress
    profiler: profiling.Profiler
    train_summaries: summaries.Summaries
    eval_summaries: summaries.Summaries

    def measure(self) -> dict[str, float]:
        """What the weights reach on the held-out split."""
        output = self.evaluator.evaluate(
            tf.constant(self.num_eval_steps, tf.int32)
        )
        return {name: float(value) for name, value in output.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What all phases of a run share."""

    config: training_config.RunConfig
    plan: Sequence[course.Phase]
    strategy: tf.distribute.Strategy
    state: train_state.TrainState
    saver: checkpoint_saver.Saver
    log: metrics_log.MetricsLog
    raise_if_asked: Callable[[], None]

    def train(self, is_restored: bool) -> Outcome:
        """Trains to the end of the run, phase by phase.

        Args:
          is_restored: whether the state is that of a checkpoint.
        """
        totals = []
        while True:
            phase = course.at_step(self.plan, self.state.step)
            setup = self.enter(phase)
            with (
                phase.naming_failures(),
                self._saving_at_an_interruption(setup),
                contextlib.closing(setup.profiler),
            ):
                if not is_restored and not self.state.step:
                    self._evaluate(setup)
                    self._save(setup)
                evaluation = self._train_phase(setup)
                is_complete = self._is_complete(phase)
                if is_complete and not evaluation:
                    # The run was finished already, or ended in a rollback.
                    evaluation = self._evaluate(setup)
                self._save(setup)
                if is_complete:
                    self._refuse_spoilt(setup)
            totals.append(setup.progress.totals())
            if is_complete:
                return Outcome(
                    state=self.state,
                    log=self.log,
                    last_phase=phase,
                    evaluation=evaluation,
                    totals=totals,
                )

    def _train_phase(self, setup: PhaseSetup) -> dict[str, float]:
        """Trains to the end of a phase, or of the run if that is earlier.

        Returns:
          The last evaluation; empty if none was made.
        """
        state, phase = self.state, setup.phase
        evaluation: dict[str, float] = {}
        if self._is_evaluation_due() and not self._is_evaluated():
            # An interruption came before it.
            evaluation = self._evaluate_and_keep(setup)
        # Going back can lead to a step before this phase.
        while phase.from_step <= state.step < phase.until_step:
            if self._is_over(phase):
                break
            self.raise_if_asked()
            earlier_step = state.step
            self._train_loop(setup)
            if self._go_back_if_needed(setup):
                evaluation = {}
                continue
            is_last = state.step == phase.until_step or self._is_over(phase)
            if not is_last and self._is_evaluation_due():
                # A process that will be killed soon has no time to evaluate.
                self.raise_if_asked()
            if is_last or self._is_evaluation_due():
                evaluation = self._evaluate_and_keep(setup)
            if self.saver.is_due(earlier_step):
                self._save(setup)
        return evaluation

    def _train_loop(self, setup: PhaseSetup) -> None:
        """Trains to the next step at which something else may be due."""
        step = self.state.step
        stop = self._next_stop(setup)
        started = time.perf_counter()
        with setup.profiler.tracing(step, stop):
            output = setup.trainer.train(tf.constant(stop - step, tf.int32))
        setup.progress.report(
            setup.trainer.last_loop,
            self.state.step,
            self.state.clock.seconds_left,
            output,
        )
        memory.add_memory(self.strategy, output)
        self.log.append("train", output)
        seconds = time.perf_counter() - started
        setup.train_summaries.write(
            {**output, "steps_per_second": (stop - step) / seconds}
        )

    def _next_stop(self, setup: PhaseSetup) -> int:
        step, until_step = self.state.step, setup.phase.until_step
        grids = (
            self.config.steps_per_loop,
            self.config.eval_every_steps or until_step,
        )
        stops = [until_step, *((step // grid + 1) * grid for grid in grids)]
        # Steps that are traced are in loops of their own.
        stops += [border for border in setup.profiler.borders if border > step]
        return min(stops)

    def _go_back_if_needed(self, setup: PhaseSetup) -> bool:
        """Whether the run went back to its last good checkpoint."""
        failures = recovery.Recovery(
            self.config.failures, self.state, self.saver, self.log
        )
        if not failures.go_back_if_needed(
            setup.trainer.last_loop, lambda: self._is_restored_good(setup)
        ):
            return False
        # The phase before may have saved the checkpoint, at its end.
        if self.state.step >= setup.phase.from_step:
            self._begin(setup.phase, setup.dataset_start_example)
        setup.trainer.train_dataset = self._batches(setup.phase)
        return True

    def _evaluate_and_keep(self, setup: PhaseSetup) -> dict[str, float]:
        earlier_losses = self._losses(setup.phase)
        evaluation = self._evaluate(setup)
        self.saver.save_if_best(
            self.state.learner.cost(evaluation),
            earlier_losses,
            course.dataset_start(self.plan, setup.phase),
        )
        return evaluation

    def _evaluate(self, setup: PhaseSetup) -> dict[str, float]:
        """Tells and logs what the weights reach on the held-out split."""
        started = time.perf_counter()
        evaluation = setup.measure()
        seconds = time.perf_counter() - started
        train_progress.print_evaluation(self.state.step, evaluation)
        self.log.append("eval", evaluation)
        setup.eval_summaries.write(
            {**evaluation, "steps_per_second": setup.num_eval_steps / seconds}
        )
        return evaluation

    # ------------------------------------------------------------ good or not

    def _save(self, setup: PhaseSetup) -> None:
        # A process that resumes from the checkpoint logs its steps no more.
        self.log.flush()
        setup.train_summaries.flush()
        setup.eval_summaries.flush()
        self.saver.save(self._is_good(setup))

    def _is_good(self, setup: PhaseSetup) -> bool:
        """Whether weights, moments and the last evaluation are finite."""
        last = self.log.evaluations()[-1:]
        return (
            all(math.isfinite(self.state.learner.cost(each)) for each in last)
            and setup.trainer.is_state_finite()
        )

    def _is_restored_good(self, setup: PhaseSetup) -> bool:
        """The same for a state that was just restored.

        It may have been saved before the next evaluation.
        """
        return setup.trainer.is_state_finite() and math.isfinite(
            self.state.learner.cost(setup.measure())
        )

    def _refuse_spoilt(self, setup: PhaseSetup) -> None:
        """Checks the model of a run that is complete.

        Raises:
          Spoilt: if it is of no use.
        """
        num_bad = int(self.state.bad_steps_in_row.numpy())
        if self._is_good(setup):
            if num_bad:
                errors.warn(
                    f"the last {num_bad:,} updates were not finite and were "
                    "left out."
                )
            return
        self.saver.close()
        raise recovery.Spoilt(
            f"the run ended at step {self.state.step:,}, but its held-out "
            "loss, weights or moments are not finite (the last "
            f"{num_bad:,} updates were left out). Check the learning rate (try "
            "a lower --peak_learning_rate or more --warmup_steps), the data "
            "and the precision (--precision=float32), and start a new run in "
            "another --model_dir."
        )

    @contextlib.contextmanager
    def _saving_at_an_interruption(self, setup: PhaseSetup) -> Iterator[None]:
        try:
            yield
        except interruption.Interrupted as interrupted:
            self._save(setup)
            self.saver.close()
            raise interruption.Interrupted(
                interrupted.code,
                f"step {self.state.step} is saved in "
                f"{self.config.saving.model_dir}",
            ) from None

    # ------------------------------------------------------------ what is due

    def _is_evaluation_due(self) -> bool:
        every = self.config.eval_every_steps
        return bool(every) and self.state.step % every == 0

    def _is_evaluated(self) -> bool:
        """Whether an evaluation of the present step is in the log."""
        step = self.state.step
        return any(record["step"] == step for record in self.log.evaluations())

    def _is_complete(self, phase: course.Phase) -> bool:
        is_last_step = self.state.step >= self.config.schedule.total_steps
        return is_last_step or self._is_over(phase)

    def _is_over(self, phase: course.Phase) -> bool:
        """Whether the time is used up, or the held-out loss falls no longer.

        The loss does not fall while updates fail either; recovery.py acts
        then, and the run is not over.
        """
        if self.state.clock.is_over:
            return True
        if self.state.bad_steps_in_row.numpy():
            return False
        return is_stopping_early(
            self._losses(phase), self.config.early_stopping_patience
        )

    def _losses(self, phase: course.Phase) -> list[float]:
        """Held-out losses up to now, on the dataset of a phase.

        Losses on another dataset do not compare.
        """
        since = course.dataset_start(self.plan, phase)
        return [
            self.state.learner.cost(record)
            for record in self.log.evaluations()
            if record["step"] > since or not since
        ]

    # ------------------------------------------------------- entering a phase

    def enter(self, phase: course.Phase) -> PhaseSetup:
        """Makes what the loops of a phase need, from where the state is."""
        config, state = self.config, self.state
        self._begin(phase, int(state.num_examples.numpy()))
        dtype = distribution.compute_dtype(config.devices)
        bert_trainer = trainer.Trainer(
            self.strategy,
            state,
            self._batches(phase),
            trainer.update_config(
                config, phase.global_batch_size, phase.accumulation_steps
            ),
        )
        phase_evaluator, num_eval_steps = phase.evaluator(
            self.strategy, state.learner, dtype
        )
        train_summaries = self._folder(model_directory.TRAIN_SUMMARIES)
        return PhaseSetup(
            phase=phase,
            dataset_start_example=int(state.dataset_start.numpy()),
            trainer=bert_trainer,
            evaluator=phase_evaluator,
            num_eval_steps=num_eval_steps,
            progress=train_progress.TrainProgress(
                config.schedule.total_steps,
                phase.seq_length,
                state.learner.labels,
                self._peak_rows_per_second(phase, dtype),
                phase.examples_per_row,
            ),
            profiler=profiling.Profiler(config.trace, train_summaries),
            train_summaries=self._summaries(train_summaries),
            eval_summaries=self._summaries(self._folder(_EVAL_SUMMARIES)),
        )

    def _begin(self, phase: course.Phase, dataset_start_example: int) -> None:
        """Does what a phase begins with, once in a run.

        Args:
          dataset_start_example: examples that the run consumed before it came
            to the phase's dataset, if that is a new one.
        """
        state = self.state
        if phase.from_step == int(state.phase_start.numpy()):
            return
        state.phase_start.assign(phase.from_step)
        if phase.from_step == course.dataset_start(self.plan, phase):
            state.dataset_start.assign(dataset_start_example)
        if phase.reset_optimizer:
            optimizer.reset(state.optimizer)

    def _batches(self, phase: course.Phase) -> tf.distribute.DistributedDataset:
        """Batches from the example of the dataset that the run has reached."""
        state = self.state
        first = int(state.num_examples.numpy() - state.dataset_start.numpy())
        num_steps = max(0, phase.until_step - state.step)
        return phase.train_batches(
            self.strategy,
            self.config.seed,
            range(first, first + num_steps * phase.global_batch_size),
        )

    def _peak_rows_per_second(
        self, phase: course.Phase, dtype: tf.DType
    ) -> float | None:
        """What the accelerators compute at most; None if that is not known."""
        peak_flops = accelerators.peak_flops(self.strategy, dtype)
        return peak_flops and peak_flops / accelerators.flops_per_example(
            self.state.bert.config,
            phase.seq_length,
            phase.num_predictions,
            bert_model.has_pairs(self.state.bert),
        )

    def _folder(self, name: str) -> str:
        return f"{self.config.saving.model_dir}/{name}"

    def _summaries(self, folder: str) -> summaries.Summaries:
        return summaries.Summaries(folder, self.state.optimizer.iterations)


def is_stopping_early(losses: Sequence[float], patience: int) -> bool:
    """Whether the last `patience` losses brought no new minimum.

    Args:
      losses: of the evaluations of a run, in order.
      patience: 0 for never.
    """
    if not patience or len(losses) <= patience:
        return False
    return min(losses[-patience:]) >= min(losses[:-patience])
