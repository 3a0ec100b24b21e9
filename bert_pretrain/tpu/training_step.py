"""The trainer's step, as one replica of a slice is given it.

Made by the code that a run is made by, of the recipe alone: neither records
nor TPUs are asked for.
"""

import dataclasses

import tensorflow as tf

from bert_pretrain import flops, model, recipe, records, telemetry, trainer
from bert_pretrain.tpu import absent_tpu, device_program


@dataclasses.dataclass(frozen=True)
class Step:
    """A replica's part of an update, not compiled yet."""

    hlo: bytes
    model: str  # its class and size, in words
    variable_bytes: int  # of the model
    optimizer_bytes: int
    useful_flops: float  # as the MFU counts them


def lower(config: recipe.Config, plan: list, phase, num_replicas: int) -> Step:
    """Traces and lowers the step of a phase.

    Args:
      plan: see `recipe.plan`.
      num_replicas: of the slice, over which the gradients are summed.
    """
    telemetry.quiet_libraries()
    strategy = absent_tpu.AbsentTPUStrategy(num_replicas, only_first=True)
    with strategy.scope():
        state = recipe.new_state(config, plan)
    bert_trainer = trainer.Trainer(
        strategy, state, None, recipe.update_config(config, phase)
    )
    num_rows = phase.global_batch_size // num_replicas
    num_predictions = (phase.masking or phase.manifest).max_predictions_per_seq
    program = device_program.of_run(
        strategy,
        bert_trainer._replica_step,
        (_batch_spec(phase.manifest, num_rows, num_predictions),),
    )
    bert = state.bert
    return Step(
        hlo=program.hlo,
        model=(
            f"{type(bert).__name__}, {bert.config.num_hidden_layers} layers, "
            f"hidden {bert.config.hidden_size}, "
            f"{bert.num_parameters():,} parameters"
        ),
        variable_bytes=_num_bytes(bert.variables),
        optimizer_bytes=_num_bytes(state.adam.variables()),
        useful_flops=num_rows
        * flops.per_example(
            bert.config,
            phase.manifest.seq_length,
            num_predictions,
            model.has_pairs(bert),
        ),
    )


def _batch_spec(manifest, num_rows, num_predictions):
    """What the input pipeline gives to a replica."""
    return (
        tf.function(records.parse)
        .get_concrete_function(
            tf.TensorSpec([num_rows], tf.string),
            manifest.seq_length,
            num_predictions,
            manifest.is_packed,
        )
        .structured_outputs
    )


def _num_bytes(variables):
    return sum(v.shape.num_elements() * v.dtype.size for v in variables)
