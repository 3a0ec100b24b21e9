"""Options that all training runs have."""

import dataclasses
from typing import Literal

from bert_pretrain import errors, options
from bert_pretrain.checkpoints import checkpoint_config
from bert_pretrain.devices import distribution_config
from bert_pretrain.telemetry import telemetry_config

# Devices count steps in 32 bits. The largest batches known are of 64 thousand
# examples.
MAX_STEPS, MAX_BATCH = 2**31 - 1, 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecoveryConfig(options.Options):
    """How many failures a run tolerates."""

    max_bad_steps: int = options.option(
        "Steps in a row with a loss or gradient that is not finite (their "
        "updates are left out) after which the run goes back to the last "
        "good checkpoint and skips the examples since.",
        10,
        changes_result=False,
        at_least=1,
    )
    max_rollbacks: int = options.option(
        "How many times a run may go back; then it stops.",
        3,
        changes_result=False,
        at_least=0,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig(options.Options):
    """AdamW (Loshchilov and Hutter 2019) or LAMB (You et al. 2020)."""

    optimizer: Literal["adamw", "lamb"] = options.option(
        "adamw, or lamb for batches of many thousands.", "adamw"
    )
    weight_decay: float = options.option(
        "Decoupled decay, of matrices and embeddings only.", 0.01, at_least=0
    )
    beta_1: float = options.option(
        "Decay of the mean of gradients.", 0.9, at_least=0, below=1
    )
    beta_2: float = options.option(
        "Decay of the mean of squares.", 0.999, at_least=0, below=1
    )
    epsilon: float = options.option(
        "Added to the root of the squares.", 1e-6, at_least=0
    )
    max_gradient_norm: float = options.option(
        "Gradients are scaled down to this global norm; 0 leaves them.",
        1.0,
        at_least=0,
    )


# Smith 2018 (arXiv 1803.09820), section 5: two equal sides that start and end
# at a tenth of the peak, then the end of the run, which falls to zero.
CYCLE_RISE = 0.45


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig(options.Options):
    """How long a run is, and its learning rate."""

    total_steps: int = options.option(
        "Optimizer steps of the whole run.", at_least=1, at_most=MAX_STEPS
    )
    max_minutes: float = options.option(
        "Time budget: the run ends after so many minutes, and the schedule "
        "with it; 0 for none. What is resumed goes on at the time it had.",
        0.0,
        at_least=0,
    )
    schedule: Literal["linear", "cosine", "one_cycle", "constant"] = (
        options.option(
            "After warmup, the rate falls to zero in a line (linear) or in "
            "half a cosine wave (cosine), or stays until the cooldown "
            "(constant); one_cycle rises for 45 % of the run, falls as long, "
            "and ends at zero.",
            "linear",
        )
    )
    peak_learning_rate: float = options.option(
        "Learning rate at the end of warmup.", 1e-4, above=0
    )
    warmup_steps: int | None = options.option(
        "Optimizer steps before the peak; if not given, a tenth of "
        "total_steps, at most 10,000, or with --max_minutes a tenth of the "
        "time. With a time budget, a number of steps is a share of it too.",
        None,
        at_least=0,
    )
    cooldown_fraction: float = options.option(
        "The last share of a constant schedule, in which it falls to zero.",
        0.2,
        above=0,
        at_most=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_warmup_steps >= self.total_steps:
            raise errors.UserError(
                f"--warmup_steps={self.warmup_steps} must be below "
                f"--total_steps={self.total_steps}."
            )
        if self.schedule == "one_cycle":
            if self.warmup_steps is not None:
                raise errors.UserError(
                    f"--warmup_steps={self.warmup_steps} and "
                    "--schedule=one_cycle both say when the peak is; leave "
                    "one out."
                )
        elif self.schedule == "constant" and (
            self.num_warmup_steps > self.total_steps - self.num_cooldown_steps
        ):
            raise errors.UserError(
                f"--cooldown_fraction={self.cooldown_fraction} of "
                f"{self.total_steps} steps begins before the "
                f"{self.num_warmup_steps} of warmup are done; make either "
                "smaller."
            )

    @property
    def num_warmup_steps(self) -> int:
        """Steps before the peak."""
        if self.schedule == "one_cycle":
            return int(CYCLE_RISE * self.total_steps)
        if self.warmup_steps is not None:
            return self.warmup_steps
        tenth = self.total_steps // 10
        # With a budget, the schedule follows the clock, and total_steps is
        # often much more than the time allows.
        return tenth if self.max_minutes else min(10_000, tenth)

    @property
    def num_cooldown_steps(self) -> int:
        """Steps of the fall at the end of a constant schedule."""
        return max(1, round(self.cooldown_fraction * self.total_steps))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(options.Options):
    """What all runs have: batches, evaluations, the update, the devices."""

    global_batch_size: int = options.option(
        "Examples in a step, over all replicas.",
        256,
        at_least=1,
        at_most=MAX_BATCH,
    )
    accumulation_steps: int = options.option(
        "Microbatches that a replica divides its share of the batch into, to "
        "need less memory; the update is the same.",
        1,
        at_least=1,
        at_most=MAX_BATCH,
    )
    recompute: bool = options.option(
        "Keep only the values between layers, and compute the others again "
        "for the gradient: less memory, a third more time.",
        False,
    )
    steps_per_loop: int = options.option(
        "Steps between two lines of progress; the device is left alone "
        "meanwhile.",
        100,
        changes_result=False,
        at_least=1,
        at_most=MAX_STEPS,
    )
    eval_every_steps: int = options.option(
        "Steps between evaluations on the eval split; 0 for one before the "
        "first step and one after the last only.",
        0,
        changes_result=False,
        at_least=0,
    )
    early_stopping_patience: int = options.option(
        "Evaluations in a row that bring no lower held-out loss, after which "
        "the run ends; 0 for never. Needs eval_every_steps.",
        0,
        changes_result=False,
        at_least=0,
    )
    seed: int = options.option(
        "Seed of initial weights, order of examples, dropout and dynamic "
        "masks.",
        0,
        at_least=0,
        below=2**31,
    )
    optimization: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig
    devices: distribution_config.DistributionConfig = (
        distribution_config.DistributionConfig()
    )
    saving: checkpoint_config.CheckpointConfig
    failures: RecoveryConfig = RecoveryConfig()
    trace: telemetry_config.ProfilingConfig = telemetry_config.ProfilingConfig()
    tracking: telemetry_config.WandbConfig = telemetry_config.WandbConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.early_stopping_patience and not self.eval_every_steps:
            raise errors.UserError(
                f"--early_stopping_patience={self.early_stopping_patience} "
                f"counts evaluations: --eval_every_steps="
                f"{self.eval_every_steps} must be positive."
            )
