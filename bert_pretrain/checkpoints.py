"""The model directory: what is saved, how often, and what resuming means.

    train_config.json   the options of the run
    config.json         the architecture, HuggingFace's
    vocab.txt           the vocabulary of the records
    ckpt-N.*            model, optimizer, examples consumed, after N steps
    ckpt-N.json         what those files must be; written last of them
    best/               the checkpoint of the least held-out loss, likewise

so that whoever has the directory can evaluate and export the model. A
checkpoint without its JSON file, or that is not as this file says, is torn:
it is never read.
"""

import contextlib
import dataclasses
import re
import sys
import time

import tensorflow as tf
import transformers

from bert_pretrain import errors, files, model, options, records, vocabulary

TRAIN_CONFIG_NAME = "train_config.json"
NEWEST, BEST = "newest", "best"
_PART = re.compile(r"ckpt-(\d+)[._]")
_SET_NAME = "set"  # in train_config.json: which records, wherever they lie
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig(options.Options):
    """Where the run lives, and how often it is saved."""

    model_dir: str = options.option(
        "Folder of the run; running the same command again resumes it.",
        changes_result=False,
    )
    checkpoint_every_steps: int = options.option(
        "Steps between checkpoints, each at the end of the loop that reaches "
        "it; one is always saved at the end.",
        1000,
        changes_result=False,
        at_least=1,
    )
    checkpoint_every_minutes: float = options.option(
        "Save also when so much time has passed since the last one; 0 to "
        "count steps only.",
        30.0,
        changes_result=False,
        at_least=0,
    )
    keep_checkpoints: int = options.option(
        "How many of the newest checkpoints are kept, beside the best.",
        3,
        changes_result=False,
        at_least=1,
    )
    allow_changed_options: bool = options.option(
        "Resume though options that change the result are not those that "
        "the run began with.",
        False,
        changes_result=False,
    )


