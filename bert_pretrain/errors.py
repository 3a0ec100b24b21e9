"""What a user can mend, said in one line: the error, and who turns it into it.

A library raises `UserError` with what is wrong, the value, where, and the
remedy. Only `options.run` prints it; nothing else in the project exits.
"""

import contextlib
import errno
import lzma
import sys
import zlib

import tensorflow as tf

EXIT_CODE = 2

_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space and run the same "
    "command again",
    errno.EACCES: "permission denied: check the rights on this path",
    errno.ENOENT: "no such file: check the path",
    errno.EISDIR: "this is a directory: name a file",
    errno.ENOTDIR: "a part of this path is a file: name a directory",
    errno.EROFS: "this file system is read-only: give another folder",
    errno.EDQUOT: "the disk quota is used up: free some space and run the "
    "same command again",
}
_CORRUPT = (
    "the compressed data is truncated or corrupt ({}); fetch the file again"
)
# tf.io.gfile reports errors as its own classes rather than as OSError.
_TF_ERRNOS = {
    tf.errors.ResourceExhaustedError: errno.ENOSPC,
    tf.errors.PermissionDeniedError: errno.EACCES,
    tf.errors.NotFoundError: errno.ENOENT,
}
# What object stores and network file systems answer now and then.
_TRANSIENT = (
    tf.errors.AbortedError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
    tf.errors.UnknownError,
)


class UserError(ValueError):
    """What the user can mend; ends a main with one line and exit code 2."""


def warn(message: object) -> None:
    """Tells what the user should know although the work goes on."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def naming(path):
    """Turns an error in reading or writing `path` into one that names it.

    Raises:
      UserError: in place of what the operating system, TensorFlow or a
        decompressor raised.
    """
    try:
        yield
    except UserError:
        raise
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"{path}: {_reason(error)}.") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 at byte {error.start} "
            f"(0x{error.object[error.start]:02x}); convert it, for example "
            "with iconv -t UTF-8."
        ) from error
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{path}: {_CORRUPT.format(error)}.") from error


def is_transient(error):
    """Whether the same may succeed when it is tried again, by its causes."""
    while error is not None:
        if isinstance(error, _TRANSIENT) or (
            isinstance(error, OSError)
            and error.errno is not None
            and error.errno not in _REMEDIES
        ):
            return True
        error = error.__cause__
    return False


def _reason(error):
    if isinstance(error, OSError) and error.errno is None:
        # So bz2 and gzip say that what they read is not theirs.
        return _CORRUPT.format(error)
    if isinstance(error, OSError):
        code, text = error.errno, error.strerror or str(error)
    else:
        code = next(
            (
                code
                for kind, code in _TF_ERRNOS.items()
                if isinstance(error, kind)
            ),
            None,
        )
        # Keep the first sentence: TensorFlow appends the op and its node.
        text = error.message.splitlines()[0] if error.message else repr(error)
    return _REMEDIES.get(code, text)
