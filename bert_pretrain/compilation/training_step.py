"""The trainer's step, as one replica of a slice gets it.

The code of a real run makes the step, from the options alone: neither records
nor TPUs are needed.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from bert_pretrain.data import records
from bert_pretrain.model import bert_model
from bert_pretrain.pretraining import blueprint, phases, pretraining_config
from bert_pretrain.telemetry import accelerators, console
from bert_pretrain.tpu import absent_tpu, device_program
from bert_pretrain.training import trainer


@dataclasses.dataclass(frozen=True)
class Step:
    """One replica's share of an update, lowered but not compiled."""

    hlo: bytes
    model: str  # a description of its class and size
    variable_bytes: int  # of the model
    optimizer_bytes: int
    useful_flops: float  # as MFU counts them


@dataclasses.dataclass(frozen=True)
class BatchShape:
    """The shape of one replica's batch."""

    num_rows: int
    seq_length: int
    num_predictions: int
    is_packed: bool
    num_microbatches: int  # computed one after the other

    @classmethod
    def of_phase(cls, phase: phases.Phase, num_replicas: int) -> "BatchShape":
        """The shape in a phase of a run."""
        return cls(
            num_rows=phase.global_batch_size // num_replicas,
            seq_length=phase.manifest.seq_length,
            num_predictions=(
                phase.masking or phase.manifest
            ).max_predictions_per_seq,
            is_packed=phase.manifest.is_packed,
            num_microbatches=phase.accumulation_steps,
        )


def lower(
    config: pretraining_config.TrainingConfig,
    plan: list[phases.Phase],
    batch: BatchShape,
    num_replicas: int,
) -> Step:
    """Traces and lowers the trainer's step.

    Args:
      plan: see `blueprint.plan`.
      num_replicas: of the slice; the gradients are summed over them.
    """
    console.quiet_libraries()
    strategy = absent_tpu.AbsentTPUStrategy(num_replicas, only_first=True)
    with strategy.scope():
        state = blueprint.new_state(config, plan)
    bert_trainer = trainer.Trainer(
        strategy,
        state,
        None,
        trainer.update_config(
            config, batch.num_rows * num_replicas, batch.num_microbatches
        ),
    )
    program = device_program.of_run(
        strategy,
        bert_trainer._replica_step,
        (_feature_specs(batch),),
    )
    bert = state.bert
    return Step(
        hlo=program.hlo,
        model=(
            f"{type(bert).__name__}, {bert.config.num_hidden_layers} layers, "
            f"hidden {bert.config.hidden_size}, "
            f"{bert.num_parameters():,} parameters"
        ),
        variable_bytes=num_bytes(bert.variables),
        optimizer_bytes=num_bytes(state.optimizer.variables()),
        useful_flops=batch.num_rows
        * accelerators.flops_per_example(
            bert.config,
            batch.seq_length,
            batch.num_predictions,
            bert_model.has_pairs(bert),
        ),
    )


def num_bytes(variables: Iterable[tf.Variable]) -> int:
    """The memory of variables, without the padding of tiles."""
    return sum(v.shape.num_elements() * v.dtype.size for v in variables)


def _feature_specs(batch: BatchShape) -> dict[str, Any]:
    """The features that the input pipeline gives to a replica."""
    return (
        tf.function(records.parse, autograph=False)
        .get_concrete_function(
            tf.TensorSpec([batch.num_rows], tf.string),
            batch.seq_length,
            batch.num_predictions,
            batch.is_packed,
        )
        .structured_outputs
    )
