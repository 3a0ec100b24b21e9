"""Finds, reads and writes whole files, local or on gs://.

All access goes through `tf.io.gfile`. So every path in this project may be
local, on Google Cloud Storage, or in memory (`ram://`). A new file appears
under its name only when it is complete.

TensorFlow itself tries each request to gs:// up to eleven times, over three
minutes, if the answer is 408, 409, 429 or 5xx, or if the connection fails. So
nothing here tries again.
"""

import contextlib
import gzip
import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from bert_pretrain import errors, file_errors

_TEMPORARY = ".tmp-"
_IS_TEMPORARY = re.compile(re.escape(_TEMPORARY) + "[0-9a-f]{16}$")
_READ_BYTES = 1 << 22
_WILDCARD = re.compile(r"[*?[]")


def expand(patterns: Iterable[str]) -> list[str]:
    """The files that match any of the glob patterns, sorted.

    A pattern that is the name of a file stands for that file, and the name of
    a folder at its beginning for that folder. A [ is taken for itself if
    nothing matches otherwise.

    Raises:
      UserError: if a pattern matches nothing.
    """
    found = set()
    for pattern in patterns:
        with file_errors.naming(pattern):
            matches = _matches(pattern)
        if not matches:
            raise errors.UserError(
                f"{pattern!r} matches no file; check the path, quote a "
                "pattern so that the shell does not expand it, and write [[], "
                "[*] or [?] for a [, * or ? in a name."
            )
        found.update(matches)
    return sorted(found)


def _matches(pattern: str) -> list[str]:
    """The files that match a pattern, literally if possible."""
    if tf.io.gfile.exists(pattern):
        names = [pattern]
    else:
        folder, name = _quote_folders(pattern)
        names = tf.io.gfile.glob(folder + name) or tf.io.gfile.glob(
            folder + name.replace("[", "[[]")
        )
    return [path for path in names if not tf.io.gfile.isdir(path)]


def _quote_folders(pattern: str) -> tuple[str, str]:
    """Divides a pattern at the end of the folders that it names literally.

    Returns:
      (pattern that matches only these folders, rest of the pattern).
    """
    quoted, start = "", 0
    while (end := pattern.find("/", start) + 1) > 0:
        folder = pattern[start:end]
        if _WILDCARD.search(folder):
            if not tf.io.gfile.isdir(pattern[:end]):
                break
            folder = _WILDCARD.sub(r"[\g<0>]", folder)
        quoted, start = quoted + folder, end
    return quoted, pattern[start:]


def is_local(path: str) -> bool:
    """Whether a path is on this machine's file system.

    Elsewhere a file can only be written as a whole: a line that is appended
    costs as much as the file.
    """
    return "://" not in path


def make_directory(directory: str) -> None:
    """Makes a directory and those above it."""
    # On gs:// names need no folders. To make one, TensorFlow asks for the
    # bucket, which takes a right that accounts for its objects do not have.
    if not directory.startswith("gs://"):
        with file_errors.naming(directory):
            tf.io.gfile.makedirs(directory)


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """Yields the name of a temporary file, which the block writes.

    If the block succeeds, the temporary file is renamed to `path`. So readers
    of `path` see the old file, the complete new file, or no file. If the
    process is killed in the block, the temporary file stays; see
    `remove_temporary_files`.
    """
    # On a cluster two machines or threads may run the same work unit at the
    # same time. So each writer of `path` needs a temporary name of its own.
    temporary = path + _TEMPORARY + secrets.token_hex(8)
    with file_errors.naming(path):
        make_directory(os.path.dirname(path) or ".")
        try:
            yield temporary
            _flush_to_disk(temporary)
            tf.io.gfile.rename(temporary, path, overwrite=True)
        except BaseException:
            # The first error matters, not that of a file system that is gone.
            with contextlib.suppress(tf.errors.OpError):
                if tf.io.gfile.exists(temporary):
                    tf.io.gfile.remove(temporary)
            raise


