"""What pretraining runs have reached on held-out text, and when.

All of it is in their logs and options, so a run may be in progress, and the
dataset need not be there.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from bert_pretrain import errors, files
from bert_pretrain.checkpoints import model_directory
from bert_pretrain.data import vocabulary
from bert_pretrain.model import objectives
from bert_pretrain.telemetry import curves, metrics_log


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One evaluation of a run."""

    step: int
    loss: float  # nats, of all objectives; infinite if it was not finite
    minutes: float  # of training until then


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunHistory:
    """The evaluations of a run, in order, at least one."""

    name: str
    evaluations: Sequence[Evaluation]
    step: int
    num_examples: int  # that the run has consumed
    minutes: float  # of training, without evaluations and checkpoints
    is_complete: bool
    train_config: Mapping[str, Any]
    vocab_sha256: str

    @property
    def losses(self) -> dict[int, float]:
        """Step to held-out loss."""
        return {each.step: each.loss for each in self.evaluations}

    @property
    def best(self) -> Evaluation:
        """The evaluation with the least loss."""
        return min(self.evaluations, key=lambda each: each.loss)

    @property
    def examples_per_second(self) -> float:
        """Over the whole run, loops that compiled included."""
        return self.num_examples / (60 * self.minutes or math.inf)


def read(model_dirs: Sequence[str]) -> list[RunHistory]:
    """Reads runs, and gives each of them a different name.

    Raises:
      UserError: if a folder holds no log of pretraining.
    """
    return [
        _history(model_dir, run)
        for model_dir, run in zip(
            model_dirs, curves.read(model_dirs), strict=True
        )
    ]


def common_steps(runs: Sequence[RunHistory]) -> list[int]:
    """The steps at which all runs were evaluated, in order."""
    return sorted(set.intersection(*(set(run.losses) for run in runs)))


def _history(model_dir: str, run: curves.RunCurves) -> RunHistory:
    records = _with_minutes(run.records)
    last = records[-1]
    evaluations = [
        Evaluation(record["step"], loss, record["minutes"])
        for record in metrics_log.evaluations(records, last["step"])
        if (loss := _loss(record)) is not None
    ]
    if not evaluations:
        raise errors.UserError(
            f"{model_dir}/{model_directory.LOG_NAME}: holds no held-out loss "
            "of pretraining; give the folder of a run of bert_pretrain.train."
        )
    return RunHistory(
        name=run.name,
        evaluations=evaluations,
        step=last["step"],
        num_examples=last["num_examples"],
        minutes=last["minutes"],
        is_complete=tf.io.gfile.exists(
            f"{model_dir}/{model_directory.TRAIN_RESULTS_NAME}"
        ),
        train_config=files.read_json(
            f"{model_dir}/{model_directory.TRAIN_CONFIG_NAME}"
        ),
        vocab_sha256=files.sha256(f"{model_dir}/{vocabulary.FILE_NAME}"),
    )


def _with_minutes(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds the minutes of training until each record.

    A loop took as long as its rate says for its examples. So the time between
    two processes of a run is not in it.
    """
    found, seconds, num_examples = [], 0.0, 0
    for record in records:
        if rate := record.get("examples_per_second"):
            seconds += (record["num_examples"] - num_examples) / rate
            num_examples = record["num_examples"]
        found.append({**record, "minutes": seconds / 60})
    return found


def _loss(evaluation: Mapping[str, Any]) -> float | None:
    """The sum of the objectives' losses; None if it has none of them."""
    names = (f"{objective.name}_loss" for objective in objectives.OBJECTIVES)
    losses = [evaluation[name] for name in names if name in evaluation]
    if not losses:
        return None
    return math.inf if None in losses else math.fsum(losses)
