"""Options of what a run tells: its trace, and Weights & Biases."""

import dataclasses
import re

from bert_pretrain import errors, options


@dataclasses.dataclass(frozen=True, kw_only=True)
class WandbConfig(options.Options):
    """Whether the log is sent to W&B, and to which project."""

    wandb: str = options.option(
        "The Weights & Biases project to log to; without it, nothing is sent. "
        "WANDB_MODE=offline keeps the log for `wandb sync`.",
        "",
        changes_result=False,
    )


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
