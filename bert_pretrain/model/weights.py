"""HuggingFace's weights files: a model's variables <-> safetensors.

Files are written under PyTorch's names and in its layout, as nearly every
checkpoint of the hub is. They are read here and not by TensorFlow's
`from_pretrained`, which in transformers 4.57 fails on exactly those files
("safe_open object is not iterable").
"""

import numpy as np
import safetensors
import safetensors.numpy
from transformers import modeling_tf_pytorch_utils as pytorch_utils

from bert_pretrain import errors

FILE_NAME = "model.safetensors"
# Of BERT's first releases: what PyTorch calls weight and bias.
_OLD_ENDINGS = {".gamma": ".weight", ".beta": ".bias"}


def save(bert, path):
    """Writes the weights of a TensorFlow model as PyTorch's class has them.

    The decoder shares the word embeddings and is not written a second time.
    """
    weights = {}
    for variable in bert.weights:
        name, transposition = pytorch_name(variable.name, variable.shape)
        weights[name] = np.ascontiguousarray(
            pytorch_utils.apply_transpose(
                transposition, variable.numpy(), pt_to_tf=False
            )
        )
    safetensors.numpy.save_file(weights, path, metadata={"format": "pt"})


def load(bert, path):
    """Sets the variables of a model from a file of PyTorch's or TensorFlow's.

    Returns:
      The names of the weights that the file does not hold, such as a head's.

    Raises:
      UserError: if the file cannot be read, or holds other shapes.
    """
    found = _read(path)
    fresh = []
    for variable in bert.weights:
        name, transposition = pytorch_name(variable.name, variable.shape)
        if name not in found:
            fresh.append(name)
            continue
        values = pytorch_utils.apply_transpose(
            transposition, found[name], pt_to_tf=True
        )
        if values.shape != tuple(variable.shape):
            raise errors.UserError(
                f"{path}: {name} has the shape {values.shape}, config.json "
                f"asks for {tuple(variable.shape)}; they are not of one "
                "checkpoint."
            )
        variable.assign(values.astype(np.float32))
    if len(fresh) == len(bert.weights):
        raise errors.UserError(
            f"{path}: holds no weight of a BERT; its first names are "
            f"{', '.join(sorted(found)[:3])}."
        )
    return fresh


def pytorch_name(variable_name, shape):
    """(PyTorch's name of a variable, how its values must be transposed)."""
    return pytorch_utils.convert_tf_weight_name_to_pt_weight_name(
        variable_name, tf_weight_shape=shape
    )


def _read(path):
    """The file's arrays, by PyTorch's current names."""
    with errors.naming(path):
        try:
            with safetensors.safe_open(path, "np") as file:
                is_tensorflow = (file.metadata() or {}).get("format") == "tf"
                weights = {name: file.get_tensor(name) for name in file.keys()}
        except safetensors.SafetensorError as error:
            raise errors.UserError(
                f"{path}: not a safetensors file ({error}); fetch it again."
            ) from error
    if is_tensorflow:
        return dict(_from_tensorflow(weights))
    return {_current_name(name): values for name, values in weights.items()}


def _from_tensorflow(weights):
    for variable_name, values in weights.items():
        # TensorFlow's files leave out the model's own name.
        name, transposition = pytorch_name(
            f"model/{variable_name}", values.shape
        )
        yield (
            name,
            pytorch_utils.apply_transpose(
                transposition, values, pt_to_tf=False
            ),
        )


def _current_name(name):
    for old, new in _OLD_ENDINGS.items():
        if name.endswith(old):
            name = name.removesuffix(old) + new
    # A bare encoder is saved without the name that a model with heads gives.
    if name.startswith(("embeddings.", "encoder.", "pooler.")):
        name = "bert." + name
    return name
