"""Tries whether a directory can be written and read, locally or on gs://."""

import contextlib
import dataclasses
import secrets
import time
from collections.abc import Iterator

import tensorflow as tf

from bert_pretrain import errors, file_errors, files, storage_account

_NUM_BYTES = 1 << 16


@dataclasses.dataclass(frozen=True)
class Probe:
    """What was seen.

    Attributes:
      account: that the directory was used under; None locally, or if no
        account is known.
      seconds: for each operation, in the order in which they were tried.
      is_listed: whether the new file was in the listing at once.
    """

    account: str | None
    seconds: dict[str, float]
    is_listed: bool


def probe(directory: str) -> Probe:
    """Writes, reads, lists, renames and removes a small file beneath it.

    On gs:// TensorFlow tries for three minutes if the server does not answer.

    Raises:
      UserError: if one of these fails, with the reason and the remedy.
    """
    path = f"{directory}/probe-{secrets.token_hex(8)}"
    moved = f"{path}-renamed"
    content = secrets.token_bytes(_NUM_BYTES)
    seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def timing(operation: str) -> Iterator[None]:
        started = time.perf_counter()
        with file_errors.naming(directory):
            yield
        seconds[operation] = time.perf_counter() - started

    files.make_directory(directory)
    with timing("write"), tf.io.gfile.GFile(path, "wb") as file:
        file.write(content)
    try:
        with timing("read"):
            found = files.read_bytes(path)
        with timing("list"):
            names = tf.io.gfile.listdir(directory)
        with timing("rename"):
            tf.io.gfile.rename(path, moved)
        with timing("remove"):
            tf.io.gfile.remove(moved)
    finally:
        if "remove" not in seconds:
            with contextlib.suppress(errors.UserError):
                files.remove(path)
                files.remove(moved)
    if found != content:
        raise errors.UserError(
            f"{directory}: a file that was written there was read with other "
            "bytes; use another directory."
        )
    return Probe(
        account=None if files.is_local(directory) else storage_account.name(),
        seconds=seconds,
        is_listed=path.rpartition("/")[2] in names,
    )
