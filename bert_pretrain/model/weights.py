"""HuggingFace's weights files: writes safetensors, reads those and PyTorch's.

Files are written with PyTorch's names and layout, like nearly all checkpoints
on the HuggingFace hub. This module reads them itself, because TensorFlow's
`from_pretrained` in transformers 4.57 fails on such files ("safe_open object
is not iterable").
"""

import pickle
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import safetensors
import safetensors.numpy
import tensorflow as tf
import transformers
from transformers import modeling_tf_pytorch_utils as pytorch_utils

from bert_pretrain import errors, file_errors, files

FILE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
H5_NAME = transformers.TF2_WEIGHTS_NAME  # tf_model.h5
PYTORCH_NAME = transformers.WEIGHTS_NAME  # pytorch_model.bin
_SHARD = re.compile(r"[\w-]+\.safetensors")
# The first releases of BERT have these endings for weight and bias.
_OLD_ENDINGS = {".gamma": ".weight", ".beta": ".bias"}


def save(bert: transformers.TFPreTrainedModel, path: str) -> None:
    """Writes the weights of a TensorFlow model for PyTorch's class.

    The decoder shares the word embeddings, so the file holds them only once.
    """
    save_arrays(arrays_of(bert.weights), path)


def save_arrays(arrays: Mapping[str, np.ndarray], path: str) -> None:
    """Writes arrays that have PyTorch's names and layout, as `arrays_of`."""
    safetensors.numpy.save_file(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
        path,
        metadata={"format": "pt"},
    )


def arrays_of(variables: Iterable[tf.Variable]) -> dict[str, np.ndarray]:
    """The values of a model's variables with PyTorch's names and layout."""
    arrays = {}
    for variable in variables:
        name, transposition = pytorch_name(variable.name, variable.shape)
        arrays[name] = pytorch_utils.apply_transpose(
            transposition, variable.numpy(), pt_to_tf=False
        )
    return arrays


def files_in(folder: str) -> list[str]:
    """Paths of a checkpoint's weights: one file, or several shards.

    Returns:
      Safetensors, or PyTorch's file if there are none. An empty list if the
      folder has neither, or has weights that TensorFlow wrote.

    Raises:
      UserError: if the index of the shards is not one.
    """
    index = f"{folder}/{INDEX_NAME}"
    with file_errors.naming(folder):
        if tf.io.gfile.exists(f"{folder}/{FILE_NAME}"):
            return [f"{folder}/{FILE_NAME}"]
        if not tf.io.gfile.exists(index):
            is_needed = not tf.io.gfile.exists(f"{folder}/{H5_NAME}")
            path = f"{folder}/{PYTORCH_NAME}"
            return [path] if is_needed and tf.io.gfile.exists(path) else []
    try:
        names = sorted(set(files.read_json(index)["weight_map"].values()))
        is_index = bool(names) and all(map(_SHARD.fullmatch, names))
    except (AttributeError, KeyError, TypeError):
        is_index = False
    if not is_index:
        raise errors.UserError(
            f"{index}: this is no index of safetensors files in its folder; "
            "download it again."
        )
    return [f"{folder}/{name}" for name in names]


def load(
    bert: transformers.TFPreTrainedModel, paths: Sequence[str]
) -> list[str]:
    """Sets a model's variables from files that PyTorch or TensorFlow wrote.

    Args:
      bert: the model.
      paths: the files of one checkpoint, see `files_in`.

    Returns:
      The names of weights that are missing in the file, such as a head's.
      Their variables do not change.

    Raises:
      UserError: if the file cannot be read, has weights of other shapes or
        values that are not finite, or has no weights of this model.
    """
    place = paths[0] if len(paths) == 1 else paths[0].rpartition("/")[0]
    return assign(bert.weights, read(paths), place)


