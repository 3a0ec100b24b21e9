"""A pretrained encoder, of our own run or of any HuggingFace BERT.

Its weights go under a new head, see `with_head`. They are read once, however
many models begin with them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
import transformers

from bert_pretrain import errors, file_errors, files
from bert_pretrain.checkpoints import model_directory, trained_model
from bert_pretrain.data import vocabulary
from bert_pretrain.model import bert_model, config_json, weights

_TOKENIZER_CONFIG_NAME = "tokenizer_config.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrained:
    """The architecture, the vocabulary and the weights of an encoder."""

    folder: str
    config: transformers.BertConfig  # without a head
    vocabulary: vocabulary.Vocabulary
    num_trained_positions: int  # see `TrainedModel`
    arrays: Mapping[str, np.ndarray]  # by PyTorch's names; empty: random


def read(folder: str, with_weights: bool = True) -> Pretrained:
    """Reads a pretrained encoder.

    Args:
      folder: the model directory of a run, whose newest checkpoint is read, or
        a HuggingFace folder: an export, or any other BERT.
      with_weights: False for the architecture and the vocabulary alone; then
        the folder needs no weights, and models begin at random.

    Raises:
      UserError: if it is no BERT that we compute, or its vocabulary does not
        fit, or a file is missing.
    """
    config = config_json.read(f"{folder}/{config_json.NAME}")
    vocab = vocabulary.read(f"{folder}/{vocabulary.FILE_NAME}")
    if vocab.size > config.vocab_size:
        raise errors.UserError(
            f"{folder}/{vocabulary.FILE_NAME} has {vocab.size} tokens, but "
            f"{config_json.NAME} beside it says vocab_size="
            f"{config.vocab_size}; use files of the same checkpoint."
        )
    num_positions = config.max_position_embeddings
    arrays: Mapping[str, np.ndarray] = {}
    if with_weights and _is_run(folder):
        model = trained_model.restore(folder)
        num_positions = min(num_positions, model.num_trained_positions)
        arrays = weights.arrays_of(model.bert.weights)
    elif with_weights:
        num_positions = min(num_positions, _longest_text(folder))
        arrays = _read_arrays(folder, config)
    return Pretrained(
        folder=folder,
        config=config,
        vocabulary=vocab,
        num_trained_positions=num_positions,
        arrays=arrays,
    )


def with_head(
    encoder: Pretrained, bert_config: transformers.BertConfig, seed: int
) -> transformers.TFPreTrainedModel:
    """Builds the class in `architectures` on top of a pretrained encoder.

    The head begins at random, and so does a pooler that was not pretrained.

    Args:
      encoder: from `read`.
      bert_config: its architecture, with that of the head.
      seed: of the random weights.

    Raises:
      UserError: if the weights do not fit the architecture.
    """
    # HuggingFace's initializers take no seed. They use the global one.
    tf_keras.utils.set_random_seed(seed)
    bert = bert_model.from_config(bert_config)
    if encoder.arrays:
        missing = weights.assign(
            bert.bert.weights, encoder.arrays, encoder.folder
        )
        if lost := [name for name in missing if ".pooler." not in name]:
            errors.warn(
                f"{encoder.folder} does not hold {', '.join(sorted(lost))}; "
                "these weights begin at random."
            )
    return bert


def _is_run(folder: str) -> bool:
    path = f"{folder}/{model_directory.TRAIN_CONFIG_NAME}"
    with file_errors.naming(path):
        return tf.io.gfile.exists(path)


def _longest_text(folder: str) -> float:
    """Tokens of the longest text, as the tokenizer's config says."""
    path = f"{folder}/{_TOKENIZER_CONFIG_NAME}"
    with file_errors.naming(path):
        if not tf.io.gfile.exists(path):
            return float("inf")
    values: Any = files.read_json(path)
    length = (
        values.get("model_max_length") if isinstance(values, dict) else None
    )
    return length if isinstance(length, int) and length > 0 else float("inf")


def _read_arrays(
    folder: str, config: transformers.BertConfig
) -> dict[str, np.ndarray]:
    if paths := weights.files_in(folder):
        return weights.read(paths)
    fields = config.to_dict() | {"architectures": ["BertModel"]}
    bert, _ = bert_model.load_h5(
        folder, transformers.BertConfig.from_dict(fields)
    )
    return weights.arrays_of(bert.weights)
