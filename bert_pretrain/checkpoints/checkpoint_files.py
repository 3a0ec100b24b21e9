"""The files of a checkpoint: which belong to it, and whether they are whole.

    ckpt-N.*       model, optimizer, examples consumed, after N steps
    ckpt-N.json    what those files must be; written last of them

A checkpoint without its JSON file, or that differs from what this file says,
is torn: it is never read.
"""

import contextlib
import re

import tensorflow as tf

from bert_pretrain import errors, files

NAME = re.compile(r"ckpt-(\d+)[._]")


def list_whole(folder, warn=False):
    """(path, what its JSON file says) of whole checkpoints, newest first."""
    steps = {int(NAME.match(name)[1]) for name in list_names(folder)}
    for step in sorted(steps, reverse=True):
        path = f"{folder}/ckpt-{step}"
        try:
            yield path, _read_facts(path)
        except errors.UserError as error:
            if errors.is_transient(error):
                raise  # It may be whole all the same.
            if warn:
                errors.warn(f"{error} The one before is used.")


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


def finish(path, facts, keep):
    """Declares a checkpoint whole, and removes others but for `keep`.

    One to go back to stays in any case.
    """
    folder, _, name = path.rpartition("/")
    described = {}
    for part in list_names(folder):
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
    whole = [
        old for _, old in list_whole(folder) if old["step"] != facts["step"]
    ]
    # This one first: a better one may be of an earlier step, after going back.
    newest = [facts, *whole]
    good = [old for old in newest if not old["bad_steps_in_row"]]
    kept = {old["step"] for old in (*newest[:keep], *good[:1])}
    steps = {int(NAME.match(name)[1]) for name in list_names(folder)}
    remove(folder, steps - kept)


def remove(folder, steps):
    """Removes checkpoints, whole or not."""
    # First the file that says that the others are there.
    names = sorted(
        list_names(folder), key=lambda name: not name.endswith(".json")
    )
    for name in names:
        if int(NAME.match(name)[1]) in steps:
            path = f"{folder}/{name}"
            if tf.io.gfile.isdir(path):
                tf.io.gfile.rmtree(path)
            else:
                tf.io.gfile.remove(path)


def list_names(folder):
    """Names of files and folders that belong to checkpoints."""
    if not tf.io.gfile.exists(folder):
        return []
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    return [name for name in names if NAME.match(name)]


@contextlib.contextmanager
def naming_unreadable(path):
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
