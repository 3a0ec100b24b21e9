"""The model directory: what is saved, how often, and what resuming means.

    train_config.json   the options of the run
    config.json         the architecture, HuggingFace's
    vocab.txt           the vocabulary of the records
    checkpoint, ckpt-*  model, optimizer, examples consumed

so that whoever has the directory can evaluate and export the model.
"""

import contextlib
import dataclasses

import tensorflow as tf
import transformers

from bert_pretrain import errors, files, model, options, vocabulary

TRAIN_CONFIG_NAME = "train_config.json"
# Fields of HuggingFace's config that decide about the variables' shapes and
# meaning; other ones (dropout rates, say) may change between runs.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """Where the run lives, and how often it is saved."""

    model_dir: str = options.option(
        "Folder of the run; running the same command again resumes it."
    )
    checkpoint_every_steps: int = options.option(
        "Steps between checkpoints; one is always saved at the end.", 1000
    )
    keep_checkpoints: int = options.option(
        "How many of the newest checkpoints are kept.", 3
    )

    def __post_init__(self):
        for name in ("checkpoint_every_steps", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise errors.UserError(
                    f"--{name}={getattr(self, name)} must be at least 1."
                )


@dataclasses.dataclass(frozen=True)
class Restored:
    """A trained model and what its token ids mean."""

    bert: transformers.TFPreTrainedModel
    vocabulary: vocabulary.Vocabulary
    step: int
    train_config: dict  # the options of the run


def prepare(config, train_config, bert_config, data_dir):
    """Makes the model directory self-describing, or checks that it agrees.

    Args:
      train_config: the run's options as a dictionary.
      data_dir: the set, whose vocabulary is kept beside the model.

    Raises:
      UserError: if the directory holds checkpoints of another architecture,
        vocabulary or seed, or cannot be written.
    """
    vocab = vocabulary.read(f"{data_dir}/{vocabulary.FILE_NAME}")
    with errors.naming(config.model_dir):
        tf.io.gfile.makedirs(config.model_dir)
        has_checkpoint = tf.train.latest_checkpoint(config.model_dir)
    if has_checkpoint:
        _check_same(config.model_dir, train_config, bert_config, vocab)
    files.write_json(f"{config.model_dir}/{TRAIN_CONFIG_NAME}", train_config)
    files.write_json(
        f"{config.model_dir}/{model.CONFIG_NAME}", bert_config.to_dict()
    )
    vocab.write(f"{config.model_dir}/{vocabulary.FILE_NAME}")


def build(config, state):
    """The manager that saves a `trainer.State`, and restores it."""
    checkpoint = tf.train.Checkpoint(
        model=state.bert,
        optimizer=state.adam,
        num_examples=state.num_examples,
        step=state.adam.iterations,
    )
    return tf.train.CheckpointManager(
        checkpoint,
        config.model_dir,
        max_to_keep=config.keep_checkpoints,
        step_counter=state.adam.iterations,
        checkpoint_interval=config.checkpoint_every_steps,
    )


def restore(manager):
    """Restores the newest checkpoint, if there is one, whole.

    Raises:
      UserError: if it cannot be read.
    """
    if manager.latest_checkpoint is None:
        return
    with _naming_unreadable(manager.latest_checkpoint):
        status = manager.checkpoint.restore(manager.latest_checkpoint)
        status.assert_existing_objects_matched()


def restore_model(model_dir):
    """Reads the newest checkpoint's model, without the optimizer's state.

    Raises:
      UserError: if there is none.
    """
    with errors.naming(model_dir):
        path = tf.train.latest_checkpoint(model_dir)
    if path is None:
        raise errors.UserError(
            f"{model_dir} holds no checkpoint; run bert_pretrain.train "
            f"--model_dir={model_dir} first."
        )
    values = files.read_json(f"{model_dir}/{model.CONFIG_NAME}")
    bert_config = transformers.BertConfig.from_dict(values)
    bert = model.from_config(bert_config)
    step = tf.Variable(0, dtype=tf.int64, trainable=False)
    with _naming_unreadable(path):
        tf.train.Checkpoint(model=bert, step=step).restore(
            path
        ).assert_existing_objects_matched().expect_partial()
    return Restored(
        bert=bert,
        step=int(step.numpy()),
        vocabulary=vocabulary.read(f"{model_dir}/{vocabulary.FILE_NAME}"),
        train_config=files.read_json(f"{model_dir}/{TRAIN_CONFIG_NAME}"),
    )


@contextlib.contextmanager
def _naming_unreadable(path):
    try:
        yield
    # TensorFlow's reader raises IndexError where bytes are missing, and
    # AssertionError where variables are.
    except (tf.errors.OpError, IndexError, AssertionError) as error:
        folder = path.rpartition("/")[0]
        raise errors.UserError(
            f"{path}: this checkpoint cannot be read "
            f"({str(error).strip().splitlines()[0]}); name an older one in "
            f"{folder}/checkpoint, or give another --model_dir."
        ) from error


def _check_same(model_dir, train_config, bert_config, vocab):
    remedy = (
        "give the same value to resume, or another --model_dir to begin anew"
    )
    saved = files.read_json(f"{model_dir}/{model.CONFIG_NAME}")
    current = bert_config.to_dict()
    for name in _ARCHITECTURE:
        if saved.get(name) != current.get(name):
            raise errors.UserError(
                f"{model_dir} holds a model with {name}={saved.get(name)!r}, "
                f"this run asks for {current.get(name)!r}; {remedy}."
            )
    path = f"{model_dir}/{vocabulary.FILE_NAME}"
    saved_vocab = vocabulary.read(path)
    if saved_vocab.sha256 != vocab.sha256:
        raise errors.UserError(
            f"{path}: sha256 {saved_vocab.sha256[:12]}…, the records' "
            f"vocabulary has {vocab.sha256[:12]}…: the model's ids mean other "
            "tokens; train on records of its vocabulary, or give another "
            "--model_dir."
        )
    saved_seed = files.read_json(f"{model_dir}/{TRAIN_CONFIG_NAME}").get("seed")
    if saved_seed != train_config["seed"]:
        raise errors.UserError(
            f"{model_dir} holds a run with seed={saved_seed}, this run asks "
            f"for {train_config['seed']}, which would give another order of "
            f"examples; {remedy}."
        )
