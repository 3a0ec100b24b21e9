"""Files, local or on gs://: found by pattern, read whole, written aside.

All access goes through `tf.io.gfile`, so that every path of the project may
be local, on Google Cloud Storage, or in memory (`ram://`).
"""

import contextlib
import fcntl
import hashlib
import json
import os

import tensorflow as tf

from bert_pretrain import errors

# Of this process, so that two writers of one path do not share a name.
_ASIDE = f".tmp-{os.getpid()}"
_READ_BYTES = 1 << 22


def expand(patterns):
    """The files that the glob `patterns` match: sorted, each once.

    Raises:
      UserError: if a pattern matches nothing.
    """
    found = set()
    for pattern in patterns:
        with errors.naming(pattern):
            matches = [
                path
                for path in tf.io.gfile.glob(pattern)
                if not tf.io.gfile.isdir(path)
            ]
        if not matches:
            raise errors.UserError(
                f"{pattern!r} matches no file; check the path, and quote a "
                "pattern so that the shell leaves it alone."
            )
        found.update(matches)
    return sorted(found)


@contextlib.contextmanager
def replacing(path):
    """Yields a name to write to; it becomes `path` when the block succeeds.

    Whoever looks at `path` sees the old file, the whole new one, or none.
    """
    aside = path + _ASIDE
    with errors.naming(path):
        tf.io.gfile.makedirs(os.path.dirname(path) or ".")
        try:
            yield aside
            tf.io.gfile.rename(aside, path, overwrite=True)
        except BaseException:
            if tf.io.gfile.exists(aside):
                tf.io.gfile.remove(aside)
            raise


def write_bytes(path, content):
    with replacing(path) as aside, tf.io.gfile.GFile(aside, "wb") as file:
        file.write(content)


def read_bytes(path):
    with errors.naming(path), tf.io.gfile.GFile(path, "rb") as file:
        return file.read()


def write_text(path, text):
    write_bytes(path, text.encode("utf-8"))


def read_text(path):
    with errors.naming(path):
        return read_bytes(path).decode("utf-8")


def write_json(path, value):
    """Writes `value` in one canonical form: the same value, the same bytes."""
    write_text(
        path,
        json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n",
    )


def read_json(path):
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise errors.UserError(
            f"{path}: not JSON ({error}); restore it or remove it."
        ) from error


@contextlib.contextmanager
def locked(directory):
    """Keeps a second process out of a local directory while the block runs.

    The lock dies with its process, however it ends. There is no such lock on
    object stores: on gs:// the caller has to see to it.

    Raises:
      UserError: if another process is in it.
    """
    if "://" in directory:
        yield
        return
    with errors.naming(directory):
        os.makedirs(directory, exist_ok=True)
        handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise errors.UserError(
                f"{directory}: another process is working in this folder; "
                "wait for it to end, or give another folder."
            ) from error
        yield
    finally:
        os.close(handle)


def size(path):
    with errors.naming(path):
        return tf.io.gfile.stat(path).length


def sha256(path):
    """The hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with errors.naming(path), tf.io.gfile.GFile(path, "rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
