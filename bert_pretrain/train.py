"""Trains a BERT on a set of masked records; run again, it resumes.

python -m bert_pretrain.train --data_dir=… --model_dir=… --total_steps=…

Exit codes:
    0    the run is complete
    2    a mistake in the options or the files, told in one line
    3    updates failed again and again; what to look at is told
    75   SIGTERM: the loop in flight was finished and saved; start me again
    130  SIGINT: likewise, but somebody wanted it to end
"""

import sys

import tensorflow as tf

from bert_pretrain import distribution, files, locks, options
from bert_pretrain.checkpoints import checkpoint_saver, model_directory
from bert_pretrain.data import input_pipeline, records
from bert_pretrain.model import attention_kernel, bert_model
from bert_pretrain.telemetry import (
    console,
    memory,
    metrics_log,
    train_progress,
    wandb_log,
)
from bert_pretrain.training import (
    evaluator,
    interruption,
    phases,
    program,
    recovery,
    training_config,
)


def train(config):
    """Trains to `total_steps`, resuming if `model_dir` holds a checkpoint.

    Returns:
      The process's exit code.
    """
    model_dir = config.saving.model_dir
    try:
        with interruption.watching() as raise_if_asked:
            with locks.locked(model_dir):
                _train(config, raise_if_asked)
    except interruption.Interrupted as interrupted:
        return interrupted.code
    except recovery.Diverged as diverged:
        print(f"error: {diverged}", file=sys.stderr)
        return recovery.DIVERGED_CODE
    return 0


def _train(config, raise_if_asked):
    """Trains, and raises if it does not come to the end."""
    watch = console.Stopwatch()
    console.quiet_libraries()
    plan = training_config.plan(config)
    manifest = training_config.longest(plan)
    strategy = distribution.build_strategy(config.devices)
    _prepare(config, plan, manifest, strategy)
    files.remove_temporary_files(config.saving.model_dir)
    with strategy.scope():
        state = training_config.new_state(config, plan)
        saver = checkpoint_saver.Saver(config.saving, state)
        is_restored = saver.restore()
    model_dir = config.saving.model_dir
    with wandb_log.following(
        config.tracking, model_dir, options.to_dict(config)
    ) as follow:
        log = metrics_log.MetricsLog(
            f"{model_dir}/{model_directory.LOG_NAME}", state, follow
        )
        log.resume(is_restored)
        # Until this process, too, has come to the end.
        files.remove(f"{model_dir}/{model_directory.TRAIN_RESULTS_NAME}")
        _announce(config, plan, state, strategy)
        outcome = program.Program(
            config, plan, strategy, state, saver, log
        ).run(is_restored, raise_if_asked)
    saver.close()
    results = {
        **_results(state, outcome, _at_the_start(log)),
        "seconds": round(watch.seconds, 3),
        "peak_memory_bytes": memory.peak_memory_bytes(),
    }
    files.write_json(
        f"{model_dir}/{model_directory.TRAIN_RESULTS_NAME}", results
    )
    _print_results(model_dir, results)


def _prepare(config, plan, manifest, strategy):
    """Checks that all fits together, and writes down what is asked."""
    bert_config = bert_model.architecture(config.architecture, manifest)
    for phase in plan:
        distribution.check_batch(
            phase.global_batch_size,
            strategy.num_replicas_in_sync,
            phase.accumulation_steps,
        )
    model_directory.prepare(
        training_config.TrainingConfig,
        options.to_dict(config)
        | {model_directory.PHASES_NAME: phases.describe(plan)},
        bert_config,
        config.data_dir,
    )


def _announce(config, plan, state, strategy):
    bert = state.bert
    print(
        f"{type(bert).__name__}: {bert.config.num_hidden_layers} layers, "
        f"hidden {bert.config.hidden_size}, "
        f"vocabulary {bert.config.vocab_size:,}, "
        f"{bert.num_parameters():,} parameters, on "
        f"{strategy.num_replicas_in_sync} x {config.devices.precision}"
    )
    if isinstance(strategy, tf.distribute.TPUStrategy):
        _announce_attention(bert.config, plan)
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


def _announce_attention(bert_config, plan):
    """Says where a TPU computes attention without its kernel."""
    heads = bert_config.num_attention_heads
    for seq_length in sorted({phase.manifest.seq_length for phase in plan}):
        obstacle = attention_kernel.obstacle(
            seq_length, heads, bert_config.hidden_size // heads
        )
        if obstacle:
            print(
                f"rows of {seq_length}: plain attention, which takes more "
                f"memory, since {obstacle}."
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
        **train_progress.summarize(outcome.totals),
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
        ("time", console.format_duration(results["seconds"])),
        ("examples/s", f"{results['examples_per_second']:,.1f}"),
        ("tokens/s", f"{results['tokens_per_second']:,.0f}"),
        ("peak memory", f"{results['peak_memory_bytes'] / 1e9:.2f} GB"),
        ("model directory", model_dir),
    ]
    console.print_table("Training is complete", rows, sys.stdout)


if __name__ == "__main__":
    options.run(train, training_config.TrainingConfig)
