"""Locks on directories, so that no two processes write in one at a time."""

import contextlib
import errno
import fcntl
import os
import sys

from bert_pretrain import errors

# What file systems answer that do not lock directories; NFS is one.
_NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@contextlib.contextmanager
def locked(directory):
    """Keeps a second process out of a local directory while the block runs.

    The lock dies with its process, however it ends. There is no such lock on
    object stores: on gs:// the caller has to see to it.

    Raises:
      UserError: if another process is in it.
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


def enter(directory):
    """Lets `wait_until_left` wait for `leave`, or this process's end.

    Returns:
      What `leave` takes.
    """
    handle = _open_directory(directory)
    _lock(handle, fcntl.LOCK_SH, directory)
    return handle


def leave(handle):
    _close(handle)


def wait_until_left(directory):
    """Waits for the end of all processes that entered a directory."""
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


def _open_directory(directory):
    """A handle to lock a local directory with; None for object stores."""
    if "://" in directory:
        return None
    with errors.naming(directory):
        os.makedirs(directory, exist_ok=True)
        return os.open(directory, os.O_RDONLY)


def _close(handle):
    if handle is not None:
        os.close(handle)


def _lock(handle, kind, directory):
    """Whether the lock was taken, or there are none on this file system."""
    if handle is None:
        return True
    with errors.naming(directory):
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
