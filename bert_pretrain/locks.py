"""Locks on directories, so that only one process at a time writes there."""

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Iterator

from bert_pretrain import errors, file_errors, files

# Errors of file systems that cannot lock directories, for example NFS.
_NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@contextlib.contextmanager
def locked(directory: str) -> Iterator[None]:
    """Locks a local directory against other processes during the block.

    The lock ends with its process, even if the process is killed. Object
    stores have no such lock: on gs:// the user must prevent a second process.

    Raises:
      UserError: if another process has locked the directory.
    """
    handle = _open_directory(directory)
    try:
        if not _lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, directory):
            raise errors.UserError(
                f"{directory}: another process is working in this folder; "
                "wait for it to end, or give another folder."
            )
        yield
    finally:
        _close(handle)


def enter(directory: str) -> int | None:
    """Makes `wait_until_left` wait until `leave`, or the end of this process.

    Returns:
      A handle for `leave`; None for object stores.
    """
    handle = _open_directory(directory)
    _lock(handle, fcntl.LOCK_SH, directory)
    return handle


def leave(handle: int | None) -> None:
    """Ends the lock that `enter` has taken."""
    _close(handle)


def wait_until_left(directory: str) -> None:
    """Waits until all processes that called `enter` have left."""
    handle = _open_directory(directory)
    try:
        if not _lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, directory):
            print(
                f"Waiting for processes that still work in {directory} …",
                file=sys.stderr,
            )
            _lock(handle, fcntl.LOCK_EX, directory)
    finally:
        _close(handle)


def _open_directory(directory: str) -> int | None:
    """Opens a local directory for locking; returns None for object stores."""
    if not files.is_local(directory):
        return None
    with file_errors.naming(directory):
        os.makedirs(directory, exist_ok=True)
        return os.open(directory, os.O_RDONLY)


def _close(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


def _lock(handle: int | None, kind: int, directory: str) -> bool:
    """Returns False if another process has the lock.

    Returns True without a lock if the file system has no locks.
    """
    if handle is None:
        return True
    with file_errors.naming(directory):
        try:
            fcntl.flock(handle, kind)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            errors.warn(
                f"{directory} is on a file system without locks; make sure "
                "that no other build works in it."
            )
    return True
