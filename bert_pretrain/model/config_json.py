"""config.json: the architecture, in HuggingFace's format.

Only the fields that decide what a BERT computes are read. A field that would
change it in a way that this project does not compute is refused by name. Fields
that say nothing about a pretrained model are left out.
"""

import functools
from typing import Any

import transformers

from bert_pretrain import errors, files, options
from bert_pretrain.data import manifests, vocabulary
from bert_pretrain.model import model_config, transformer_layer

NAME = "config.json"
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
# Types and bounds of the numbers in config.json.
_NUMBERS: dict[str, tuple[type[int] | type[float], options.Bounds]] = {
    **dict.fromkeys(
        (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
        ),
        # More fits into no memory.
        (int, options.Bounds(at_least=1, at_most=2**24)),
    ),
    **dict.fromkeys(
        ("hidden_dropout_prob", "attention_probs_dropout_prob"),
        (float, options.Bounds(at_least=0, below=1)),
    ),
    "layer_norm_eps": (float, options.Bounds(above=0)),
    "initializer_range": (float, options.Bounds(above=0)),
}
# Values of the other fields that decide what a BERT computes.
_CHOICES: dict[str, tuple[Any, ...]] = {
    "hidden_act": tuple(transformer_layer.ACTIVATIONS),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
    "tie_encoder_decoder": (False,),
    "pruned_heads": ({}, None),
}
# Fields of files on the HuggingFace hub, beside those of every model, that do
# not change what a pretrained BERT computes.
_LEFT_OUT = (
    "classifier_dropout",
    "directionality",
    "gradient_checkpointing",
    "num_labels",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "torch_dtype",
    "transformers_version",
    "use_cache",
)


def read(path: str) -> transformers.BertConfig:
    """Reads a config.json.

    Raises:
      UserError: if it cannot be read, or describes a model that this project
        does not compute; the message names the field.
    """
    return transformers.BertConfig(**_read_fields(path))


def architecture(
    config: model_config.ModelConfig, manifest: manifests.Manifest
) -> transformers.BertConfig:
    """Builds and checks the architecture for a dataset.

    Raises:
      UserError: if it does not fit the dataset, or is not supported.
    """
    if config.init_from:
        path = f"{config.init_from}/{NAME}"
        bert_config = read(path)
        _check_vocabulary(config.init_from, manifest)
    elif config.bert_config:
        path = config.bert_config
        fields = _read_fields(path)
        bert_config = transformers.BertConfig(
            **{"vocab_size": manifest.vocab_size, **fields}
        )
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
    # It names PyTorch's class, which has no "TF" in its name.
    bert_config.architectures = [
        "BertForMaskedLM"
        if manifest.pairing == "none"
        else "BertForPreTraining"
    ]
    _check_fit(path, bert_config, manifest)
    return bert_config


def check_supported(config: transformers.BertConfig) -> None:
    """Checks that this project computes the architecture of `config`.

    Raises:
      UserError: if it does not; the message names the field.
    """
    _check_fields({name: getattr(config, name) for name in _fields_read()})
    if config.hidden_size % config.num_attention_heads:
        raise errors.UserError(
            f"hidden_size={config.hidden_size} is not a multiple of "
            f"num_attention_heads={config.num_attention_heads}."
        )


def _fields_read() -> tuple[str, ...]:
    return (*_NUMBERS, *_CHOICES)


def _read_fields(path: str) -> dict[str, Any]:
    """The fields of a file that decide what the model computes."""
    values = files.read_json(path)
    if not isinstance(values, dict):
        raise errors.UserError(f"{path}: expected one JSON object.")
    if (kind := values.get("model_type", "bert")) != "bert":
        raise errors.UserError(
            f"{path}: model_type {kind!r}, expected 'bert'; give the folder of "
            "a BERT."
        )
    known = {*_fields_read(), *_LEFT_OUT, *_fields_of_every_model()}
    if unknown := sorted(set(values) - known):
        raise errors.UserError(
            f"{path}: {', '.join(unknown)}: fields of a BERT that are unknown "
            "here; remove them if the model is the same without them."
        )
    fields = {name: values[name] for name in _fields_read() if name in values}
    try:
        _check_fields(fields)
    except errors.UserError as error:
        raise errors.UserError(f"{path}: {error}") from error
    return fields


@functools.cache
def _fields_of_every_model() -> frozenset[str]:
    """HuggingFace's fields for generation, labels and the like."""
    return frozenset(
        ("_attn_implementation_autoset", *transformers.BertConfig().to_dict())
    )


def _check_fields(fields: dict[str, Any]) -> None:
    for name in _CHOICES.keys() & fields.keys():
        if fields[name] not in _CHOICES[name]:
            raise errors.UserError(
                f"{name}={fields[name]!r} is not supported, only "
                f"{', '.join(map(repr, _CHOICES[name]))}."
            )
    for name, (kind, bounds) in _NUMBERS.items():
        if name not in fields:
            continue
        value = fields[name]
        complaint: str | None
        # An int is accepted where a float is expected. Bool is a subclass of
        # int, but true and false are not numbers in JSON.
        if type(value) not in (int, kind):
            complaint = f"is not of the type {kind.__name__}"
        else:
            complaint = bounds.complaint(value)
        if complaint:
            raise errors.UserError(f"{name}={value!r} {complaint}.")


def _check_fit(
    path: str,
    bert_config: transformers.BertConfig,
    manifest: manifests.Manifest,
) -> None:
    """Checks that an architecture is supported and fits the dataset."""
    try:
        check_supported(bert_config)
    except errors.UserError as error:
        raise errors.UserError(f"{path}: {error}") from error
    # A larger table is allowed: many round its size up.
    if bert_config.vocab_size < manifest.vocab_size:
        raise errors.UserError(
            f"{path}: vocab_size is {bert_config.vocab_size}, but the "
            f"vocabulary has {manifest.vocab_size} tokens; raise it or, in a "
            "--bert_config, leave it out."
        )
    if manifest.seq_length > bert_config.max_position_embeddings:
        raise errors.UserError(
            f"{path}: the records' seq_length {manifest.seq_length} exceeds "
            f"max_position_embeddings {bert_config.max_position_embeddings}; "
            "give a --bert_config with more positions, or build the records "
            "with a smaller --seq_length."
        )
    if manifest.pairing != "none" and bert_config.type_vocab_size < 2:
        raise errors.UserError(
            f"{path}: type_vocab_size is {bert_config.type_vocab_size}, but "
            "sentence pairs have two kinds of tokens; set it to 2, or build "
            "the records with --pairing=none."
        )


def _check_vocabulary(init_from: str, manifest: manifests.Manifest) -> None:
    path = f"{init_from}/{vocabulary.FILE_NAME}"
    vocabulary.check_same(
        path,
        # The casing is that of the dataset, whose vocabulary must be the same.
        vocabulary.read(path, lower_case=True, strip_accents=True).sha256,
        manifest.vocab_sha256,
        expected_by="the dataset",
        remedy=f"build the records with --vocab_file={path}",
    )
