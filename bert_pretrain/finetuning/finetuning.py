"""Fine-tuning: a task, learned from several seeds, scored and written.

metrics.json           mean, deviation and values of each score
predictions.jsonl      what all seeds together say of the dev examples
test_predictions.jsonl the same of the test examples
scores.png             confusion and calibration, or numbers against numbers
seed-N/                the model of a seed, as HuggingFace's classes read it
runs/seed-N/           the trainer's directory, with checkpoints and log
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from bert_pretrain import errors, files, locks, options
from bert_pretrain.checkpoints import pretrained
from bert_pretrain.data import labelled_rows
from bert_pretrain.devices import distribution, pod
from bert_pretrain.evaluation import scores
from bert_pretrain.finetuning import (
    augmentation,
    finetune_config,
    kinds,
    task_evaluator,
    task_run,
)
from bert_pretrain.interchange import task_json
from bert_pretrain.tasks import examples, task
from bert_pretrain.telemetry import console, curves

METRICS_NAME = "metrics.json"
PREDICTIONS_NAME = "predictions.jsonl"
TEST_PREDICTIONS_NAME = "test_predictions.jsonl"
CHART_NAME = "scores.png"
_POOLER = "bert.pooler.dense.weight"


@dataclasses.dataclass(frozen=True)
class _Split:
    """Labelled examples that measure a model, and what the seeds say."""

    examples: Any
    pieces: labelled_rows.Pieces
    outputs: list[dict[str, np.ndarray]]  # of each seed
    scores: list[dict[str, float]]  # of each seed

    def together(self) -> dict[str, np.ndarray]:
        """The mean of the seeds' outputs."""
        return {
            name: scores.ensemble([each[name] for each in self.outputs])
            for name in self.outputs[0]
        }


def finetune(
    config: finetune_config.FinetuneConfig,
    raise_if_asked: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Fine-tunes once for each seed; goes on where it was interrupted.

    Returns:
      The content of metrics.json.

    Raises:
      UserError: if the options, the files or the model are wrong.
      Interrupted, Diverged, Spoilt: see `training_loop.train`.
    """
    with locks.locked(config.output_dir), pod.naming_losses():
        return _finetune(config, raise_if_asked)


def _finetune(
    config: finetune_config.FinetuneConfig, raise_if_asked: Callable[[], None]
) -> dict[str, Any]:
    watch = console.Stopwatch()
    console.quiet_libraries()
    encoder = pretrained.read(
        config.init_from, with_weights=not config.from_scratch
    )
    _check_length(config, encoder)
    what = kinds.task_of(config.what, encoder.vocabulary)
    train = what.read(config.train_file, is_labelled=True, is_training=True)
    what.learn_labels(train)
    splits = {
        name: _read_split(what, path)
        for name, path in (("dev", config.dev_file), ("test", config.test_file))
        if path
    }
    strategy = distribution.build_strategy(config.devices)
    if not isinstance(strategy, tf.distribute.TPUStrategy):
        console.swallow_first_compilation()
    material = task_run.Material(
        strategy=strategy,
        encoder=encoder,
        task=what,
        description=_describe(config, encoder, what),
        dev=splits["dev"].examples,
        dev_pieces=splits["dev"].pieces,
        files_sha256=_files_sha256(config),
    )
    for seed in config.seed_numbers:
        raise_if_asked()
        chosen = _choose(train, config.max_train_examples, seed)
        if config.learning.augmented_copies:
            chosen = augmentation.augment(
                chosen, encoder, config.learning, seed
            )
        learner, layout = task_run.learn(
            config, seed, material, chosen, raise_if_asked
        )
        for split in splits.values():
            evaluator = task_evaluator.TaskEvaluator(
                strategy,
                learner,
                split.pieces,
                task_run.layout_of(split.pieces, layout),
                distribution.compute_dtype(config.devices),
            )
            split.outputs.append(evaluator.outputs())
            split.scores.append(what.scores(split.examples, split.outputs[-1]))
        task_run.write(
            config,
            learner,
            material,
            f"{config.output_dir}/seed-{seed}",
            splits["dev"].scores[-1],
        )
    metrics = _report(config, what, splits, len(train))
    metrics["seconds"] = round(watch.seconds, 1)
    files.write_json(f"{config.output_dir}/{METRICS_NAME}", metrics)
    return metrics


def _check_length(
    config: finetune_config.FinetuneConfig, encoder: pretrained.Pretrained
) -> None:
    length = config.what.max_seq_length
    num_positions = encoder.config.max_position_embeddings
    if length > num_positions:
        raise errors.UserError(
            f"--max_seq_length={length}: the model in {config.init_from} has "
            f"{num_positions} positions; give at most so many."
        )


def _read_split(what: task.Task, path: str) -> _Split:
    found = what.read(path, is_labelled=True, is_training=False)
    return _Split(found, what.encode(found, is_labelled=True), [], [])


def _describe(
    config: finetune_config.FinetuneConfig,
    encoder: pretrained.Pretrained,
    what: task.Task,
) -> task_json.Task:
    pooling = config.what.pooling
    if pooling == "auto":
        # Only sentence pairs train the pooler, and with it the state of [CLS].
        pooling = "cls" if _POOLER in encoder.arrays else "mean"
    return task_json.Task(
        kind=what.kind,
        pooling=pooling,
        max_seq_length=config.what.max_seq_length,
        labels=what.labels,
        options=options.to_dict(config.what),
        base_model=config.init_from,
    )


def _files_sha256(config: finetune_config.FinetuneConfig) -> str:
    """Of what is learned, and of what decides which checkpoint is the best."""
    return "-".join(
        files.sha256(path)[:16] for path in (config.train_file, config.dev_file)
    )


def _choose(train: Any, num_examples: int, seed: int) -> Any:
    """Some of the examples, drawn from the seed, in the order of the file."""
    if not num_examples or num_examples >= len(train):
        return train
    drawn = np.random.default_rng(seed).permutation(len(train))[:num_examples]
    return examples.take(train, sorted(drawn.tolist()))


def _report(
    config: finetune_config.FinetuneConfig,
    what: task.Task,
    splits: Mapping[str, _Split],
    num_examples: int,
) -> dict[str, Any]:
    """Writes predictions and the chart; returns the scores."""
    metrics: dict[str, Any] = {
        "task": config.what.task,
        "metric": what.metric,
        "num_train_examples": min(
            num_examples, config.max_train_examples or num_examples
        ),
        "seeds": list(config.seed_numbers),
    }
    for name, split in splits.items():
        summary: dict[str, Any] = dict(scores.summarize(split.scores))
        outputs = split.outputs[0]
        # Vectors of different models have no mean.
        if what.kind != "embedding" and split.outputs[1:]:
            outputs = split.together()
            summary["ensemble"] = what.scores(split.examples, outputs)
        if name == "dev":
            metrics |= summary
        else:
            metrics[name] = summary
        files.write_json_lines(
            f"{config.output_dir}/"
            + (PREDICTIONS_NAME if name == "dev" else TEST_PREDICTIONS_NAME),
            what.answers(split.examples, outputs),
        )
        figure = what.figure(split.examples, outputs)
        if name == "dev" and figure is not None:
            curves.write_png(figure, f"{config.output_dir}/{CHART_NAME}")
    return metrics
