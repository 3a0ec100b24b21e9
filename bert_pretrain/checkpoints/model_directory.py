"""The model directory: its files, and the check that a run may resume in it.

    train_config.json      the options of the run
    config.json            the architecture, in HuggingFace's format
    vocab.txt              the vocabulary of the dataset
    ckpt-N.*               checkpoints (checkpoint_files.py)
    best/                  the checkpoint with the least held-out loss
    metrics.jsonl          the log of the run
    logs/                  the same log for TensorBoard
    train_results.json     final results; exists only if the run is complete
    evaluate_results.json  results of bert_pretrain.evaluate

Evaluation and export need no other folder to know what the model is.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import transformers

from bert_pretrain import errors, files, options
from bert_pretrain.checkpoints import checkpoint_files
from bert_pretrain.data import vocabulary
from bert_pretrain.model import config_json

LOG_NAME = "metrics.jsonl"
TRAIN_RESULTS_NAME = "train_results.json"
EVALUATE_RESULTS_NAME = "evaluate_results.json"
# TensorBoard looks into all folders below logs.
TRAIN_SUMMARIES = "logs/train"
TRAIN_CONFIG_NAME = "train_config.json"
NEWEST, BEST = "newest", "best"
# Keys in train_config.json beside the options: a hash of what the run learns
# from (of the dataset's manifest), and the content of the file of phases.
DATASET_NAME = "set"
PHASES_NAME = "phases_of_run"
# For the card of an exported model.
DATASETS_NAME = "datasets"
# Fields of HuggingFace's config that determine the shapes and the meaning of
# the variables. They must not change in a run; other fields may.
_ARCHITECTURE = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "max_position_embeddings",
    "type_vocab_size",
    "layer_norm_eps",
    "architectures",
)
_DROPOUT = ("hidden_dropout_prob", "attention_probs_dropout_prob")
# Options that determine the variables of the optimizer, with the config that
# holds them.
_STATE = (
    ("optimization", "optimizer"),
    ("architecture", "positions"),
    ("architecture", "freeze"),
)


def prepare(
    config_class: type[options.Options],
    train_config: Mapping[str, Any],
    bert_config: transformers.BertConfig,
    vocab: vocabulary.Vocabulary,
) -> bool:
    """Writes the files that describe the run, or checks that they agree.

    Args:
      config_class: the class of the run's options.
      train_config: the run's options, as `options.to_dict` returns them, and
        what the run learns from (`DATASET_NAME`).
      bert_config: the architecture.
      vocab: the vocabulary of the data, which is copied beside the model.

    Returns:
      Whether the directory holds a run with other options, which is allowed to
      continue.

    Raises:
      UserError: if the directory holds checkpoints of a run with other
        options, or cannot be written.
    """
    saving = train_config["saving"]
    model_dir = saving["model_dir"]
    files.make_directory(model_dir)
    changes = []
    if checkpoint_files.list_steps(model_dir):
        _check_state(train_config, bert_config, vocab)
        changes = _describe_changes(config_class, train_config, bert_config)
        if changes and not saving["allow_changed_options"]:
            raise errors.UserError(
                f"{model_dir} holds a run with {'; '.join(changes)}; give the "
                "same values to resume it, --allow_changed_options to continue "
                "with other values, or another --model_dir to start a new run."
            )
        for change in changes:
            errors.warn(f"{model_dir} was begun with {change}")
    files.write_json(f"{model_dir}/{TRAIN_CONFIG_NAME}", train_config)
    files.write_json(f"{model_dir}/{config_json.NAME}", bert_config.to_dict())
    vocab.write(f"{model_dir}/{vocabulary.FILE_NAME}")
    return bool(changes)


def _check_state(
    train_config: Mapping[str, Any],
    bert_config: transformers.BertConfig,
    vocab: vocabulary.Vocabulary,
) -> None:
    """Checks the shapes and the meaning of the variables.

    Differences of this kind cannot be allowed by an option.
    """
    model_dir = train_config["saving"]["model_dir"]
    old_config = files.read_json(f"{model_dir}/{config_json.NAME}")
    new_config = bert_config.to_dict()
    values = [
        (name, old_config.get(name), new_config.get(name))
        for name in _ARCHITECTURE
    ]
    old_options = files.read_json(f"{model_dir}/{TRAIN_CONFIG_NAME}")
    for group, name in _STATE:
        if group in old_options:
            new = train_config[group][name]
            values.append((name, old_options[group].get(name, new), new))
    for name, old, new in values:
        if old != new:
            raise errors.UserError(
                f"{model_dir} holds a model with {name}={old!r}, this run "
                f"asks for {new!r}; give the same value to resume, or another "
                "--model_dir to start a new run."
            )
    path = f"{model_dir}/{vocabulary.FILE_NAME}"
    vocabulary.check_same(
        path,
        vocabulary.read(path, vocab.is_lower_case, vocab.strips_accents).sha256,
        vocab.sha256,
        expected_by="the dataset",
        remedy="train on records with the model's vocabulary, or give another "
        "--model_dir",
    )


def _describe_changes(
    config_class: type[options.Options],
    train_config: Mapping[str, Any],
    bert_config: transformers.BertConfig,
) -> list[str]:
    """One text for each value of the run that differs from the saved one."""
    return [
        f"{name}={old!r}, this run asks for {new!r}"
        for name, old, new in _changes(config_class, train_config, bert_config)
    ]


def _changes(
    config_class: type[options.Options],
    train_config: Mapping[str, Any],
    bert_config: transformers.BertConfig,
) -> Iterator[tuple[str, Any, Any]]:
    """Yields (name, saved value, value of the run) where they differ."""
    model_dir = train_config["saving"]["model_dir"]
    saved = files.read_json(f"{model_dir}/{TRAIN_CONFIG_NAME}")
    changes = list(options.changes(config_class, saved, train_config))
    old_sha256, new_sha256 = (
        saved.get(DATASET_NAME),
        train_config[DATASET_NAME],
    )
    if old_sha256 != new_sha256:
        changes.append(
            (
                "data_dir's manifest.json of sha256",
                str(old_sha256)[:12],
                new_sha256[:12],
            )
        )
    old_phases, new_phases = (
        values.get(PHASES_NAME, []) for values in (saved, train_config)
    )
    if old_phases != new_phases:
        changes.append(("phases", old_phases, new_phases))
    yield from changes
    if changes:
        return  # Other rates of dropout follow from a changed option.
    old_config = files.read_json(f"{model_dir}/{config_json.NAME}")
    new_config = bert_config.to_dict()
    for name in _DROPOUT:
        if old_config.get(name) != new_config[name]:
            yield name, old_config.get(name), new_config[name]
