"""Errors of reading and writing files, turned into errors for the user."""

import contextlib
import errno
import lzma
import os
import zlib
from collections.abc import Iterator

import tensorflow as tf

from bert_pretrain import errors, storage_errors

_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space and run the same "
    "command again",
    errno.EACCES: "permission denied: check the rights on this path",
    errno.ENOENT: "no such file: check the path",
    errno.EISDIR: "this is a directory: name a file",
    errno.ENOTDIR: "a folder in this path is a file: name a directory",
    errno.EROFS: "this file system is read-only: give another folder",
    errno.EDQUOT: "the disk quota is used up: free some space and run the "
    "same command again",
}
_CORRUPT = (
    "the compressed data is truncated or corrupt ({}); fetch the file again"
)
# tf.io.gfile raises TensorFlow's own errors instead of OSError.
_TF_ERRNOS = {
    tf.errors.ResourceExhaustedError: errno.ENOSPC,
    tf.errors.PermissionDeniedError: errno.EACCES,
    tf.errors.NotFoundError: errno.ENOENT,
}
# Object stores and network file systems raise these from time to time.
_TRANSIENT = (
    tf.errors.AbortedError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
    tf.errors.UnknownError,
)


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Adds `path` to the message of an error that occurs in the block.

    Raises:
      UserError: instead of an error of the operating system, of TensorFlow,
        or of a decompressor.
    """
    try:
        yield
    except errors.UserError:
        raise
    except (OSError, tf.errors.OpError) as error:
        raise errors.UserError(f"{path}: {reason(error, path)}.") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise errors.UserError(
            f"{path}: not UTF-8 at byte {error.start} "
            f"(0x{error.object[error.start]:02x}), in line {line}; convert it, "
            "for example with iconv -t UTF-8."
        ) from error
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise errors.UserError(f"{path}: {_CORRUPT.format(error)}.") from error


def is_transient(error: BaseException | None) -> bool:
    """Whether a second try may succeed, judged by the error and its causes."""
    while error is not None:
        if isinstance(error, _TRANSIENT) or (
            isinstance(error, OSError)
            and error.errno is not None
            and error.errno not in _REMEDIES
        ):
            return True
        error = error.__cause__
    return False


def reason(error: Exception, path: str | os.PathLike[str]) -> str:
    """What went wrong with a path, and the remedy; one line without a stop."""
    if isinstance(error, OSError):
        if error.errno is None:
            # bz2 and gzip raise this for data that is not in their format.
            return _CORRUPT.format(_first_line(str(error)))
        text = error.strerror or str(error)
        return _REMEDIES.get(error.errno, text)
    if not isinstance(error, tf.errors.OpError):
        return _first_line(str(error)) or repr(error)
    if said := storage_errors.explain(error.message, str(path)):
        return said
    for kind, code in _TF_ERRNOS.items():
        if isinstance(error, kind):
            return _REMEDIES[code]
    # TensorFlow appends the op and its node.
    return _first_line(error.message) or repr(error)


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")
