"""Output of commands on the console: tables and durations."""

import os
import sys
import time
from collections.abc import Sequence
from typing import TextIO

import tensorflow as tf
import transformers
from absl import logging


def quiet_libraries() -> None:
    """Silences library messages that repeat ours, or have no remedy."""
    logging.set_verbosity(logging.WARNING)  # orbit logs every loop
    transformers.logging.set_verbosity_error()  # it recommends PyTorch


def swallow_first_compilation() -> None:
    """Compiles something small, so that TensorFlow does not tell it later.

    TensorFlow writes three lines to stderr when XLA first compiles in a
    process, and no setting of its own turns them off. Call this once the
    devices are set up, since it starts TensorFlow's runtime.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            with tf.device("CPU:0"):
                tf.function(tf.identity, jit_compile=True)(tf.zeros([]))
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


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
