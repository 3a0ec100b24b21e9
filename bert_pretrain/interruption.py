"""Signals that ask a run to end, and the exit code for each."""

import contextlib
import signal
import types
from collections.abc import Callable, Iterator

# Shells report SIGINT as 130. A machine that is taken away sends SIGTERM; 75
# is EX_TEMPFAIL of sysexits.h, "try again": start the command again.
CODES = {signal.SIGINT: 130, signal.SIGTERM: 75}


class Interrupted(Exception):
    """The run was asked to end, between two loops."""

    def __init__(self, code: int, message: str = "") -> None:
        """Takes the exit code, and where the run is saved, in words."""
        super().__init__(message)
        self.code = code


@contextlib.contextmanager
def watching() -> Iterator[Callable[[], None]]:
    """Yields a function that raises `Interrupted` once a signal has come.

    A run cannot be left inside a loop, where step and weights belong to
    different times. A second SIGINT ends the process at once.
    """
    received: list[int] = []

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
