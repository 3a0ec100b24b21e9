"""The BERT that is trained: its architecture and its initial weights.

The model object is HuggingFace's. It owns the variables under HuggingFace's
names, so that every HuggingFace user can load exported weights. The forward
pass is in `encoder.py`.
"""

import difflib
import re
from collections.abc import Collection, Sequence

import numpy as np
import tensorflow as tf
import tf_keras
import transformers

from bert_pretrain import errors
from bert_pretrain.data import manifests
from bert_pretrain.model import config_json, model_config, weights

# The bias of a token that is never predicted.
_SILENT = -200.0


def build(
    config: model_config.ModelConfig, manifest: manifests.Manifest, seed: int
) -> transformers.TFPreTrainedModel:
    """Builds the model for a dataset, with its initial weights.

    Returns:
      A `TFBertForPreTraining` for sentence pairs, else a `TFBertForMaskedLM`.

    Raises:
      UserError: if the architecture does not fit the dataset, or the weights
        of `--init_from` cannot be loaded.
    """
    bert_config = config_json.architecture(config, manifest)
    # HuggingFace's initializers take no seed. They use the global one.
    tf_keras.utils.set_random_seed(seed)
    if config.init_from:
        bert = _load(config.init_from, bert_config)
    else:
        bert = from_config(bert_config)
    _silence_padding(bert, manifest.vocab_size)
    if config.positions == "sinusoidal":
        bert.bert.embeddings.position_embeddings.assign(sinusoids(bert_config))
    return bert


def from_config(
    bert_config: transformers.BertConfig,
) -> transformers.TFPreTrainedModel:
    """Builds the class in `architectures`, with random weights."""
    bert = _model_class(bert_config)(bert_config)
    bert.build_in_name_scope()
    return bert


def _silence_padding(
    bert: transformers.TFPreTrainedModel, num_tokens: int
) -> None:
    """Makes rows of the embedding table that no token has impossible answers.

    Many round the size of the table up. The rows are zero, and their bias is so
    low that their probability is 0 in float32. So they have no gradient, and
    stay as they are.
    """
    table, bias = bert.bert.embeddings.weight, bert.mlm.predictions.bias
    if num_tokens < bias.shape[0]:
        is_token = np.arange(bias.shape[0]) < num_tokens
        table.assign(np.where(is_token[:, np.newaxis], table.numpy(), 0))
        bias.assign(np.where(is_token, bias.numpy(), _SILENT))


def trained_variables(
    bert: transformers.TFPreTrainedModel, config: model_config.ModelConfig
) -> list[tf.Variable]:
    """Selects the variables that training changes.

    Raises:
      UserError: if `--freeze` matches no variable, or all variables.
    """
    chosen = without(bert.trainable_variables, config.freeze)
    if config.positions == "sinusoidal":
        fixed = bert.bert.embeddings.position_embeddings.ref()
        chosen = [v for v in chosen if v.ref() != fixed]
    return chosen


def without(
    variables: Sequence[tf.Variable], pattern: str
) -> list[tf.Variable]:
    """Leaves the variables out whose names in PyTorch match `--freeze`.

    Args:
      pattern: a regular expression that is searched; empty for none.

    Raises:
      UserError: if it matches no variable, or all.
    """
    if not pattern:
        return list(variables)
    names = [weights.pytorch_name(v.name, v.shape)[0] for v in variables]
    chosen = [
        variable
        for variable, name in zip(variables, names, strict=True)
        if not re.search(pattern, name)
    ]
    if len(chosen) in (0, len(names)):
        raise errors.UserError(
            f"--freeze={pattern} matches {'none' if chosen else 'all'} of the "
            f"{len(names)} weights; some names are "
            f"{', '.join(_similar(pattern, names))}."
        )
    return chosen


def _similar(pattern: str, names: Collection[str]) -> list[str]:
    """The three names that look most like a pattern."""
    return difflib.get_close_matches(pattern, names, n=3, cutoff=0)


def sinusoids(bert_config: transformers.BertConfig) -> np.ndarray:
    """Computes fixed position embeddings (Vaswani et al. 2017, section 3.5).

    They are scaled by the initializer range, to the size of BERT's word
    embeddings. Vaswani et al. scale the word embeddings instead (section 3.4).

    Returns:
      float32 [positions, hidden size].
    """
    num_positions = bert_config.max_position_embeddings
    hidden_size = bert_config.hidden_size
    positions = np.arange(num_positions)[:, np.newaxis]
    columns = np.arange(hidden_size)
    angles = positions / 10_000 ** (columns // 2 * 2 / hidden_size)
    table = np.where(columns % 2, np.cos(angles), np.sin(angles))
    return (bert_config.initializer_range * table).astype(np.float32)


def has_pairs(bert: transformers.TFPreTrainedModel) -> bool:
    """Whether the model predicts if the second segment follows the first."""
    return isinstance(bert, transformers.TFBertForPreTraining)


def _model_class(
    bert_config: transformers.BertConfig,
) -> type[transformers.TFPreTrainedModel]:
    assert bert_config.architectures
    return getattr(transformers, f"TF{bert_config.architectures[0]}")


def _load(
    init_from: str, bert_config: transformers.BertConfig
) -> transformers.TFPreTrainedModel:
    """Builds the model with the weights of a checkpoint folder."""
    missing: Collection[str]
    if paths := weights.files_in(init_from):
        bert = from_config(bert_config)
        missing = weights.load(bert, paths)
    else:
        bert, missing = load_h5(init_from, bert_config)
    if missing:
        errors.warn(
            f"{init_from} does not hold {', '.join(sorted(missing))}; these "
            "weights begin at random."
        )
    return bert


def load_h5(
    init_from: str, bert_config: transformers.BertConfig
) -> tuple[transformers.TFPreTrainedModel, Collection[str]]:
    """Loads tf_model.h5, which TensorFlow wrote.

    Args:
      init_from: a folder without safetensors.
      bert_config: its `architectures` name the class to build.

    Returns:
      The model, and the names of weights that are missing in the file.

    Raises:
      UserError: if there is no such file, or it cannot be loaded.
    """
    try:
        bert, loading = _model_class(bert_config).from_pretrained(
            init_from,
            config=bert_config,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise errors.UserError(
            f"--init_from={init_from}: the weights cannot be loaded "
            f"({reason}); save them as {weights.FILE_NAME}."
        ) from error
    return bert, loading["missing_keys"]