def _flush_to_disk(path: str) -> None:
    """Prevents an empty file after the rename if the machine fails then."""
    if not is_local(path) or not os.path.isfile(path):
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_temporary_files(directory: str) -> None:
    """Removes the temporary files of killed processes from a directory.

    Call this only while no other process writes there.
    """
    for name in list_names(directory):
        if _IS_TEMPORARY.search(name):
            remove(f"{directory}/{name}")


def remove(path: str) -> None:
    """Removes a file, if it exists."""
    with file_errors.naming(path):
        with contextlib.suppress(tf.errors.NotFoundError):
            tf.io.gfile.remove(path)


def remove_directory(directory: str) -> None:
    """Removes a directory with all that is in it, if it exists."""
    with file_errors.naming(directory):
        with contextlib.suppress(tf.errors.NotFoundError):
            tf.io.gfile.rmtree(directory)


def list_names(directory: str) -> list[str]:
    """The names in a directory, sorted; a folder's name may end with a slash.

    The list is empty if the directory does not exist. An object store may list
    a file late, or one that is gone.
    """
    with file_errors.naming(directory):
        # `listdir` takes any failure for a folder that is not there.
        if not tf.io.gfile.exists(directory):
            return []
        return sorted(tf.io.gfile.listdir(directory))


def list_finished(directory: str) -> list[str]:
    """What `list_names` returns, without temporary files."""
    return [
        name for name in list_names(directory) if not _IS_TEMPORARY.search(name)
    ]


def write_bytes(path: str, content: bytes) -> None:
    """Writes a whole file."""
    with replacing(path) as temporary:
        with tf.io.gfile.GFile(temporary, "wb") as file:
            file.write(content)


def read_bytes(path: str) -> bytes:
    """Reads a whole file."""
    with file_errors.naming(path), tf.io.gfile.GFile(path, "rb") as file:
        return file.read()


def read_range(path: str, start: int, num_bytes: int) -> bytes:
    """Reads `num_bytes` bytes from byte `start` on; fewer at the end."""
    with file_errors.naming(path), tf.io.gfile.GFile(path, "rb") as file:
        file.seek(start)
        return file.read(num_bytes)


def write_text(path: str, text: str) -> None:
    """Writes a whole file as UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def read_text(path: str) -> str:
    """Reads a whole UTF-8 file; decompresses it if its name ends with .gz.

    A byte order mark, as Windows puts before a text, is left out.
    """
    content = read_bytes(path)
    with file_errors.naming(path):
        if path.endswith(".gz"):
            content = gzip.decompress(content)
        # The codec utf-8-sig would count wrong in its errors.
        return content.decode("utf-8").removeprefix("\ufeff")


def write_json(path: str, value: Any) -> None:
    """Writes `value` as JSON; equal values give equal bytes.

    A number that is not finite becomes null, because JSON has none.
    """
    text = json.dumps(
        finite_or_none(value),
        indent=1,
        sort_keys=True,
        ensure_ascii=False,
        allow_nan=False,
    )
    write_text(path, text + "\n")


def write_json_lines(path: str, values: Iterable[Any]) -> None:
    """Writes values as JSON, one on each line."""
    lines = (json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    write_text(path, "".join(lines))


def finite_or_none(value: Any) -> Any:
    """The value with None for each number in it that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite_or_none(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(each) for each in value]
    return value


def read_json(path: str) -> Any:
    """Reads a JSON file.

    Raises:
      UserError: if the file cannot be read, or is not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise errors.UserError(
            f"{path}: not JSON ({error}); restore it or remove it."
        ) from error


def size(path: str) -> int:
    """The size of a file in bytes."""
    with file_errors.naming(path):
        return tf.io.gfile.stat(path).length


def sha256(path: str) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with file_errors.naming(path), tf.io.gfile.GFile(path, "rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
