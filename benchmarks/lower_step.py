"""Lowers the trainer's step for a machine that has only jax.

    python benchmarks/lower_step.py --output=FOLDER

accelerator_step.py runs it there. The step is the TPU's in its plain form,
which every XLA compiler takes. It is written as StableHLO, with a description.
"""

import dataclasses
import itertools
import json
import os
from typing import Any, Literal

import accelerator_step
import numpy as np
import tensorflow as tf
import transformers
from jaxlib import xla_client

from bert_pretrain import command_line, errors, options
from bert_pretrain.kernels import attention_kernel
from bert_pretrain.model import bert_model, config_json, objectives
from bert_pretrain.telemetry import accelerators
from bert_pretrain.tpu import absent_tpu, device_program, stablehlo
from bert_pretrain.training import (
    optimizer,
    schedule,
    train_state,
    trainer,
    training_config,
)

# jax's names of TPUs, by the names in accelerators.py.
_JAX_TPUS = {
    "TPU v2": "TPU v2",
    "TPU v3": "TPU v3",
    "TPU v4": "TPU v4",
    "TPU v5e": "TPU v5 lite|TPU v5e",
    "TPU v5p": "TPU v5|TPU v5p",
    "TPU v6e": "TPU v6 lite|TPU v6e",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LowerConfig(options.Options):
    """The step."""

    output: str = options.option("Folder to write.")
    model_size: Literal["tiny", "mini", "small", "medium", "base", "large"] = (
        options.option("Google's sizes, as for training.", "base")
    )
    seq_length: tuple[int, ...] = options.option(
        "Tokens per row.", (128, 512), at_least=8, at_most=512
    )
    tokens: int = options.option(
        "Tokens per step, including padding; fewer for a small device.",
        16384,
        at_least=8,
    )
    precision: Literal["bfloat16", "float32"] = options.option(
        "Of the matrix products.", "bfloat16"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens < max(self.seq_length):
            raise errors.UserError(
                f"--tokens={self.tokens} must be at least the length of a row, "
                f"{max(self.seq_length)}."
            )


def main(config: LowerConfig) -> None:
    """Writes the steps for all kinds of rows, with a description."""
    folder = config.output
    strategy = absent_tpu.AbsentTPUStrategy(1)
    with strategy.scope():
        state = _new_state(config.model_size)
    bert_config = state.bert.config
    os.makedirs(folder, exist_ok=True)
    programs = {}
    for seq_length, is_packed in itertools.product(
        config.seq_length, (False, True)
    ):
        rows = {
            "num_rows": config.tokens // seq_length,
            "seq_length": seq_length,
            "num_predictions": seq_length * 20 // 128,
            "vocab_size": bert_config.vocab_size,
            "is_packed": is_packed,
        }
        name = f"{seq_length}-{'packed' if is_packed else 'padded'}"
        path = f"{folder}/{name}.stablehlo"
        programs[name] = _lower_program(
            strategy, state, rows, config.precision, path
        )
        print(f"{path}: {os.path.getsize(path) / 1e6:.1f} MB", flush=True)
    description = {
        "size": config.model_size,
        "bert_config": {
            name: getattr(bert_config, name)
            for name in (
                "vocab_size",
                "num_hidden_layers",
                "hidden_size",
                "num_attention_heads",
                "intermediate_size",
            )
        },
        "precision": config.precision,
        "peaks": _peaks(config.precision),
        "programs": programs,
    }
    with open(f"{folder}/{accelerator_step.DESCRIPTION_NAME}", "w") as file:
        json.dump(description, file, indent=1)


def _new_state(size: str) -> train_state.TrainState:
    num_layers, hidden_size = config_json.SIZES[size]
    bert = bert_model.from_config(
        transformers.BertConfig(
            num_hidden_layers=num_layers,
            hidden_size=hidden_size,
            num_attention_heads=hidden_size // 64,
            intermediate_size=4 * hidden_size,
            architectures=["BertForMaskedLM"],
        )
    )
    # The peer's learning rate is constant, too.
    rate = schedule.Schedule(
        training_config.ScheduleConfig(
            total_steps=10**6,
            schedule="constant",
            warmup_steps=0,
            peak_learning_rate=accelerator_step.LEARNING_RATE,
        )
    )
    return train_state.new_state(
        objectives.Pretraining(bert),
        optimizer.build(
            training_config.OptimizerConfig(), rate, bert.trainable_variables
        ),
    )


def _lower_program(
    strategy: tf.distribute.TPUStrategy,
    state: train_state.TrainState,
    rows: accelerator_step.Rows,
    precision: str,
    path: str,
) -> dict[str, Any]:
    """Writes the step for some rows to a file.

    Returns:
      The description of the step.
    """
    bert_trainer = trainer.Trainer(
        strategy,
        state,
        None,
        trainer.UpdateConfig(
            global_batch_size=rows["num_rows"],
            dtype=tf.as_dtype(precision),
            max_gradient_norm=1.0,
            seed=0,
        ),
    )
    flops = accelerators.flops_per_example(
        state.bert.config, rows["seq_length"], rows["num_predictions"], False
    )
    return {
        "rows": rows,
        "flops_per_row": flops,
        **_lower_step(strategy, bert_trainer, rows, path),
    }


def _lower_step(
    strategy: tf.distribute.TPUStrategy,
    bert_trainer: trainer.Trainer,
    rows: accelerator_step.Rows,
    path: str,
) -> dict[str, Any]:
    """Writes the program to a file.

    Returns:
      The description of its parameters and results.
    """
    features = {
        name: tf.TensorSpec(values.shape, values.dtype)
        for name, values in accelerator_step.draw_batch(
            rows, np.random.default_rng()
        ).items()
    }
    with attention_kernel.form("plain"):
        program = device_program.of_run(
            strategy, bert_trainer._replica_step, (features,), with_values=True
        )
    with open(path, "wb") as file:
        file.write(stablehlo.portable(program.hlo))
    names = sorted(features)  # the order of the tensors in a call
    parameters: list[dict[str, Any]] = []
    places = {}
    for i, source in enumerate(program.parameters):
        match source:
            case device_program.Variable(variable):
                places[id(variable)] = i
                parameters.append(_describe_variable(variable, bert_trainer))
            case device_program.Argument((place,)):
                parameters.append({"feature": names[place]})
            case device_program.Constant((value,)):
                parameters.append({"constant": value.tolist()})
    shapes = xla_client.XlaComputation(program.hlo).program_shape()
    for parameter, shape in zip(
        parameters, shapes.parameter_shapes(), strict=True
    ):
        parameter |= _describe_shape(shape)
    return {
        "parameters": parameters,
        "results": [
            _describe_shape(shape)
            for shape in shapes.result_shape().tuple_shapes()
        ],
        # Numbers of the parameters that the first results are in the next
        # step.
        "next": [places[id(variable)] for variable in program.variables],
    }


def _describe_variable(
    variable: tf.Variable, bert_trainer: trainer.Trainer
) -> dict[str, Any]:
    """The name of a variable, and the distribution of its initial value."""
    values = variable.numpy()
    if (values == values.flat[0]).all():
        initial = {"mean": float(values.flat[0]), "deviation": 0.0}
    else:
        deviation = bert_trainer.state.bert.config.initializer_range
        initial = {"mean": 0.0, "deviation": deviation}
    return {"variable": variable.name, **initial}


def _describe_shape(shape: xla_client.Shape) -> dict[str, Any]:
    return {
        "shape": list(shape.dimensions()),
        "dtype": np.dtype(shape.element_type()).name,
    }


def _peaks(precision: str) -> dict[str, float]:
    """FLOP/s of devices, by a pattern of jax's name for the device."""
    kinds: list[tuple[str, accelerators.Accelerator]] = [
        *((kind.pattern, kind) for kind in accelerators.GPUS),
        *((f"^({_JAX_TPUS[kind.name]})$", kind) for kind in accelerators.TPUS),
    ]
    return {
        pattern: flops / kind.replicas_per_chip
        for pattern, kind in kinds
        if (flops := getattr(kind, precision)) is not None
    }


if __name__ == "__main__":
    command_line.run(main, LowerConfig)
