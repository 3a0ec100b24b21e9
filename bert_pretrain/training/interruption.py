"""Signals that ask a run to end, and the exit code that answers each."""

import contextlib
import signal

# SIGINT as shells report it. SIGTERM is how machines that are taken away say
# so; 75 is EX_TEMPFAIL of sysexits.h: "try again", hence: start me again.
CODES = {signal.SIGINT: 130, signal.SIGTERM: 75}


class Interrupted(Exception):
    """Somebody wants the run to end; it is between two loops."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


@contextlib.contextmanager
def watching():
    """Yields a function that raises `Interrupted` once a signal has come.

    A loop cannot be left in its middle: its step and its weights would be of
    different times. A second SIGINT ends the process at once.
    """
    received = []

    def receive(number, frame):
        received.append(number)
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)

    def check():
        if received:
            raise Interrupted(CODES[received[0]])

    earlier = {number: signal.signal(number, receive) for number in CODES}
    try:
        yield check
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
