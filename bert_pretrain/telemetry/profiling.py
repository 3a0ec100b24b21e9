"""Traces some steps of a run for TensorBoard's profiler."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator

import tensorflow as tf

from bert_pretrain import errors, options


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfilingConfig(options.Options):
    """Which steps are traced."""

    profile_steps: str = options.option(
        "A:B traces the steps A to B for TensorBoard's profiler, and writes "
        "the trace to <model_dir>/logs. These steps are in loops of their own.",
        "",
        changes_result=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.profile_steps:
            return
        found = re.fullmatch(r"(\d+):(\d+)", self.profile_steps)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise errors.UserError(
                f"--profile_steps={self.profile_steps} must be A:B with "
                "1 <= A <= B, the first and the last step to trace, for "
                "example 110:119."
            )

    @property
    def steps(self) -> range:
        """The steps to trace; the first step of a run is 1."""
        first, _, last = self.profile_steps.partition(":")
        return range(int(first), int(last) + 1) if first else range(0)


class Profiler:
    """Traces steps of a run, and everything between their loops."""

    def __init__(self, config: ProfilingConfig, folder: str) -> None:
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
