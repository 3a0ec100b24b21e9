"""The model directory: what is in it, and what resuming means.

    train_config.json      the options of the run
    config.json            the architecture, HuggingFace's
    vocab.txt              the vocabulary of the records
    ckpt-N.*               checkpoints (checkpoint_files.py)
    best/                  the checkpoint of the least held-out loss, likewise
    metrics.jsonl          the log of the run
    logs/                  the same for TensorBoard
    train_results.json     the final numbers; only if the run is complete
    evaluate_results.json  what bert_pretrain.evaluate measured

so that whoever has the directory can evaluate and export the model.
"""

import tensorflow as tf

from bert_pretrain import errors, files, options
from bert_pretrain.checkpoints import checkpoint_files
from bert_pretrain.data import manifests, vocabulary
from bert_pretrain.model import bert_model

LOG_NAME = "metrics.jsonl"
# The final numbers. Those of a training stand only when the run is complete.
TRAIN_RESULTS_NAME = "train_results.json"
EVALUATE_RESULTS_NAME = "evaluate_results.json"
# For TensorBoard, which looks into all folders below logs.
TRAIN_SUMMARIES = "logs/train"
TRAIN_CONFIG_NAME = "train_config.json"
NEWEST, BEST = "newest", "best"
_DATASET_NAME = "set"  # in train_config.json: which records, wherever they lie
PHASES_NAME = "phases_of_run"  # and what is in the file of phases
# Fields of HuggingFace's config that decide about the variables' shapes and
# meaning; only the other ones can change in a run.
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
# Options that decide which variables the optimizer has a state for, by the
# part of the config that they are in.
_STATE = (
    ("optimization", "optimizer"),
    ("architecture", "positions"),
    ("architecture", "freeze"),
)


def prepare(config_class, train_config, bert_config, data_dir):
    """Makes the model directory self-describing, or checks that it agrees.

    Args:
      config_class: of the run's options.
      train_config: the run's options, as `options.to_dict` makes them.
      data_dir: the set, whose vocabulary is kept beside the model.

    Raises:
      UserError: if the directory holds checkpoints of a run with other
        options, or cannot be written.
    """
    saving = train_config["saving"]
    model_dir = saving["model_dir"]
    vocab = vocabulary.read(f"{data_dir}/{vocabulary.FILE_NAME}")
    train_config = train_config | {
        _DATASET_NAME: files.sha256(f"{data_dir}/{manifests.MANIFEST_NAME}")
    }
    with errors.naming(model_dir):
        tf.io.gfile.makedirs(model_dir)
    if checkpoint_files.list_names(model_dir):
        _check_state(train_config, bert_config, vocab)
        changes = _changes(config_class, train_config, bert_config)
        if changes and not saving["allow_changed_options"]:
            raise errors.UserError(
                f"{model_dir} holds a run with {'; '.join(changes)}; give the "
                "same values to resume it, --allow_changed_options to go on "
                "with other ones, or another --model_dir to begin anew."
            )
        for change in changes:
            errors.warn(f"{model_dir} was begun with {change}")
    files.write_json(f"{model_dir}/{TRAIN_CONFIG_NAME}", train_config)
    files.write_json(
        f"{model_dir}/{bert_model.CONFIG_NAME}", bert_config.to_dict()
    )
    vocab.write(f"{model_dir}/{vocabulary.FILE_NAME}")


def _check_state(train_config, bert_config, vocab):
    """Checks what no flag can allow: what the variables are and mean."""
    model_dir = train_config["saving"]["model_dir"]
    saved = files.read_json(f"{model_dir}/{bert_model.CONFIG_NAME}")
    current = bert_config.to_dict()
    values = [
        (name, saved.get(name), current.get(name)) for name in _ARCHITECTURE
    ]
    saved = files.read_json(f"{model_dir}/{TRAIN_CONFIG_NAME}")
    values += [
        (name, saved[part].get(name, new), new)
        for part, name in _STATE
        if part in saved
        for new in [train_config[part][name]]
    ]
    for name, old, new in values:
        if old != new:
            raise errors.UserError(
                f"{model_dir} holds a model with {name}={old!r}, this run "
                f"asks for {new!r}; give the same value to resume, or another "
                "--model_dir to begin anew."
            )
    path = f"{model_dir}/{vocabulary.FILE_NAME}"
    saved_vocab = vocabulary.read(path)
    vocabulary.check_same(
        path,
        saved_vocab.sha256,
        vocab.sha256,
        expected_by="the dataset",
        remedy="train on records with the model's vocabulary, or give another "
        "--model_dir",
    )


def _changes(config_class, train_config, bert_config):
    """What the run's options and architecture differ in from the saved ones."""
    model_dir = train_config["saving"]["model_dir"]
    saved = files.read_json(f"{model_dir}/{TRAIN_CONFIG_NAME}")
    changes = list(options.changes(config_class, saved, train_config))
    if saved.get(_DATASET_NAME) != train_config[_DATASET_NAME]:
        changes.append(
            (
                "data_dir's manifest.json of sha256",
                str(saved.get(_DATASET_NAME))[:12],
                train_config[_DATASET_NAME][:12],
            )
        )
    before, after = (
        values.get(PHASES_NAME, []) for values in (saved, train_config)
    )
    if before != after:
        changes.append(("phases", before, after))
    before = files.read_json(f"{model_dir}/{bert_model.CONFIG_NAME}")
    after = bert_config.to_dict()
    if not changes:  # Else these follow from an option that is named.
        changes += [
            (name, before.get(name), after[name])
            for name in _DROPOUT
            if before.get(name) != after[name]
        ]
    return [
        f"{n}={old!r}, this run asks for {new!r}" for n, old, new in changes
    ]