class Saver:
    """Saves a `trainer.State` while training goes on, and restores it.

    The values are copied before `save` returns, and written by a thread of
    TensorFlow's; only when all is written is the checkpoint's JSON file.
    """

    def __init__(self, config, state):
        """Call it in the strategy's scope."""
        self._config = config
        self._state = state
        self._folder = config.model_dir
        self._checkpoint = tf.train.Checkpoint(**state.saved)
        # Made when it is first read; writing in the background does, and
        # all checkpoints must hold the same.
        assert self._checkpoint.save_counter is not None
        self._in_flight = None  # path of what is being written
        self._last = None  # step of what was saved or restored
        self._last_time = time.monotonic()
        self._best_loss = self._best_since = None

    def save(self):
        """Saves the state as it is now, unless there is one of this step.

        After going back there is, and the examples passed over since are not
        in it: coming from it to the same failure passes over them again.
        """
        if self._state.step != self._last:
            self._write(self._folder, self._config.keep_checkpoints)
            self._last, self._last_time = self._state.step, time.monotonic()

    def save_if_due(self, earlier_step):
        """Saves if the steps since `earlier_step`, or the time, call for it.

        Not while updates fail: what is saved is what one can go back to.
        """
        if self._state.bad_steps_in_row.numpy():
            return
        every = self._config.checkpoint_every_steps
        seconds = 60 * self._config.checkpoint_every_minutes
        waited = time.monotonic() - self._last_time
        if self._state.step // every > earlier_step // every or (
            seconds and waited >= seconds
        ):
            self.save()

    def save_if_best(self, loss, since_step=0):
        """Keeps the state apart if no earlier one had so small a loss.

        Not while updates fail, as above.

        Args:
          since_step: only states after it compare; before, evaluations were
            on another set.
        """
        folder = f"{self._folder}/{BEST}"
        if self._best_since != since_step:
            self._best_since = since_step
            self._best_loss = min(
                (
                    facts["held_out_loss"]
                    for _, facts in _whole(folder)
                    if facts["step"] > since_step or not since_step
                ),
                default=float("inf"),
            )
        if loss < self._best_loss and not self._state.bad_steps_in_row.numpy():
            self._best_loss = loss
            self._write(folder, 1, held_out_loss=loss)

    def close(self):
        """Returns when what was saved last is whole.

        Raises:
          UserError: if it cannot be written.
        """
        if not self._wait():
            self._write(
                self._folder, self._config.keep_checkpoints, at_once=True
            )

    def restore(self):
        """Restores the newest checkpoint that is whole, warning of others.

        Returns:
          Whether there was one.

        Raises:
          UserError: if there are some, and none can be read.
        """
        if self._restore(_whole(self._folder, warn=True)):
            return True
        # The first one, of step 0, may have been torn while it was written.
        if any(int(_PART.match(name)[1]) for name in _parts(self._folder)):
            raise errors.UserError(
                f"{self._folder} holds checkpoints, and none of them is "
                "whole: bring back the files that the warnings name, or give "
                "another --model_dir to begin anew."
            )
        return False

    def go_back(self):
        """Restores the newest checkpoint of a step whose update was applied.

        Raises:
          UserError: if there is none.
        """
        self._wait()
        found = list(_whole(self._folder, warn=True))
        good = [pair for pair in found if not pair[1]["bad_steps_in_row"]]
        if not self._restore(good):
            raise errors.UserError(
                f"{self._folder} holds no checkpoint to go back to."
            )
        later = [f["step"] for _, f in found if f["step"] > self._state.step]
        _remove(self._folder, later)

    def _write(self, folder, keep, at_once=False, **facts):
        # After a failure at once too, so that one that lasts ends the run.
        at_once |= not self._wait()
        step = self._state.step
        path = f"{folder}/ckpt-{step}"
        with errors.naming(folder):
            tf.io.gfile.makedirs(folder)
        # Of a torn checkpoint that is written again.
        _remove(folder, [step])
        facts |= {
            "step": step,
            "num_examples": int(self._state.num_examples.numpy()),
            "bad_steps_in_row": int(self._state.bad_steps_in_row.numpy()),
        }
        if at_once:
            with errors.naming(path):
                self._checkpoint.write(path)
                _finish(path, facts, keep)
        else:
            self._in_flight = path
            self._checkpoint.write(
                path, _in_background(lambda: _finish(path, facts, keep))
            )

    def _wait(self):
        """Waits for the thread that writes: whether it has succeeded."""
        path, self._in_flight = self._in_flight, None
        if path is None:
            return True
        self._checkpoint.sync()
        if tf.io.gfile.exists(f"{path}.json"):
            return True
        try:
            # The thread keeps its error until it is called again.
            self._checkpoint.write(path, _in_background(lambda: None))
            reason = "for an unknown reason"
        except (tf.errors.OpError, errors.UserError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
        self._checkpoint.sync()
        folder, _, name = path.rpartition("/")
        _remove(folder, [int(_PART.match(f"{name}.")[1])])
        _warn(f"{path} could not be written ({reason}).")
        return False

    def _restore(self, candidates):
        failures = []
        for path, _ in candidates:
            try:
                with _naming_unreadable(path):
                    self._checkpoint.restore(
                        path
                    ).assert_existing_objects_matched()
            except errors.UserError as error:
                _warn(error)
                failures.append(error)
                continue
            self._last = self._state.step
            return True
        if failures:
            raise failures[0]
        return False


@dataclasses.dataclass(frozen=True)
class Restored:
    """A trained model and what its token ids mean."""

    bert: transformers.TFPreTrainedModel
    vocabulary: vocabulary.Vocabulary
    step: int
    train_config: dict  # the options of the run


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
        _SET_NAME: files.sha256(f"{data_dir}/{records.MANIFEST_NAME}")
    }
    with errors.naming(model_dir):
        tf.io.gfile.makedirs(model_dir)
    if _parts(model_dir):
        _check_state(train_config, bert_config, vocab)
        changes = _changes(config_class, train_config, bert_config)
        if changes and not saving["allow_changed_options"]:
            raise errors.UserError(
                f"{model_dir} holds a run with {'; '.join(changes)}; give the "
                "same values to resume it, --allow_changed_options to go on "
                "with other ones, or another --model_dir to begin anew."
            )
        for change in changes:
            _warn(f"{model_dir} was begun with {change}")
    files.write_json(f"{model_dir}/{TRAIN_CONFIG_NAME}", train_config)
    files.write_json(f"{model_dir}/{model.CONFIG_NAME}", bert_config.to_dict())
    vocab.write(f"{model_dir}/{vocabulary.FILE_NAME}")


def restore_model(model_dir, which=NEWEST):
    """Reads the newest or the best checkpoint's model, without optimizer.

    Raises:
      UserError: if there is none.
    """
    folder = f"{model_dir}/{BEST}" if which == BEST else model_dir
    with errors.naming(model_dir):
        found = list(_whole(folder, warn=True))
    if not found:
        raise errors.UserError(
            f"{folder} holds no checkpoint; run bert_pretrain.train "
            f"--model_dir={model_dir} first."
        )
    values = files.read_json(f"{model_dir}/{model.CONFIG_NAME}")
    bert_config = transformers.BertConfig.from_dict(values)
    bert = model.from_config(bert_config)
    return Restored(
        bert=bert,
        step=_restore_weights(bert, [path for path, _ in found]),
        vocabulary=vocabulary.read(f"{model_dir}/{vocabulary.FILE_NAME}"),
        train_config=files.read_json(f"{model_dir}/{TRAIN_CONFIG_NAME}"),
    )


def _restore_weights(bert, paths):
    step = tf.Variable(0, dtype=tf.int64, trainable=False)
    for path in paths:
        try:
            with _naming_unreadable(path):
                tf.train.Checkpoint(model=bert, step=step).restore(
                    path
                ).assert_existing_objects_matched().expect_partial()
            return int(step.numpy())
        except errors.UserError as error:
            if path == paths[-1]:
                raise
            _warn(error)


def _in_background(then):
    return tf.train.CheckpointOptions(
        enable_async=True, experimental_write_callbacks=[then]
    )


