"""Traces some steps of a run for TensorBoard's profiler."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from bert_pretrain.telemetry import telemetry_config


class Profiler:
    """Traces steps of a run, and everything between their loops."""

    def __init__(
        self, config: telemetry_config.ProfilingConfig, folder: str
    ) -> None:
        """Prepares it.

        Args:
          config: the steps to trace.
          folder: to write to.
        """
        self._steps = config.steps
        self._folder = folder
        self._is_tracing = False

    @property
    def borders(self) -> tuple[int, ...]:
        """Steps at which a loop must end, so that no other step is traced."""
        if not self._steps:
            return ()
        return self._steps[0] - 1, self._steps[-1]

    @contextlib.contextmanager
    def tracing(self, step: int, until: int) -> Iterator[None]:
        """Traces the loop in the block if its steps are to be traced.

        Args:
          step: the last step before the loop.
          until: the last step of the loop.
        """
        if step + 1 in self._steps and not self._is_tracing:
            tf.profiler.experimental.start(self._folder)
            self._is_tracing = True
        yield
        if until not in self._steps[:-1]:
            self.close()

    def close(self) -> None:
        """Ends the trace and writes it."""
        if self._is_tracing:
            self._is_tracing = False
            tf.profiler.experimental.stop()
