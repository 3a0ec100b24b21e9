"""Trains a BERT on a set of masked records; run again, it resumes.

python -m bert_pretrain.train --data_dir=… --model_dir=… --total_steps=…

Exit codes:
    0    the run is complete
    2    a mistake in the options or the files, told in one line
    3    updates failed again and again; what to look at is told
    75   SIGTERM: the loop in flight was finished and saved; start me again
    130  SIGINT: likewise, but somebody wanted it to end
"""

import dataclasses
import sys

from bert_pretrain import (
    checkpoints,
    distribution,
    errors,
    evaluator,
    files,
    input_pipeline,
    interruption,
    model,
    optimizer,
    options,
    phases,
    profiling,
    program,
    records,
    recovery,
    schedule,
    telemetry,
    trainer,
    wandb_log,
)

# Options that phases can change, see phases.py.
_FIRST_PHASE = (
    "data_dir",
    "global_batch_size",
    "accumulation_steps",
    "masked_fraction",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A training run."""

    data_dir: str = options.option(
        "Folder of records and manifest, as tfrecord_builders.build makes it.",
        changes_result=False,  # its contents do, wherever they lie
    )
    global_batch_size: int = options.option(
        "Examples in a step, over all replicas.", 256
    )
    accumulation_steps: int = options.option(
        "Parts that a replica computes its share of the batch in, one after "
        "the other, to need less memory; the update is the same.",
        1,
    )
    recompute: bool = options.option(
        "Keeps only what goes from layer to layer and computes the rest again "
        "for the gradient: less memory, a third more time.",
        False,
    )
    steps_per_loop: int = options.option(
        "Steps between two lines of progress; the device is left alone "
        "meanwhile.",
        100,
        changes_result=False,
    )
    eval_every_steps: int = options.option(
        "Steps between evaluations on the eval split; 0 for one before the "
        "first step and one after the last only.",
        0,
        changes_result=False,
    )
    early_stopping_patience: int = options.option(
        "Evaluations in a row that bring no lower held-out loss, after which "
        "the run ends; 0 for never. Needs eval_every_steps.",
        0,
        changes_result=False,
    )
    masked_fraction: float | None = options.option(
        "The share of tokens to predict, for sets built with masking=none; "
        "the set's if not given.",
        None,
    )
    phases: str = options.option(
        "A YAML file of what changes at which step (docs/training.md).",
        "",
        changes_result=False,  # What is in it is compared.
    )
    seed: int = options.option(
        "Of initial weights, order of examples, dropout and dynamic masks.", 0
    )
    architecture: model.ModelConfig = model.ModelConfig()
    optimization: optimizer.OptimizerConfig = optimizer.OptimizerConfig()
    schedule: schedule.ScheduleConfig
    devices: distribution.DistributionConfig = distribution.DistributionConfig()
    saving: checkpoints.CheckpointConfig
    failures: recovery.RecoveryConfig = recovery.RecoveryConfig()
    trace: profiling.ProfilingConfig = profiling.ProfilingConfig()
    tracking: wandb_log.WandbConfig = wandb_log.WandbConfig()

    def __post_init__(self):
        for name in ("accumulation_steps", "steps_per_loop"):
            if getattr(self, name) < 1:
                raise errors.UserError(
                    f"--{name}={getattr(self, name)} must be at least 1."
                )
        if self.eval_every_steps < 0:
            raise errors.UserError(
                f"--eval_every_steps={self.eval_every_steps} must not be "
                "negative."
            )
        if self.early_stopping_patience < 0 or (
            self.early_stopping_patience and not self.eval_every_steps
        ):
            raise errors.UserError(
                f"--early_stopping_patience={self.early_stopping_patience} "
                "counts evaluations: it must not be negative, and "
                f"--eval_every_steps={self.eval_every_steps} must be positive."
            )
        if not 0 <= self.seed < 2**31:
            raise errors.UserError(
                f"--seed={self.seed} must be at least 0 and below 2**31."
            )


def train(config):
    """Trains to `total_steps`, resuming if `model_dir` holds a checkpoint.

    Returns:
      The process's exit code.
    """
    model_dir = config.saving.model_dir
    try:
        with interruption.watching() as raise_if_asked:
            with files.locked(model_dir):
                _train(config, raise_if_asked)
    except interruption.Interrupted as interrupted:
        return interrupted.code
    except recovery.Diverged as diverged:
        print(f"error: {diverged}", file=sys.stderr)
        return recovery.DIVERGED_CODE
    return 0


def _train(config, raise_if_asked):
    """Trains, and raises if it does not come to the end."""
    watch = telemetry.Stopwatch()
    telemetry.quiet_libraries()
    plan = _plan(config)
    # The one that needs the most positions.
    manifest = max(
        (phase.manifest for phase in plan), key=lambda m: m.seq_length
    )
    strategy = distribution.build_strategy(config.devices)
    _prepare(config, plan, manifest, strategy)
    files.remove_asides(config.saving.model_dir)
    with strategy.scope():
        state = _new_state(config, plan, manifest)
        saver = checkpoints.Saver(config.saving, state)
        is_restored = saver.restore()
    model_dir = config.saving.model_dir
    with wandb_log.following(
        config.tracking, model_dir, options.to_dict(config)
    ) as follow:
        log = telemetry.MetricsLog(
            f"{model_dir}/{telemetry.LOG_NAME}", state, follow
        )
        log.resume(is_restored)
        # Until this process, too, has come to the end.
        files.remove(f"{model_dir}/{telemetry.TRAIN_RESULTS_NAME}")
        _announce(config, plan, state, strategy)
        outcome = program.Program(
            config, plan, strategy, state, saver, log
        ).run(is_restored, raise_if_asked)
    saver.close()
    results = {
        **_results(state, outcome, _at_the_start(log)),
        "seconds": round(watch.seconds, 3),
        "peak_memory_bytes": telemetry.peak_memory_bytes(),
    }
    files.write_json(f"{model_dir}/{telemetry.TRAIN_RESULTS_NAME}", results)
    _print_results(model_dir, results)


def _plan(config):
    """The phases that the options and their file ask for."""
    beginning = {name: getattr(config, name) for name in _FIRST_PHASE}
    beginning["peak_learning_rate"] = config.schedule.peak_learning_rate
    return phases.read(config.phases, beginning, config.schedule.total_steps)


def _prepare(config, plan, manifest, strategy):
    """Checks that all fits together, and writes down what is asked."""
    bert_config = model.architecture(config.architecture, manifest)
    for phase in plan:
        distribution.check_batch(
            phase.global_batch_size, strategy, phase.accumulation_steps
        )
    checkpoints.prepare(
        Config,
        options.to_dict(config)
        | {checkpoints.PHASES_NAME: phases.describe(plan)},
        bert_config,
        config.data_dir,
    )


def _new_state(config, plan, manifest):
    """Model, optimizer and clock at step 0."""
    bert = model.build(config.architecture, manifest, config.seed)
    variables = model.trained_variables(bert, config.architecture)
    clock = schedule.Clock(config.schedule.max_minutes)
    changes = [
        schedule.Change(
            from_step=phase.from_step,
            peak_learning_rate=phase.peak_learning_rate,
            warmup_steps=phase.warmup_steps,
        )
        for phase in plan
    ]
    rate = schedule.Schedule(config.schedule, clock, changes)
    adam = optimizer.build(config.optimization, rate, variables)
    return trainer.new_state(bert, adam, variables, clock)


def _announce(config, plan, state, strategy):
    bert = state.bert
    print(
        f"{type(bert).__name__}: {bert.config.num_hidden_layers} layers, "
        f"hidden {bert.config.hidden_size}, "
        f"vocabulary {bert.config.vocab_size:,}, "
        f"{bert.num_parameters():,} parameters, on "
        f"{strategy.num_replicas_in_sync} x {config.devices.precision}"
    )
    for phase in plan:
        num_examples = phase.manifest.splits[records.TRAIN].num_examples
        num_steps = phase.until_step - phase.from_step
        num_epochs = num_steps * phase.global_batch_size / num_examples
        print(
            f"steps {phase.from_step:,} to {phase.until_step:,}: "
            f"{num_examples:,} examples of {phase.manifest.seq_length} tokens, "
            f"{phase.global_batch_size} a step = {num_epochs:.1f} epochs"
        )
    print(
        f"resuming at step {state.step:,}"
        if state.step
        else "beginning at step 0",
        flush=True,
    )


def _results(state, outcome, start):
    """What the run reached, and how fast."""
    phase = outcome.phase
    held_out = input_pipeline.host_batches(
        phase.data_dir, phase.manifest, records.EVAL
    )
    return {
        "step": state.step,
        "start": start,
        "end": outcome.evaluation,
        "unigram_entropy": evaluator.unigram_entropy(
            held_out, phase.manifest.vocab_size
        ),
        "num_examples": int(state.num_examples.numpy()),
        "num_predictions": int(state.num_predictions.numpy()),
        **telemetry.summarize(outcome.totals),
    }


def _at_the_start(log):
    """The evaluation before the first step, if it is still in the log."""
    for record in log.records:
        if record["kind"] == "eval" and not record["num_examples"]:
            return {
                name: value
                for name, value in record.items()
                if name not in ("kind", "step", "num_examples")
            }
    return None


def _print_results(model_dir, results):
    start, end = results["start"], results["end"]
    rows = []
    for name, value in end.items():
        before = f"  (at the start {start[name]:.4f})" if start else ""
        rows.append((f"eval {name}", f"{value:.4f}{before}"))
    rows += [
        (
            "unigram entropy of the labels",
            f"{results['unigram_entropy']:.4f} nats",
        ),
        ("steps", f"{results['step']:,}"),
        ("time", telemetry.format_duration(results["seconds"])),
        ("examples/s", f"{results['examples_per_second']:,.1f}"),
        ("tokens/s", f"{results['tokens_per_second']:,.0f}"),
        ("peak memory", f"{results['peak_memory_bytes'] / 1e9:.2f} GB"),
        ("model directory", model_dir),
    ]
    telemetry.print_table("Training is complete", rows, sys.stdout)


if __name__ == "__main__":
    options.run(train, Config)