def _whole(folder, warn=False):
    """(path, what its JSON file says) of whole checkpoints, newest first."""
    steps = {int(_PART.match(name)[1]) for name in _parts(folder)}
    for step in sorted(steps, reverse=True):
        path = f"{folder}/ckpt-{step}"
        try:
            yield path, _read_facts(path)
        except errors.UserError as error:
            if errors.is_transient(error):
                raise  # It may be whole all the same.
            if warn:
                _warn(f"{error} The one before is used.")


def _read_facts(path):
    """What the JSON file of a checkpoint says.

    Raises:
      UserError: if the checkpoint is torn.
    """
    if not tf.io.gfile.exists(f"{path}.json"):
        raise errors.UserError(
            f"{path} is not a whole checkpoint: the process that wrote it "
            "ended before."
        )
    facts = files.read_json(f"{path}.json")
    for name, expected in facts["files"].items():
        part = f"{path.rpartition('/')[0]}/{name}"
        actual = files.size(part)
        if actual != expected["bytes"]:
            raise errors.UserError(
                f"{part}: this checkpoint is torn, {actual:,} of "
                f"{expected['bytes']:,} bytes."
            )
        if "sha256" in expected and files.sha256(part) != expected["sha256"]:
            raise errors.UserError(
                f"{part}: this checkpoint is torn, its sha256 is another one."
            )
    return facts


def _finish(path, facts, keep):
    """Declares a checkpoint whole, and removes others but for `keep`.

    One to go back to stays in any case.
    """
    folder, _, name = path.rpartition("/")
    described = {}
    for part in _parts(folder):
        if part.startswith(f"{name}."):
            described[part] = {"bytes": files.size(f"{folder}/{part}")}
    # The index holds the checksums of all the values, which are compared
    # when they are read.
    described[f"{name}.index"]["sha256"] = files.sha256(f"{path}.index")
    files.write_json(f"{path}.json", facts | {"files": described})
    # For tools that look for TensorFlow's own file; we do not read it.
    files.write_text(
        f"{folder}/checkpoint", f'model_checkpoint_path: "{name}"\n'
    )
    whole = [old for _, old in _whole(folder) if old["step"] != facts["step"]]
    # This one first: a better one may be of an earlier step, after going back.
    newest = [facts, *whole]
    good = [old for old in newest if not old["bad_steps_in_row"]]
    kept = {old["step"] for old in (*newest[:keep], *good[:1])}
    steps = {int(_PART.match(name)[1]) for name in _parts(folder)}
    _remove(folder, steps - kept)


def _remove(folder, steps):
    """Removes checkpoints, whole or not."""
    # First the file that says that the others are there.
    names = sorted(_parts(folder), key=lambda name: not name.endswith(".json"))
    for name in names:
        if int(_PART.match(name)[1]) in steps:
            path = f"{folder}/{name}"
            if tf.io.gfile.isdir(path):
                tf.io.gfile.rmtree(path)
            else:
                tf.io.gfile.remove(path)


def _parts(folder):
    """Names of files and folders that belong to checkpoints."""
    if not tf.io.gfile.exists(folder):
        return []
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    return [name for name in names if _PART.match(name)]


def _warn(message):
    print(f"warning: {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _naming_unreadable(path):
    try:
        yield
    # TensorFlow's reader raises IndexError where bytes are missing,
    # AssertionError where variables are, and ValueError for other shapes.
    except (
        tf.errors.OpError,
        IndexError,
        AssertionError,
        ValueError,
    ) as error:
        raise errors.UserError(
            f"{path}: this checkpoint cannot be read "
            f"({str(error).strip().splitlines()[0]}); bring back its files, "
            "or give another --model_dir."
        ) from error


def _check_state(train_config, bert_config, vocab):
    """Checks what no flag can allow: what the variables are and mean."""
    model_dir = train_config["saving"]["model_dir"]
    saved = files.read_json(f"{model_dir}/{model.CONFIG_NAME}")
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
    if saved_vocab.sha256 != vocab.sha256:
        raise errors.UserError(
            f"{path}: sha256 {saved_vocab.sha256[:12]}…, the records' "
            f"vocabulary has {vocab.sha256[:12]}…: the model's ids mean other "
            "tokens; train on records of its vocabulary, or give another "
            "--model_dir."
        )


def _changes(config_class, train_config, bert_config):
    """What the run's options and architecture differ in from the saved ones."""
    model_dir = train_config["saving"]["model_dir"]
    saved = files.read_json(f"{model_dir}/{TRAIN_CONFIG_NAME}")
    changes = list(options.changes(config_class, saved, train_config))
    if saved.get(_SET_NAME) != train_config[_SET_NAME]:
        changes.append(
            (
                "data_dir's manifest.json of sha256",
                str(saved.get(_SET_NAME))[:12],
                train_config[_SET_NAME][:12],
            )
        )
    before, after = (
        values.get(PHASES_NAME, []) for values in (saved, train_config)
    )
    if before != after:
        changes.append(("phases", before, after))
    before = files.read_json(f"{model_dir}/{model.CONFIG_NAME}")
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
