"""The trainer's step, as one replica of a slice is given it.

Made by the code that a run is made by, of the recipe alone: neither records
nor TPUs are asked for.
"""

import dataclasses

import tensorflow as tf

from bert_pretrain.data import records
from bert_pretrain.model import bert_model
from bert_pretrain.telemetry import console, mfu
from bert_pretrain.tpu import absent_tpu, device_program
from bert_pretrain.training import phases, trainer, training_config


@dataclasses.dataclass(frozen=True)
class Step:
    """A replica's part of an update, not compiled yet."""

    hlo: bytes
    model: str  # its class and size, in words
    variable_bytes: int  # of the model
    optimizer_bytes: int
    useful_flops: float  # as the MFU counts them


@dataclasses.dataclass(frozen=True)
class Rows:
    """What a replica computes in a step."""

    num_rows: int
    seq_length: int
    num_predictions: int
    is_packed: bool
    num_parts: int  # one after the other

    @classmethod
    def of_phase(cls, phase: phases.Phase, num_replicas: int) -> "Rows":
        return cls(
            num_rows=phase.global_batch_size // num_replicas,
            seq_length=phase.manifest.seq_length,
            num_predictions=(
                phase.masking or phase.manifest
            ).max_predictions_per_seq,
            is_packed=phase.manifest.is_packed,
            num_parts=phase.accumulation_steps,
        )


def lower(
    config: training_config.TrainingConfig,
    plan: list,
    rows: Rows,
    num_replicas: int,
) -> Step:
    """Traces and lowers the trainer's step.

    Args:
      plan: see `training_config.plan`.
      num_replicas: of the slice, over which the gradients are summed.
    """
    console.quiet_libraries()
    strategy = absent_tpu.AbsentTPUStrategy(num_replicas, only_first=True)
    with strategy.scope():
        state = training_config.new_state(config, plan)
    bert_trainer = trainer.Trainer(
        strategy,
        state,
        None,
        training_config.update_config(
            config, rows.num_rows * num_replicas, rows.num_parts
        ),
    )
    program = device_program.of_run(
        strategy,
        bert_trainer._replica_step,
        (_batch_spec(rows),),
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
        optimizer_bytes=num_bytes(state.adam.variables()),
        useful_flops=rows.num_rows
        * mfu.flops_per_example(
            bert.config,
            rows.seq_length,
            rows.num_predictions,
            bert_model.has_pairs(bert),
        ),
    )


def _batch_spec(rows):
    """What the input pipeline gives to a replica."""
    return (
        tf.function(records.parse)
        .get_concrete_function(
            tf.TensorSpec([rows.num_rows], tf.string),
            rows.seq_length,
            rows.num_predictions,
            rows.is_packed,
        )
        .structured_outputs
    )


def num_bytes(variables: list) -> int:
    return sum(v.shape.num_elements() * v.dtype.size for v in variables)
