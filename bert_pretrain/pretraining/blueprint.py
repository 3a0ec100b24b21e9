"""What a run is made of, from its options alone: phases, state, update.

The run, the compile check, the rehearsal and the benchmarks make the same.
"""

from collections.abc import Mapping, Sequence

from bert_pretrain.data import manifests
from bert_pretrain.model import bert_model, objectives
from bert_pretrain.pretraining import phases, pretraining_config
from bert_pretrain.training import optimizer, schedule, train_state

# Options that phases can change, see phases.py.
_FIRST_PHASE = (
    "data_dir",
    "global_batch_size",
    "accumulation_steps",
    "masked_fraction",
)


def plan(
    config: pretraining_config.TrainingConfig,
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
    config: pretraining_config.TrainingConfig, plan: Sequence[phases.Phase]
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
        objectives.Pretraining(bert),
        optimizer.build(config.optimization, rate, variables),
        variables,
        clock,
    )
