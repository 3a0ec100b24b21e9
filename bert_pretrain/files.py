"""Files, local or on gs://: found by pattern, read whole, written aside.

All access goes through `tf.io.gfile`, so that every path of the project may
be local, on Google Cloud Storage, or in memory (`ram://`).
"""

import contextlib
import hashlib
import json
import os
import re
import secrets

import tensorflow as tf

from bert_pretrain import errors

_TEMPORARY = ".tmp-"
_IS_TEMPORARY = re.compile(re.escape(_TEMPORARY) + "[0-9a-f]{16}$")
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
    A process that is killed in the block leaves the aside: `remove_asides`.
    """
    # On a cluster one unit may run twice at a time, on two machines or as two
    # threads: writers of one path must not share a name.
    aside = path + _TEMPORARY + secrets.token_hex(8)
    with errors.naming(path):
        tf.io.gfile.makedirs(os.path.dirname(path) or ".")
        try:
            yield aside
            _flush_to_disk(aside)
            tf.io.gfile.rename(aside, path, overwrite=True)
        except BaseException:
            if tf.io.gfile.exists(aside):
                tf.io.gfile.remove(aside)
            raise


def _flush_to_disk(path):
    """So that a machine that stops leaves no empty file under a new name."""
    if "://" in path or not os.path.isfile(path):
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_temporary_files(directory):
    """Removes what writers that were killed left in a directory.

    Only for one whom no other writer works in that directory beside.
    """
    with errors.naming(directory):
        for name in tf.io.gfile.listdir(directory):
            if _IS_TEMPORARY.search(name):
                tf.io.gfile.remove(f"{directory}/{name}")


def remove(path):
    """Removes a file, if it is there."""
    with errors.naming(path):
        if tf.io.gfile.exists(path):
            tf.io.gfile.remove(path)


def list_finished(directory):
    """The names in a directory but for what killed writers left, sorted."""
    with errors.naming(directory):
        if not tf.io.gfile.exists(directory):
            return []
        names = tf.io.gfile.listdir(directory)
    return sorted(name for name in names if not _IS_TEMPORARY.search(name))


def write_bytes(path, content):
    with replacing(path) as aside, tf.io.gfile.GFile(aside, "wb") as file:
        file.write(content)


def read_bytes(path):
    with errors.naming(path), tf.io.gfile.GFile(path, "rb") as file:
        return file.read()


def read_range(path, start, num_bytes):
    with errors.naming(path), tf.io.gfile.GFile(path, "rb") as file:
        file.seek(start)
        return file.read(num_bytes)


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
