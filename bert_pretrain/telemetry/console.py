"""Output of commands on the console: tables and durations."""

import time
from collections.abc import Sequence
from typing import TextIO

import transformers
from absl import logging


def quiet_libraries() -> None:
    """Silences library messages that repeat ours, or have no remedy."""
    logging.set_verbosity(logging.WARNING)  # orbit logs every loop
    transformers.logging.set_verbosity_error()  # it recommends PyTorch


class Stopwatch:
    """Measures the time since its creation."""

    def __init__(self) -> None:
        """Starts it."""
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the creation."""
        return time.perf_counter() - self._start


def format_duration(seconds: float) -> str:
    """The duration as minutes:seconds or hours:minutes:seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours}:{minutes:02}:{seconds:02}"
        if hours
        else f"{minutes}:{seconds:02}"
    )


def print_table(
    title: str, rows: Sequence[tuple[str, object]], stream: TextIO
) -> None:
    """Prints names and values in two columns."""
    print(f"\n{title}", file=stream)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}", file=stream)
