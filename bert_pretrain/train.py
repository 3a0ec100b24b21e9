"""Trains a BERT on a set of masked records; run again, it resumes.

python -m bert_pretrain.train --data_dir=… --model_dir=… --total_steps=…
"""

import contextlib
import dataclasses
import signal
import sys

import orbit
import tensorflow as tf
from absl import logging

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

RESULTS_NAME = "train_results.json"
INTERRUPTED_CODE = 130  # as a shell reports SIGINT


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A training run."""
    data_dir: str = options.option(
        "Folder of records and manifest, as tfrecord_builders.build makes it.")
    global_batch_size: int = options.option(
        "Examples in a step, over all replicas.", 256)
    steps_per_loop: int = options.option(
        "Steps between two lines of progress; the device is left alone "
        "meanwhile.", 100)
    eval_every_steps: int = options.option(
        "Steps between evaluations on the eval split; 0 for one before the "
        "first step and one after the last only.", 0)
    seed: int = options.option(
        "Of initial weights, order of examples and dropout.", 0)
    architecture: model.ModelConfig = model.ModelConfig()
    adamw: optimizer.OptimizerConfig = optimizer.OptimizerConfig()
    schedule: optimizer.ScheduleConfig
    devices: distribution.DistributionConfig = (
        distribution.DistributionConfig())
    saving: checkpoints.CheckpointConfig

    def __post_init__(self):
        if self.steps_per_loop < 1:
            raise errors.UserError(
                f"--steps_per_loop={self.steps_per_loop} must be at least 1.")
        if self.eval_every_steps < 0:
            raise errors.UserError(
                f"--eval_every_steps={self.eval_every_steps} must not be "
                "negative.")
        if not 0 <= self.seed < 2**31:
            raise errors.UserError(
                f"--seed={self.seed} must be at least 0 and below 2**31.")


class _Interrupted(Exception):
    """The user wants the run to end; it is between two loops."""


def train(config):
    """Trains to `total_steps`, resuming if `model_dir` holds a checkpoint.

    Returns:
      The process's exit code.
    """
    watch = telemetry.Stopwatch()
    logging.set_verbosity(logging.WARNING)

    # ---- What is asked, and whether it fits together
    manifest = records.read_manifest(config.data_dir)
    records.check_set(config.data_dir, manifest)
    _check_splits(config.data_dir, manifest)
    bert_config = model.architecture(config.architecture, manifest)
    strategy = distribution.build_strategy(config.devices)
    distribution.check_batch(config.global_batch_size, strategy)
    model_dir = config.saving.model_dir
    checkpoints.prepare(config.saving, options.to_dict(config),
                        bert_config, config.data_dir)

    # ---- Model, optimizer, and where the last run left them
    dtype = distribution.compute_dtype(config.devices)
    with strategy.scope():
        bert = model.build(config.architecture, manifest, config.seed)
        adam = optimizer.build(config.adamw, config.schedule,
                               bert.trainable_variables)
        state = trainer.new_state(bert, adam)
        manager = checkpoints.build(config.saving, state)
        checkpoints.restore(manager)
    first_step = int(adam.iterations.numpy())

    # ---- Input
    num_steps = max(0, config.schedule.total_steps - first_step)
    first_example = int(state.num_examples.numpy())
    train_batches = input_pipeline.train_batches(
        strategy, config.data_dir, manifest, config.global_batch_size,
        config.seed, range(first_example, first_example
                           + num_steps * config.global_batch_size))
    eval_batches, num_eval_steps = input_pipeline.eval_batches(
        strategy, config.data_dir, manifest, records.EVAL,
        config.global_batch_size)

    # ---- The loop
    with strategy.scope():
        bert_trainer = trainer.Trainer(
            state, train_batches, trainer.UpdateConfig(
                global_batch_size=config.global_batch_size, dtype=dtype,
                max_gradient_norm=config.adamw.max_gradient_norm,
                seed=config.seed))
        bert_evaluator = evaluator.Evaluator(bert, eval_batches, dtype=dtype)
    progress = telemetry.Progress(
        bert_trainer, config.schedule.total_steps, manifest.seq_length,
        sys.stdout)
    controller = orbit.Controller(
        strategy=strategy,
        global_step=adam.iterations,
        trainer=bert_trainer,
        evaluator=bert_evaluator,
        steps_per_loop=config.steps_per_loop,
        checkpoint_manager=manager,
        summary_dir=f"{model_dir}/logs/train",
        eval_summary_dir=f"{model_dir}/logs/eval",
        train_actions=[progress, _interruptions()],
        eval_actions=[telemetry.EvalLine(bert_trainer, sys.stdout)])
    _announce(config, manifest, bert, strategy, first_step)
    try:
        with input_pipeline.naming_failures(config.data_dir, manifest):
            start, end = _run(config, controller, num_eval_steps)
    except _Interrupted:
        controller.save_checkpoint()
        print(f"Interrupted: step {bert_trainer.step} is saved in "
              f"{model_dir}; run the same command again to go on.")
        return INTERRUPTED_CODE

    # ---- What it reached
    results = {
        "step": bert_trainer.step,
        "start": start,
        "end": end,
        "unigram_entropy": evaluator.unigram_entropy(
            input_pipeline.host_batches(
                config.data_dir, manifest, records.EVAL),
            manifest.vocab_size),
        **progress.summary(),
        "seconds": round(watch.seconds, 3),
        "peak_memory_bytes": telemetry.peak_memory_bytes(),
    }
    files.write_json(f"{model_dir}/{RESULTS_NAME}", results)
    _print_results(model_dir, results)
    return 0


def _check_splits(data_dir, manifest):
    for name in (records.TRAIN, records.EVAL):
        split = manifest.splits.get(name)
        if split is None or not split.num_examples:
            raise errors.UserError(
                f"{data_dir}: the {name} split holds no example; build the "
                "set with more text" + (
                    "." if name == records.TRAIN else
                    " or a larger --eval_fraction."))


def _announce(config, manifest, bert, strategy, first_step):
    num_examples = manifest.splits[records.TRAIN].num_examples
    num_epochs = (config.schedule.total_steps * config.global_batch_size
                  / num_examples)
    bert_config = bert.config
    print(f"{type(bert).__name__}: {bert_config.num_hidden_layers} layers, "
          f"hidden {bert_config.hidden_size}, "
          f"vocabulary {bert_config.vocab_size:,}, "
          f"{bert.num_parameters():,} parameters\n"
          f"{num_examples:,} examples of {manifest.seq_length} tokens, "
          f"{config.global_batch_size} a step on "
          f"{strategy.num_replicas_in_sync} x {config.devices.precision}, "
          f"{config.schedule.total_steps:,} steps = {num_epochs:.1f} epochs"
          + (f"\nresuming at step {first_step:,}" if first_step else ""),
          flush=True)


def _run(config, controller, num_eval_steps):
    """Evaluates, trains, evaluates: (results at the start, at the end)."""
    total_steps = config.schedule.total_steps
    start_path = f"{config.saving.model_dir}/{RESULTS_NAME}"
    # Orbit prints a line of its own for each of ours.
    with contextlib.redirect_stdout(None):
        if controller.global_step.numpy() == 0:
            start = _plain(controller.evaluate(num_eval_steps))
            # Kept at once, for the run that resumes this one.
            files.write_json(start_path, {"step": 0, "start": start})
        else:
            start = _start_of_earlier_run(start_path)
        if controller.global_step.numpy() >= total_steps:
            return start, _plain(controller.evaluate(num_eval_steps))
        return start, _plain(controller.train_and_evaluate(
            train_steps=total_steps, eval_steps=num_eval_steps,
            eval_interval=config.eval_every_steps or None))


def _start_of_earlier_run(path):
    return files.read_json(path)["start"] if tf.io.gfile.exists(path) else None


def _plain(output):
    return {name: float(value) for name, value in output.items()
            if name != "steps_per_second"}


def _interruptions():
    """An `orbit.Action` that ends the run after a loop in which SIGINT came.

    A loop cannot be left in its middle: its step and its weights would be of
    different times.
    """
    is_asked = False

    def ask(signum, frame):
        nonlocal is_asked
        is_asked = True

    signal.signal(signal.SIGINT, ask)

    def act(output):
        if is_asked:
            raise _Interrupted

    return act


def _print_results(model_dir, results):
    start, end = results["start"], results["end"]
    rows = []
    for name, value in end.items():
        before = f"  (at the start {start[name]:.4f})" if start else ""
        rows.append((f"eval {name}", f"{value:.4f}{before}"))
    rows += [
        ("unigram entropy of the labels",
         f"{results['unigram_entropy']:.4f} nats"),
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
