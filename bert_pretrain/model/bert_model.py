"""The BERT that is trained: its architecture and its initial weights.

The model object is HuggingFace's. It owns the variables under HuggingFace's
names, so that every HuggingFace user can load exported weights. The forward
pass is in `encoder.py`.
"""

import re
from collections.abc import Collection

import numpy as np
import tensorflow as tf
import tf_keras
import transformers

from bert_pretrain import errors, file_errors, files
from bert_pretrain.data import manifests, vocabulary
from bert_pretrain.model import encoder, model_config, weights

# (layers, hidden size) of https://github.com/google-research/bert. A head has
# 64 columns, the feed-forward layer has 4 times the hidden size.
SIZES = {
    "tiny": (2, 128),
    "mini": (4, 256),
    "small": (4, 512),
    "medium": (8, 512),
    "base": (12, 768),
    "large": (24, 1024),
}
CONFIG_NAME = "config.json"


def architecture(
    config: model_config.ModelConfig, manifest: manifests.Manifest
) -> transformers.BertConfig:
    """Builds and checks the architecture for a dataset.

    Raises:
      UserError: if it does not fit the dataset, or is not supported.
    """
    if config.init_from:
        path = f"{config.init_from}/{CONFIG_NAME}"
        bert_config = _read_config(path)
        _check_vocabulary(config.init_from, bert_config, manifest)
    elif config.bert_config:
        path = config.bert_config
        bert_config = _read_config(path)
        bert_config.vocab_size = manifest.vocab_size
    else:
        path = f"--model_size={config.model_size}"
        num_layers, hidden_size = SIZES[config.model_size]
        bert_config = transformers.BertConfig(
            vocab_size=manifest.vocab_size,
            hidden_size=hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=hidden_size // 64,
            intermediate_size=4 * hidden_size,
        )
    if config.hidden_dropout is not None:
        bert_config.hidden_dropout_prob = config.hidden_dropout
    if config.attention_dropout is not None:
        bert_config.attention_probs_dropout_prob = config.attention_dropout
    if config.initializer_range is not None:
        bert_config.initializer_range = config.initializer_range
    bert_config.architectures = [_architecture_name(manifest.pairing)]
    try:
        encoder.check_supported(bert_config)
    except errors.UserError as error:
        raise errors.UserError(f"{path}: {error}") from error
    if manifest.seq_length > bert_config.max_position_embeddings:
        raise errors.UserError(
            f"{path}: the records' seq_length {manifest.seq_length} exceeds "
            f"max_position_embeddings {bert_config.max_position_embeddings}; "
            "give a --bert_config with more positions, or build the records "
            "with a smaller --seq_length."
        )
    return bert_config


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
    bert_config = architecture(config, manifest)
    # HuggingFace's initializers take no seed. They use the global one.
    tf_keras.utils.set_random_seed(seed)
    if config.init_from:
        return _load(config.init_from, bert_config)
    bert = from_config(bert_config)
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


def trained_variables(
    bert: transformers.TFPreTrainedModel, config: model_config.ModelConfig
) -> list[tf.Variable]:
    """Selects the variables that training changes.

    Raises:
      UserError: if `--freeze` matches no variable, or all variables.
    """
    names = {
        variable.ref(): weights.pytorch_name(variable.name, variable.shape)[0]
        for variable in bert.trainable_variables
    }
    frozen = {
        ref
        for ref, name in names.items()
        if config.freeze and re.search(config.freeze, name)
    }
    if config.freeze and len(frozen) in (0, len(names)):
        raise errors.UserError(
            f"--freeze={config.freeze} matches "
            f"{'all' if frozen else 'none'} of the weights; their names are "
            f"{', '.join(names.values())}."
        )
    if config.positions == "sinusoidal":
        frozen.add(bert.bert.embeddings.position_embeddings.ref())
    return [v for v in bert.trainable_variables if v.ref() not in frozen]


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


def _architecture_name(pairing: str) -> str:
    # config.json names PyTorch's class, which has no "TF" in its name.
    return "BertForMaskedLM" if pairing == "none" else "BertForPreTraining"


def _model_class(
    bert_config: transformers.BertConfig,
) -> type[transformers.TFPreTrainedModel]:
    assert bert_config.architectures
    return getattr(transformers, f"TF{bert_config.architectures[0]}")


def _read_config(path: str) -> transformers.BertConfig:
    values = files.read_json(path)
    if not isinstance(values, dict):
        raise errors.UserError(f"{path}: expected one JSON object.")
    if (kind := values.get("model_type", "bert")) != "bert":
        raise errors.UserError(f"{path}: model_type {kind!r}, expected 'bert'.")
    try:
        return transformers.BertConfig.from_dict(values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # A field that is not part of BERT's architecture causes one of them.
        raise errors.UserError(
            f"{path}: transformers cannot read this file ({error!r})."
        ) from error


def _check_vocabulary(
    init_from: str,
    bert_config: transformers.BertConfig,
    manifest: manifests.Manifest,
) -> None:
    path = f"{init_from}/{vocabulary.FILE_NAME}"
    vocab = vocabulary.read(path)
    vocabulary.check_same(
        path,
        vocab.sha256,
        manifest.vocab_sha256,
        expected_by="the dataset",
        remedy=f"build the records with --vocab_file={path}",
    )
    # Some checkpoints round the size up, but none has fewer rows than tokens.
    if bert_config.vocab_size < manifest.vocab_size:
        raise errors.UserError(
            f"{init_from}/{CONFIG_NAME}: vocab_size is "
            f"{bert_config.vocab_size}, but vocab.txt has "
            f"{manifest.vocab_size} tokens; give a checkpoint whose "
            "config.json and vocab.txt belong together."
        )


def _load(
    init_from: str, bert_config: transformers.BertConfig
) -> transformers.TFPreTrainedModel:
    """Builds the model with the weights of a checkpoint folder."""
    path = f"{init_from}/{weights.FILE_NAME}"
    missing: Collection[str]
    with file_errors.naming(path):
        has_safetensors = tf.io.gfile.exists(path)
    if has_safetensors:
        bert = from_config(bert_config)
        missing = weights.load(bert, path)
    else:
        bert, missing = _load_older_format(init_from, bert_config)
    if missing:
        errors.warn(
            f"{init_from} does not hold {', '.join(sorted(missing))}; these "
            "weights begin at random."
        )
    return bert


def _load_older_format(
    init_from: str, bert_config: transformers.BertConfig
) -> tuple[transformers.TFPreTrainedModel, Collection[str]]:
    """Loads tf_model.h5 or, if PyTorch is installed, pytorch_model.bin.

    Returns:
      The model, and the names of weights that are missing in the file.
    """
    has_h5 = tf.io.gfile.exists(f"{init_from}/{transformers.TF2_WEIGHTS_NAME}")
    try:
        bert, loading = _model_class(bert_config).from_pretrained(
            init_from,
            config=bert_config,
            local_files_only=True,
            from_pt=not has_h5,
            output_loading_info=True,
        )
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise errors.UserError(
            f"--init_from={init_from}: the weights cannot be loaded "
            f"({reason}); save them as {weights.FILE_NAME}."
        ) from error
    return bert, loading["missing_keys"]
