"""A pretraining run, from its options to its results."""

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

from bert_pretrain import files, locks, options
from bert_pretrain.checkpoints import checkpoint_files, model_directory
from bert_pretrain.data import manifests
from bert_pretrain.devices import distribution, pod
from bert_pretrain.model import config_json
from bert_pretrain.pretraining import (
    blueprint,
    phases,
    pretraining_config,
    run_report,
    word_vectors,
)
from bert_pretrain.telemetry import console
from bert_pretrain.training import course, train_state, training_loop


def train(
    config: pretraining_config.TrainingConfig,
    raise_if_asked: Callable[[], None] = lambda: None,
) -> run_report.Results:
    """Pretrains to `total_steps`; resumes if `model_dir` holds a checkpoint.

    Args:
      raise_if_asked: see `training_loop.train`.

    Raises:
      UserError: if the options, the dataset or the model directory are wrong.
      Interrupted, Diverged, Spoilt: see `training_loop.train`.
    """
    with locks.locked(config.saving.model_dir), pod.naming_losses():
        return _train(config, raise_if_asked)


def _train(
    config: pretraining_config.TrainingConfig,
    raise_if_asked: Callable[[], None],
) -> run_report.Results:
    watch = console.Stopwatch()
    console.quiet_libraries()
    plan = blueprint.plan(config)
    strategy = distribution.build_strategy(config.devices)
    if not isinstance(strategy, tf.distribute.TPUStrategy):
        console.swallow_first_compilation()
    is_changed = _prepare(config, plan, strategy)

    def announce(state: train_state.TrainState) -> None:
        run_report.announce(config, plan, state, strategy)

    def new_state() -> train_state.TrainState:
        state = blueprint.new_state(config, plan)
        # A run that resumes has its embeddings in a checkpoint.
        if config.architecture.initial_embeddings == "cooccurrence" and not any(
            checkpoint_files.list_whole(config.saving.model_dir)
        ):
            word_vectors.initialize(
                state.bert, plan[0].data_dir, plan[0].manifest, config.seed
            )
        return state

    outcome = training_loop.train(
        config,
        plan,
        strategy,
        new_state,
        is_changed=is_changed,
        announce=announce,
        raise_if_asked=raise_if_asked,
    )
    last_phase = course.at_step(plan, outcome.last_phase.from_step)
    results = run_report.make_results(outcome, last_phase, watch)
    files.write_json(
        f"{config.saving.model_dir}/{model_directory.TRAIN_RESULTS_NAME}",
        dataclasses.asdict(results),
    )
    return results


def _prepare(
    config: pretraining_config.TrainingConfig,
    plan: Sequence[phases.Phase],
    strategy: tf.distribute.Strategy,
) -> bool:
    """Checks that all options fit together, and writes them down.

    Returns:
      Whether the model directory holds a run with other options.
    """
    for phase in plan:
        distribution.check_batch(
            phase.global_batch_size,
            strategy.num_replicas_in_sync,
            phase.accumulation_steps,
        )
    pod.check_files(
        strategy, [phase.data_dir for phase in plan], config.saving.model_dir
    )
    return model_directory.prepare(
        pretraining_config.TrainingConfig,
        options.to_dict(config)
        | {
            model_directory.PHASES_NAME: phases.describe(plan),
            model_directory.DATASET_NAME: files.sha256(
                f"{config.data_dir}/{manifests.MANIFEST_NAME}"
            ),
            model_directory.DATASETS_NAME: phases.describe_datasets(plan),
        },
        config_json.architecture(config.architecture, blueprint.longest(plan)),
        manifests.read_vocabulary(config.data_dir, plan[0].manifest),
    )
