"""Signals that ask a run to end, and a console that went away.

This file imports nothing large: a run must listen before TensorFlow is loaded.
"""

import contextlib
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, TextIO

# EX_TEMPFAIL of sysexits.h, "try again": start the command again.
RESTART = 75
# Shells report SIGINT as 130. A machine that is taken away sends SIGTERM.
CODES = {signal.SIGINT: 130, signal.SIGTERM: RESTART}


class Interrupted(Exception):
    """The run was asked to end, between two loops."""

    def __init__(self, code: int, message: str = "") -> None:
        """Takes the exit code, and where the run is saved, in words."""
        super().__init__(message)
        self.code = code


def report(interrupted: Interrupted) -> int:
    """Tells the user how to go on, and returns the exit code."""
    print(
        f"Interrupted: {str(interrupted) or 'before the first step'}; run "
        "the same command again to resume.",
        file=sys.stderr,
    )
    return interrupted.code


# Signals that came before `watching`.
_received_early: list[int] = []


def listen() -> None:
    """Notes SIGTERM from now on, for `watching`.

    A command calls it before it imports anything else. Without a handler, the
    signal would end the process with another code, and a loop that starts the
    command again would end too.
    """
    signal.signal(
        signal.SIGTERM, lambda number, frame: _received_early.append(number)
    )


@contextlib.contextmanager
def watching() -> Iterator[Callable[[], None]]:
    """Yields a function that raises `Interrupted` once a signal has come.

    A run cannot be left inside a loop, where step and weights belong to
    different times. A second SIGINT ends the process at once.
    """
    received = list(_received_early)

    def receive(number: int, frame: types.FrameType | None) -> None:
        received.append(number)
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)

    def raise_if_asked() -> None:
        if received:
            raise Interrupted(CODES[signal.Signals(received[0])])

    earlier = {number: signal.signal(number, receive) for number in CODES}
    try:
        yield raise_if_asked
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def survive_closed_console() -> None:
    """Lets the process go on if nobody reads its output any longer.

    With `train … | head`, or after a terminal is closed, a print would end
    the run. What it prints from then on is lost; the log files have it.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None:
            setattr(sys, name, _Survivor(stream))


class _Survivor:
    """A stream whose writes do not fail if its pipe has no reader."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._attempt(self._stream.write, text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _attempt(self, call: Callable[..., Any], *args: Any) -> Any:
        try:
            return call(*args)
        except OSError:  # A closed pipe or terminal, or a full disk.
            # Output that the stream still holds must have somewhere to go.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            return call(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