def assign(
    variables: Sequence[tf.Variable],
    arrays: Mapping[str, np.ndarray],
    place: str,
) -> list[str]:
    """Sets variables from arrays with PyTorch's names and layout.

    Args:
      variables: of one model, or of a part of it.
      arrays: as from `read` or `arrays_of`; others than those of the variables
        are ignored.
      place: where the arrays are from, for messages.

    Returns:
      The names of variables without an array, which do not change.

    Raises:
      UserError: see `load`.
    """
    missing = []
    for variable in variables:
        name, transposition = pytorch_name(variable.name, variable.shape)
        if name not in arrays:
            missing.append(name)
            continue
        values = pytorch_utils.apply_transpose(
            transposition, arrays[name], pt_to_tf=True
        )
        if values.shape != tuple(variable.shape):
            raise errors.UserError(
                f"{place}: {name} has the shape {values.shape}, but "
                f"config.json requires {tuple(variable.shape)}; use a "
                "config.json and weights of the same checkpoint."
            )
        values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise errors.UserError(
                f"{place}: {name} holds values that are not finite; use "
                "another checkpoint."
            )
        variable.assign(values)
    if len(missing) == len(variables):
        raise errors.UserError(
            f"{place}: the file holds no weight of a BERT; its first names "
            f"are {', '.join(sorted(arrays)[:3])}."
        )
    return missing


def read(paths: Sequence[str]) -> dict[str, np.ndarray]:
    """Reads files of weights, under PyTorch's current names.

    Raises:
      UserError: if a file is none, or cannot be read.
    """
    arrays: dict[str, np.ndarray] = {}
    for path in paths:
        arrays |= _read(path)
    return arrays


def _read(path: str) -> dict[str, np.ndarray]:
    if path.endswith(PYTORCH_NAME):
        arrays = _read_pytorch(path)
        return {_current_name(name): values for name, values in arrays.items()}
    with file_errors.naming(path):
        try:
            with safetensors.safe_open(path, "np") as file:
                is_tensorflow = (file.metadata() or {}).get("format") == "tf"
                arrays = {name: file.get_tensor(name) for name in file.keys()}
        except safetensors.SafetensorError as error:
            raise errors.UserError(
                f"{path}: not a safetensors file ({error}); download it again."
            ) from error
    if is_tensorflow:
        return dict(_from_tensorflow(arrays))
    return {_current_name(name): values for name, values in arrays.items()}


def _read_pytorch(path: str) -> dict[str, np.ndarray]:
    """Reads a file of PyTorch's, of which only tensors are loaded."""
    remedy = f"save the weights as {FILE_NAME}"
    try:
        import torch
    except ImportError as error:
        raise errors.UserError(
            f"{path} is read by PyTorch, which is not installed; install "
            f"torch, or {remedy}."
        ) from error
    with file_errors.naming(path):
        try:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
            return {
                name: tensor.float().numpy()
                for name, tensor in tensors.items()
                # Older files hold the numbers of the positions.
                if tensor.is_floating_point()
            }
        except (
            AttributeError,
            EOFError,
            RuntimeError,
            pickle.UnpicklingError,
        ) as error:
            reason = str(error).strip().splitlines()[0]
            raise errors.UserError(
                f"{path}: PyTorch cannot read the weights ({reason}); {remedy}."
            ) from error


def are_finite(bert: transformers.TFPreTrainedModel) -> bool:
    """Whether no weight is NaN or infinite."""
    return all(np.isfinite(variable.numpy()).all() for variable in bert.weights)


def pytorch_name(
    variable_name: str, shape: tf.TensorShape | tuple[int, ...]
) -> tuple[str, pytorch_utils.TransposeType]:
    """(PyTorch's name of a variable, the transposition of its values)."""
    return pytorch_utils.convert_tf_weight_name_to_pt_weight_name(
        variable_name, tf_weight_shape=shape
    )


def _from_tensorflow(
    arrays: Mapping[str, np.ndarray],
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields arrays with PyTorch's names and layout."""
    for variable_name, values in arrays.items():
        # Names in TensorFlow's files lack the name of the model.
        name, transposition = pytorch_name(
            f"model/{variable_name}", values.shape
        )
        yield (
            name,
            pytorch_utils.apply_transpose(
                transposition, values, pt_to_tf=False
            ),
        )


def _current_name(name: str) -> str:
    """PyTorch's present name of a weight."""
    for old, new in _OLD_ENDINGS.items():
        if name.endswith(old):
            name = name.removesuffix(old) + new
    # Checkpoints of an encoder without heads lack the prefix.
    if name.startswith(("embeddings.", "encoder.", "pooler.")):
        name = "bert." + name
    return name
