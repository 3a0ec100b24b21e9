"""The trace of some of a run's steps, for TensorBoard's profiler."""

import contextlib
import dataclasses
import re

import tensorflow as tf

from bert_pretrain import errors, options


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfilingConfig(options.Options):
    profile_steps: str = options.option(
        "A:B traces the steps A to B, in loops of their own, into "
        "<model_dir>/logs for TensorBoard's profiler.",
        "",
        changes_result=False,
    )

    def __post_init__(self):
        super().__post_init__()
        if not self.profile_steps:
            return
        found = re.fullmatch(r"(\d+):(\d+)", self.profile_steps)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise errors.UserError(
                f"--profile_steps={self.profile_steps} must be A:B with "
                "1 <= A <= B, the first and the last step to trace; 110:119 "
                "is an example."
            )

    @property
    def steps(self):
        """The numbers of the steps to trace, the first step being 1."""
        first, _, last = self.profile_steps.partition(":")
        return range(int(first), int(last) + 1) if first else range(0)


class Profiler:
    """Traces steps of a run. What lies between their loops is in it, too."""

    def __init__(self, config, folder):
        self._steps = config.steps
        self._folder = folder
        self._is_tracing = False

    @property
    def borders(self):
        """Steps after which a loop has to end: nothing else is traced."""
        if not self._steps:
            return ()
        return self._steps[0] - 1, self._steps[-1]

    @contextlib.contextmanager
    def tracing(self, step, until):
        """Traces the loop of the steps after `step` up to `until`, if asked."""
        if step + 1 in self._steps and not self._is_tracing:
            tf.profiler.experimental.start(self._folder)
            self._is_tracing = True
        yield
        if until not in self._steps[:-1]:
            self.close()

    def close(self):
        """Writes what was traced."""
        if self._is_tracing:
            self._is_tracing = False
            tf.profiler.experimental.stop()
