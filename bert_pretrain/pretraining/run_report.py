"""What a run reports: where it begins, and what it has reached."""

import dataclasses
import math
from collections.abc import Sequence

import tensorflow as tf
import transformers

from bert_pretrain.data import input_pipeline, records
from bert_pretrain.evaluation import evaluator
from bert_pretrain.kernels import attention_kernel
from bert_pretrain.pretraining import phases, pretraining_config
from bert_pretrain.telemetry import (
    console,
    memory,
    metrics_log,
    train_progress,
)
from bert_pretrain.training import train_state, training_loop


def announce(
    config: pretraining_config.TrainingConfig,
    plan: Sequence[phases.Phase],
    state: train_state.TrainState,
    strategy: tf.distribute.Strategy,
) -> None:
    """Prints what is trained, on what, and where it begins."""
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


def _announce_attention(
    bert_config: transformers.BertConfig, plan: Sequence[phases.Phase]
) -> None:
    """Says where a TPU computes attention without the kernel."""
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """What a run has reached, and how fast; train_results.json holds it."""

    step: int
    start: dict[str, float] | None  # evaluation before the first step
    end: dict[str, float]  # evaluation after the last step
    unigram_entropy: float  # nats, of the held-out labels' own frequencies
    num_examples: int  # consumed by the whole run
    num_predictions: int  # masked tokens that the whole run learned from
    # Of this process alone; the rates leave out loops that compiled.
    train_seconds: float
    examples_per_second: float
    tokens_per_second: float
    tokens_per_second_without_padding: float
    input_wait_share: float
    seconds: float
    peak_memory_bytes: int


def make_results(
    outcome: training_loop.Outcome,
    last_phase: phases.Phase,
    watch: console.Stopwatch,
) -> Results:
    """Collects the results at the end of a run."""
    state = outcome.state
    held_out = input_pipeline.host_batches(
        last_phase.data_dir, last_phase.manifest, records.EVAL
    )
    return Results(
        step=state.step,
        start=_evaluation_at_the_start(outcome.log),
        end=outcome.evaluation,
        unigram_entropy=evaluator.unigram_entropy(
            held_out, last_phase.manifest.vocab_size
        ),
        num_examples=int(state.num_examples.numpy()),
        num_predictions=int(state.num_predictions.numpy()),
        **train_progress.summarize(outcome.totals),
        seconds=round(watch.seconds, 3),
        peak_memory_bytes=memory.peak_memory_bytes(),
    )


def _evaluation_at_the_start(
    log: metrics_log.MetricsLog,
) -> dict[str, float] | None:
    """The evaluation before the first step, if it is still in the log."""
    for record in log.records:
        if record["kind"] == "eval" and not record["num_examples"]:
            return {
                name: math.nan if value is None else value
                for name, value in record.items()
                if name not in ("kind", "step", "num_examples")
            }
    return None
