"""What commands print: tables, durations, and not what libraries would."""

import time

import transformers
from absl import logging


def quiet_libraries():
    """Keeps to ourselves what our own lines say, or what nobody can mend."""
    logging.set_verbosity(logging.WARNING)  # orbit's log
    transformers.logging.set_verbosity_error()  # "use PyTorch instead"


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self):
        self._start = time.perf_counter()

    @property
    def seconds(self):
        return time.perf_counter() - self._start


def format_duration(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours}:{minutes:02}:{seconds:02}"
        if hours
        else f"{minutes}:{seconds:02}"
    )


def print_table(title, rows, stream):
    """Prints names and values in two columns."""
    print(f"\n{title}", file=stream)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}", file=stream)
