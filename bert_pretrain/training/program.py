"""The program of a run: its phases, and the loops of each.

What is left of a run follows from its state alone: the loops of a phase are
made from the step and the example that the state has come to.
"""

import contextlib
import dataclasses
import functools
import sys

import orbit
import tensorflow as tf

from bert_pretrain import distribution
from bert_pretrain.checkpoints import checkpoint_saver, model_directory
from bert_pretrain.data import input_pipeline, records
from bert_pretrain.model import bert_model
from bert_pretrain.telemetry import (
    memory,
    metrics_log,
    mfu,
    profiling,
    train_progress,
)
from bert_pretrain.training import (
    early_stopping,
    evaluator,
    interruption,
    optimizer,
    phases,
    recovery,
    run,
    train_state,
    trainer,
    training_config,
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run has come to."""

    phase: phases.Phase  # in which it ended
    evaluation: dict  # the last one
    totals: list  # `train_progress.Totals` of each phase that was entered


@dataclasses.dataclass(frozen=True)
class Program:
    """What all phases of a run share."""

    config: training_config.TrainingConfig
    plan: list  # of `phases.Phase`s
    strategy: tf.distribute.Strategy
    state: train_state.TrainState
    saver: checkpoint_saver.Saver
    log: metrics_log.MetricsLog

    def run(self, is_restored, raise_if_asked):
        """Trains to the end, phase by phase.

        Args:
          is_restored: whether the state is that of a checkpoint.
          raise_if_asked: see interruption.py.

        Returns:
          The `Outcome`.
        """
        state, totals = self.state, []
        while True:
            phase = phases.at_step(self.plan, state.step)
            progress, training = self._enter(phase, raise_if_asked)
            # Orbit prints a line of its own for each of ours.
            with (
                contextlib.redirect_stdout(None),
                input_pipeline.naming_failures(phase.data_dir, phase.manifest),
                self._saving_at_an_interruption(),
            ):
                if not is_restored and not state.step:
                    training.evaluate()
                    self.saver.save()
                evaluation = training.train(phase.until_step)
                is_complete = (
                    state.step >= self.config.schedule.total_steps
                    or training.is_over()
                )
                if is_complete:
                    # Not evaluated yet are a run that had ended already, and
                    # one that its end met while it went back.
                    evaluation = evaluation or training.evaluate()
            totals.append(progress.totals())
            if is_complete:
                return Outcome(phase, evaluation, totals)

    @contextlib.contextmanager
    def _saving_at_an_interruption(self):
        try:
            yield
        except interruption.Interrupted:
            self.saver.save()
            self.saver.close()
            print(
                f"Interrupted: step {self.state.step} is saved in "
                f"{self.config.saving.model_dir}; run the same command again "
                "to go on.",
                file=sys.stderr,
            )
            raise

    def _enter(self, phase, raise_if_asked):
        """(Progress, `run.Run`) of a phase, from where the state is."""
        config, state = self.config, self.state
        self._begin(phase, int(state.num_examples.numpy()))
        set_start = int(state.set_start.numpy())
        dtype = distribution.compute_dtype(config.devices)
        eval_batches, num_eval_steps = input_pipeline.eval_batches(
            self.strategy,
            phase.data_dir,
            phase.manifest,
            records.EVAL,
            phase.global_batch_size,
        )
        bert_trainer = trainer.Trainer(
            self.strategy,
            state,
            self._batches(phase),
            training_config.update_config(
                config, phase.global_batch_size, phase.accumulation_steps
            ),
        )
        with self.strategy.scope():
            bert_evaluator = evaluator.Evaluator(
                state.bert, eval_batches, dtype=dtype
            )
        # Bound now, since orbit's own lines are kept from sys.stdout later.
        progress = train_progress.TrainProgress(
            bert_trainer,
            config.schedule.total_steps,
            phase.manifest.seq_length,
            sys.stdout,
            self._peak_examples_per_second(phase, dtype),
        )
        eval_line = train_progress.EvalLine(state, sys.stdout)
        model_dir = config.saving.model_dir
        return progress, run.Run(
            controller=orbit.Controller(
                strategy=self.strategy,
                global_step=state.adam.iterations,
                trainer=bert_trainer,
                evaluator=bert_evaluator,
                steps_per_loop=config.steps_per_loop,
                summary_dir=f"{model_dir}/{model_directory.TRAIN_SUMMARIES}",
                eval_summary_dir=f"{model_dir}/logs/eval",
                train_actions=[
                    progress,
                    functools.partial(memory.add_memory, self.strategy),
                    self.log.action("train"),
                ],
                eval_actions=[eval_line, self.log.action("eval")],
            ),
            trainer=bert_trainer,
            saver=self.saver,
            recovery=recovery.Recovery(
                config.failures, bert_trainer, self.saver, self.log
            ),
            batches_after_going_back=functools.partial(
                self._batches_after_going_back, phase, set_start
            ),
            raise_if_asked=raise_if_asked,
            profiler=profiling.Profiler(
                config.trace, f"{model_dir}/{model_directory.TRAIN_SUMMARIES}"
            ),
            num_eval_steps=num_eval_steps,
            steps_per_loop=config.steps_per_loop,
            eval_every_steps=config.eval_every_steps,
            from_step=phase.from_step,
            set_start_step=phases.set_start(self.plan, phase),
            is_over=lambda: self._is_over(phase),
            is_evaluated=self._is_evaluated,
        )

    def _begin(self, phase, set_start):
        """Does what a phase begins with, once in a run.

        Args:
          set_start: the examples that were consumed before its set, if that
            is a new one.
        """
        state = self.state
        if phase.from_step == int(state.phase_start.numpy()):
            return
        state.phase_start.assign(phase.from_step)
        if phase.from_step == phases.set_start(self.plan, phase):
            state.set_start.assign(set_start)
        if phase.reset_optimizer:
            optimizer.reset(state.adam)

    def _batches(self, phase):
        """Batches from the example that the run has come to in the set."""
        state = self.state
        first = int(state.num_examples.numpy() - state.set_start.numpy())
        num_steps = max(0, phase.until_step - state.step)
        return input_pipeline.train_batches(
            self.strategy,
            phase.data_dir,
            phase.manifest,
            phase.global_batch_size,
            self.config.seed,
            range(first, first + num_steps * phase.global_batch_size),
            phase.masking,
        )

    def _batches_after_going_back(self, phase, set_start):
        # The phase before may have saved the checkpoint, at its end.
        if self.state.step >= phase.from_step:
            self._begin(phase, set_start)
        return self._batches(phase)

    def _peak_examples_per_second(self, phase, dtype):
        """What the accelerators compute at the most; None if not known."""
        peak_flops = mfu.peak_flops(self.strategy, dtype)
        predicting = phase.masking or phase.manifest
        return peak_flops and peak_flops / mfu.flops_per_example(
            self.state.bert.config,
            phase.manifest.seq_length,
            predicting.max_predictions_per_seq,
            bert_model.has_pairs(self.state.bert),
        )

    def _is_over(self, phase):
        """Whether the time is used up, or the held-out loss stands still.

        While updates fail it stands still too, which is for recovery.py.
        """
        if self.state.clock.is_over:
            return True
        if self.state.bad_steps_in_row.numpy():
            return False
        since = phases.set_start(self.plan, phase)
        losses = [
            run.held_out_loss(record)
            for record in self.log.evaluations()
            if record["step"] > since or not since
        ]
        return early_stopping.is_due(
            losses, self.config.early_stopping_patience
        )

    def _is_evaluated(self):
        step = self.state.step
        return any(record["step"] == step for record in self.log.evaluations())
