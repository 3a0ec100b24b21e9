"""The config of a training run: its options, and what follows from them.

The state and the update of a run are made from its options alone, so that the
compile check, the rehearsal and the benchmarks make the same.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from bert_pretrain import distribution, errors, options
from bert_pretrain.checkpoints import checkpoint_saver
from bert_pretrain.data import manifests
from bert_pretrain.model import bert_model
from bert_pretrain.telemetry import profiling, wandb_log
from bert_pretrain.training import (
    optimizer,
    phases,
    recovery,
    schedule,
    train_state,
    trainer,
)

# Options that phases can change, see phases.py.
_FIRST_PHASE = (
    "data_dir",
    "global_batch_size",
    "accumulation_steps",
    "masked_fraction",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig(options.Options):
    """The options of a training run."""

    data_dir: str = options.option(
        "Folder of records and manifest, as tfrecord_builders.build makes it.",
        changes_result=False,  # its contents do
    )
    global_batch_size: int = options.option(
        "Examples in a step, over all replicas.", 256, at_least=1
    )
    accumulation_steps: int = options.option(
        "Microbatches that a replica divides its share of the batch into, to "
        "need less memory; the update is the same.",
        1,
        at_least=1,
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
    masked_fraction: float | None = options.option(
        "The share of tokens to predict, for datasets built with "
        "masking=none; the dataset's own if not given.",
        None,
        above=0,
        at_most=1,
        usual="BERT has 0.15",
    )
    phases: str = options.option(
        "A YAML file of what changes at which step (docs/training.md).",
        "",
        changes_result=False,  # What is in it is compared.
    )
    seed: int = options.option(
        "Seed of initial weights, order of examples, dropout and dynamic "
        "masks.",
        0,
        at_least=0,
        below=2**31,
    )
    architecture: bert_model.ModelConfig = bert_model.ModelConfig()
    optimization: optimizer.OptimizerConfig = optimizer.OptimizerConfig()
    schedule: schedule.ScheduleConfig
    devices: distribution.DistributionConfig = distribution.DistributionConfig()
    saving: checkpoint_saver.CheckpointConfig
    failures: recovery.RecoveryConfig = recovery.RecoveryConfig()
    trace: profiling.ProfilingConfig = profiling.ProfilingConfig()
    tracking: wandb_log.WandbConfig = wandb_log.WandbConfig()

    def __post_init__(self):
        super().__post_init__()
        if self.early_stopping_patience and not self.eval_every_steps:
            raise errors.UserError(
                f"--early_stopping_patience={self.early_stopping_patience} "
                f"counts evaluations: --eval_every_steps="
                f"{self.eval_every_steps} must be positive."
            )


def plan(
    config: TrainingConfig,
    known_manifests: Mapping[str, manifests.Manifest] | None = None,
) -> list[phases.Phase]:
    """The phases that the options and their file ask for.

    Args:
      known_manifests: see `phases.read`.
    """
    beginning = {name: getattr(config, name) for name in _FIRST_PHASE}
    beginning["peak_learning_rate"] = config.schedule.peak_learning_rate
    return phases.read(
        config.phases, beginning, config.schedule.total_steps, known_manifests
    )


def longest(plan: Sequence[phases.Phase]) -> manifests.Manifest:
    """The manifest of the phase with the longest rows."""
    return max((phase.manifest for phase in plan), key=lambda m: m.seq_length)


def new_state(
    config: TrainingConfig, plan: Sequence[phases.Phase]
) -> train_state.TrainState:
    """Model, optimizer and clock at step 0; call it in the strategy's scope."""
    bert = bert_model.build(config.architecture, longest(plan), config.seed)
    variables = bert_model.trained_variables(bert, config.architecture)
    clock = schedule.Clock(config.schedule.max_minutes)
    changes = [
        schedule.Change(
            from_step=phase.from_step,
            peak_learning_rate=phase.peak_learning_rate,
            warmup_steps=phase.warmup_steps,
        )
        for phase in plan
    ]
    rate = schedule.Schedule(config.schedule, clock, changes)
    return train_state.new_state(
        bert,
        optimizer.build(config.optimization, rate, variables),
        variables,
        clock,
    )


def update_config(
    config: TrainingConfig, global_batch_size: int, accumulation_steps: int
) -> trainer.UpdateConfig:
    """The config of the updates of a phase with this batch."""
    return trainer.UpdateConfig(
        global_batch_size=global_batch_size,
        dtype=distribution.compute_dtype(config.devices),
        max_gradient_norm=config.optimization.max_gradient_norm,
        seed=config.seed,
        accumulation_steps=accumulation_steps,
        recompute=config.recompute,
    )
