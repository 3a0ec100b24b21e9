"""Trains a BERT on a set of masked records; run again, it resumes.

python -m bert_pretrain.train --data_dir=… --model_dir=… --total_steps=…
"""

import contextlib
import dataclasses
import signal
import sys

import orbit
import tensorflow as tf

from bert_pretrain import (
    checkpoints,
    distribution,
    errors,
    evaluator,
    files,
    input_pipeline,
    model,
    optimizer,
    options,
    records,
    telemetry,
    trainer,
)

_START_NAME = "start_results.json"
INTERRUPTED_CODE = 130  # as a shell reports SIGINT


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A training run."""

    data_dir: str = options.option(
        "Folder of records and manifest, as tfrecord_builders.build makes it."
    )
    global_batch_size: int = options.option(
        "Examples in a step, over all replicas.", 256
    )
    steps_per_loop: int = options.option(
        "Steps between two lines of progress; the device is left alone "
        "meanwhile.",
        100,
    )
    eval_every_steps: int = options.option(
        "Steps between evaluations on the eval split; 0 for one before the "
        "first step and one after the last only.",
        0,
    )
    seed: int = options.option(
        "Of initial weights, order of examples and dropout.", 0
    )
    architecture: model.ModelConfig = model.ModelConfig()
    adamw: optimizer.OptimizerConfig = optimizer.OptimizerConfig()
    schedule: optimizer.ScheduleConfig
    devices: distribution.DistributionConfig = distribution.DistributionConfig()
    saving: checkpoints.CheckpointConfig

    def __post_init__(self):
        if self.steps_per_loop < 1:
            raise errors.UserError(
                f"--steps_per_loop={self.steps_per_loop} must be at least 1."
            )
        if self.eval_every_steps < 0:
            raise errors.UserError(
                f"--eval_every_steps={self.eval_every_steps} must not be "
                "negative."
            )
        if not 0 <= self.seed < 2**31:
            raise errors.UserError(
                f"--seed={self.seed} must be at least 0 and below 2**31."
            )


class _Interrupted(Exception):
    """The user wants the run to end; it is between two loops."""


def train(config):
    """Trains to `total_steps`, resuming if `model_dir` holds a checkpoint.

    Returns:
      The process's exit code.
    """
    watch = telemetry.Stopwatch()
    telemetry.quiet_libraries()

    # ---- What is asked, and whether it fits together
    manifest = records.read_manifest(config.data_dir)
    records.check_set(config.data_dir, manifest)
    _check_splits(config.data_dir, manifest)
    bert_config = model.architecture(config.architecture, manifest)
    strategy = distribution.build_strategy(config.devices)
    distribution.check_batch(config.global_batch_size, strategy)
    checkpoints.prepare(
        config.saving, options.to_dict(config), bert_config, config.data_dir
    )

    # ---- Model and optimizer, as the last run left them
    with strategy.scope():
        bert = model.build(config.architecture, manifest, config.seed)
        state = trainer.new_state(
            bert,
            optimizer.build(
                config.adamw, config.schedule, bert.trainable_variables
            ),
        )
        manager = checkpoints.build(config.saving, state)
        checkpoints.restore(manager)
    _announce(config, manifest, bert, strategy, state.step)

    # ---- Input, from the example that the last run came to
    train_batches = input_pipeline.train_batches(
        strategy,
        config.data_dir,
        manifest,
        config.global_batch_size,
        config.seed,
        _examples_left(config, state),
    )
    eval_batches, num_eval_steps = input_pipeline.eval_batches(
        strategy,
        config.data_dir,
        manifest,
        records.EVAL,
        config.global_batch_size,
    )

    # ---- The loop
    dtype = distribution.compute_dtype(config.devices)
    with strategy.scope():
        bert_trainer = trainer.Trainer(
            state,
            train_batches,
            trainer.UpdateConfig(
                global_batch_size=config.global_batch_size,
                dtype=dtype,
                max_gradient_norm=config.adamw.max_gradient_norm,
                seed=config.seed,
            ),
        )
        bert_evaluator = evaluator.Evaluator(bert, eval_batches, dtype=dtype)
    # Bound now, since orbit's own lines are kept from sys.stdout later.
    progress = telemetry.Progress(
        bert_trainer,
        config.schedule.total_steps,
        manifest.seq_length,
        sys.stdout,
    )
    eval_line = telemetry.EvalLine(state, sys.stdout)
    model_dir = config.saving.model_dir
    try:
        # Orbit prints a line of its own for each of ours.
        with (
            _interruptions() as stop_if_asked,
            contextlib.redirect_stdout(None),
            input_pipeline.naming_failures(config.data_dir, manifest),
        ):
            start, end = _run(
                config,
                num_eval_steps,
                orbit.Controller(
                    strategy=strategy,
                    global_step=state.adam.iterations,
                    trainer=bert_trainer,
                    evaluator=bert_evaluator,
                    steps_per_loop=config.steps_per_loop,
                    summary_dir=f"{model_dir}/logs/train",
                    eval_summary_dir=f"{model_dir}/logs/eval",
                    checkpoint_manager=manager,
                    train_actions=[progress, stop_if_asked],
                    eval_actions=[eval_line],
                ),
            )
    except _Interrupted:
        manager.save(checkpoint_number=state.step, check_interval=False)
        print(
            f"Interrupted: step {state.step} is saved in {model_dir}; run "
            "the same command again to go on."
        )
        return INTERRUPTED_CODE

    # ---- What it reached
    results = {
        "step": state.step,
        "start": start,
        "end": end,
        "unigram_entropy": evaluator.unigram_entropy(
            input_pipeline.host_batches(
                config.data_dir, manifest, records.EVAL
            ),
            manifest.vocab_size,
        ),
        **progress.summary(),
        "seconds": round(watch.seconds, 3),
        "peak_memory_bytes": telemetry.peak_memory_bytes(),
    }
    files.write_json(f"{model_dir}/{telemetry.TRAIN_RESULTS_NAME}", results)
    _print_results(model_dir, results)
    return 0


def _check_splits(data_dir, manifest):
    for name in (records.TRAIN, records.EVAL):
        split = manifest.splits.get(name)
        if split is None or not split.num_examples:
            raise errors.UserError(
                f"{data_dir}: the {name} split holds no example; build the "
                "set with more text"
                + (
                    "."
                    if name == records.TRAIN
                    else " or a larger --eval_fraction."
                )
            )


def _announce(config, manifest, bert, strategy, step):
    num_examples = manifest.splits[records.TRAIN].num_examples
    num_epochs = (
        config.schedule.total_steps * config.global_batch_size / num_examples
    )
    print(
        f"{type(bert).__name__}: {bert.config.num_hidden_layers} layers, "
        f"hidden {bert.config.hidden_size}, "
        f"vocabulary {bert.config.vocab_size:,}, "
        f"{bert.num_parameters():,} parameters\n"
        f"{num_examples:,} examples of {manifest.seq_length} tokens, "
        f"{config.global_batch_size} a step on "
        f"{strategy.num_replicas_in_sync} x {config.devices.precision}, "
        f"{config.schedule.total_steps:,} steps = {num_epochs:.1f} epochs"
    )
    print(
        f"resuming at step {step:,}" if step else "beginning at step 0",
        flush=True,
    )


def _examples_left(config, state):
    """The range of global examples that the rest of the run consumes."""
    first = int(state.num_examples.numpy())
    num_steps = max(0, config.schedule.total_steps - state.step)
    return range(first, first + num_steps * config.global_batch_size)


def _run(config, num_eval_steps, controller):
    """Evaluates, trains, evaluates: (results at the start, at the end)."""
    total_steps = config.schedule.total_steps
    path = f"{config.saving.model_dir}/{_START_NAME}"
    if controller.global_step.numpy() == 0:
        start = _plain(controller.evaluate(num_eval_steps))
        # Kept at once, for the run that resumes this one.
        files.write_json(path, start)
    else:
        start = _start_of_earlier_run(path)
    if controller.global_step.numpy() >= total_steps:
        return start, _plain(controller.evaluate(num_eval_steps))
    return start, _plain(
        controller.train_and_evaluate(
            train_steps=total_steps,
            eval_steps=num_eval_steps,
            eval_interval=config.eval_every_steps or None,
        )
    )


def _start_of_earlier_run(path):
    return files.read_json(path) if tf.io.gfile.exists(path) else None


def _plain(output):
    return {
        name: float(value)
        for name, value in output.items()
        if name != "steps_per_second"
    }


@contextlib.contextmanager
def _interruptions():
    """Yields an `orbit.Action` that ends the run after SIGINT, between loops.

    A loop cannot be left in its middle: its step and its weights would be of
    different times.
    """
    is_asked = False

    def ask(signum, frame):
        nonlocal is_asked
        is_asked = True

    def stop_if_asked(output):
        if is_asked:
            raise _Interrupted

    earlier = signal.signal(signal.SIGINT, ask)
    try:
        yield stop_if_asked
    finally:
        signal.signal(signal.SIGINT, earlier)


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
