"""Adapters in two files beside one another, without the model they belong to.

    adapter_config.json         the kind, the size, and the base model
    adapter_model.safetensors   the adapters, and the head that they go with

LoRA has the layout of PEFT, which loads it onto the base model. PEFT has no
bottleneck adapters. Theirs is a layout of our own in the same style: the
matrices are called `…output.adapter.{down,up}`, in PyTorch's layout.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf
import transformers

from bert_pretrain import errors, files
from bert_pretrain.interchange import model_folder
from bert_pretrain.model import adapters, heads, model_config, weights

WEIGHTS_NAME = "adapter_model.safetensors"
_PREFIX = "base_model.model."
# PEFT's kinds of tasks, and the modules that replace those of the base model.
# PEFT adds the head of a task itself, but not the pooler.
_TASKS = {
    "BertForSequenceClassification": ("SEQ_CLS", ["classifier", "pooler"]),
    "BertForTokenClassification": ("TOKEN_CLS", ["classifier"]),
    "BertForQuestionAnswering": ("QUESTION_ANS", ["qa_outputs"]),
    "BertModel": ("FEATURE_EXTRACTION", None),
}
# The names of `adapters.TARGETS` in PyTorch's layer.
_MODULES: dict[model_config.Target, str] = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
}


def write(  # noqa: PLR0913 (what the two files say)
    bert: transformers.TFPreTrainedModel,
    added: adapters.Adapters,
    pooling: heads.Pooling,
    architecture: str,
    base_model: str,
    folder: str,
) -> None:
    """Writes adapters and the head beside them.

    Args:
      bert: the model, with its head.
      added: its adapters.
      pooling: see `heads.Pooling`; whether the pooler is a part of the head.
      architecture: PyTorch's class of the base model. Adapters of a
        `BertModel` have names without "bert.".
      base_model: the folder of the base model.
      folder: local, and it exists.
    """
    arrays = {
        **weights.arrays_of(heads.head_variables(bert, pooling)),
        **{name: v.numpy().T for name, v in _named(bert, added)},
    }
    if architecture == "BertModel":
        arrays = {n.removeprefix("bert."): array for n, array in arrays.items()}
    weights.save_arrays(
        {_PREFIX + name: array for name, array in arrays.items()},
        f"{folder}/{WEIGHTS_NAME}",
    )
    files.write_json(
        f"{folder}/{model_folder.ADAPTER_CONFIG_NAME}",
        _to_json(added.config, architecture, base_model),
    )


def read(
    folder: str, bert: transformers.TFPreTrainedModel, pooling: heads.Pooling
) -> adapters.Adapters:
    """Reads adapters, and sets the head of the model that they belong to.

    Args:
      folder: local or gs://.
      bert: the base model with a head of the right size.
      pooling: see `write`.

    Raises:
      UserError: if the files are not adapters of such a model.
    """
    path = f"{folder}/{WEIGHTS_NAME}"
    arrays = {
        _full_name(name.removeprefix(_PREFIX)): array
        for name, array in weights.read([path]).items()
    }
    config = _from_json(
        f"{folder}/{model_folder.ADAPTER_CONFIG_NAME}", list(arrays)
    )
    added = adapters.build(bert, config, seed=0)
    for name, variable in _named(bert, added):
        if name not in arrays or arrays[name].T.shape != variable.shape:
            found = arrays[name].shape if name in arrays else "nothing"
            raise errors.UserError(
                f"{path}: expected {name} of the shape "
                f"{tuple(variable.shape[::-1])}, found {found}; the base model "
                "is another one, or the files are of different adapters."
            )
        variable.assign(arrays[name].T)
    head = heads.head_variables(bert, pooling)
    if head and (missing := weights.assign(head, arrays, path)):
        raise errors.UserError(
            f"{path}: lacks {', '.join(missing)} of the head; save the adapter "
            "with its head."
        )
    return added


def base_model_of(folder: str) -> str:
    """The folder of the model that the adapters in a folder belong to.

    Raises:
      UserError: if the file of adapters does not say it.
    """
    path = f"{folder}/{model_folder.ADAPTER_CONFIG_NAME}"
    base_model = _read_config(path).get("base_model_name_or_path")
    if not base_model or not isinstance(base_model, str):
        raise errors.UserError(
            f"{path}: base_model_name_or_path is {base_model!r}; write there "
            "the folder of the model that the adapters were trained on."
        )
    return base_model


def _to_json(
    config: model_config.AdapterConfig, architecture: str, base_model: str
) -> dict[str, Any]:
    if config.adapter == "bottleneck":
        return {
            "base_model_name_or_path": base_model,
            "bottleneck_size": config.bottleneck_size,
            "peft_type": "BOTTLENECK",
        }
    task_type, modules_to_save = _TASKS[architecture]
    modules = "|".join(
        re.escape(_MODULES[target]) for target in config.lora_targets
    )
    return {
        "base_model_name_or_path": base_model,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": 0.0,
        "modules_to_save": modules_to_save,
        "peft_type": "LORA",
        "r": config.lora_rank,
        # A list would match by the ends of names, and output.dense is also the
        # end of attention.output.dense.
        "target_modules": rf".*layer\.\d+\.({modules})",
        "task_type": task_type,
    }


def _from_json(path: str, names: list[str]) -> model_config.AdapterConfig:
    values = _read_config(path)
    kind = values.get("peft_type")
    try:
        if kind == "BOTTLENECK":
            return model_config.AdapterConfig(
                adapter="bottleneck",
                bottleneck_size=_number(values, "bottleneck_size", int),
            )
        if kind == "LORA":
            for name in ("use_rslora", "use_dora", "fan_in_fan_out"):
                if values.get(name):
                    raise errors.UserError(f"{name} is not supported.")
            return model_config.AdapterConfig(
                adapter="lora",
                lora_rank=_number(values, "r", int),
                lora_alpha=_number(values, "lora_alpha", float),
                lora_targets=tuple(
                    target
                    for target, module in _MODULES.items()
                    if f"bert.encoder.layer.0.{module}.lora_A.weight" in names
                ),
            )
        raise errors.UserError(
            f"peft_type is {kind!r}, and only 'LORA' and 'BOTTLENECK' are "
            "supported."
        )
    except errors.UserError as error:
        raise errors.UserError(f"{path}: {error}") from error


def _read_config(path: str) -> Mapping[str, Any]:
    values = files.read_json(path)
    if not isinstance(values, dict):
        raise errors.UserError(f"{path}: expected one JSON object.")
    return values


def _number(values: Mapping[str, Any], name: str, kind: type) -> Any:
    value = values.get(name)
    if type(value) not in (int, kind):
        raise errors.UserError(f"{name} is {value!r}, expected a number.")
    return value


def _full_name(name: str) -> str:
    """A name of an encoder without heads, as if it had one."""
    return f"bert.{name}" if name.startswith("encoder.") else name


def _named(
    bert: transformers.TFPreTrainedModel, added: adapters.Adapters
) -> Iterator[tuple[str, tf.Variable]]:
    """The variables of adapters with their names.

    PyTorch's matrices are ours, transposed.
    """
    for kernel, change in adapters.kernels(bert, added):
        name, _ = weights.pytorch_name(kernel.name, kernel.shape)
        module = name.removesuffix(".weight")
        yield f"{module}.lora_A.weight", change.a_XR
        yield f"{module}.lora_B.weight", change.b_RY
    for number, bottleneck in enumerate(added.bottlenecks):
        module = f"bert.encoder.layer.{number}.output.adapter"
        yield f"{module}.down.weight", bottleneck.down_HM
        yield f"{module}.down.bias", bottleneck.down_bias_M
        yield f"{module}.up.weight", bottleneck.up_MH
        yield f"{module}.up.bias", bottleneck.up_bias_H
