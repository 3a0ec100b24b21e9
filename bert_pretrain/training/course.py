"""The course of a run: its phases.

The loop is the same for every run; a phase says which examples it reads, and
what measures the model. Pretraining has one kind of phase, fine-tuning another.
"""

import abc
import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Protocol, TypeVar

import tensorflow as tf

from bert_pretrain.model import objectives


class Evaluator(Protocol):
    """Measures a model on a held-out split."""

    def evaluate(self, num_steps: tf.Tensor) -> dict[str, float]:
        """The metrics by name, after so many batches."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase(abc.ABC):
    """A stretch of a run in which only the learning rate changes."""

    from_step: int
    until_step: int
    global_batch_size: int
    accumulation_steps: int
    peak_learning_rate: float
    warmup_steps: int = 0  # of this phase, besides the run's own
    reset_optimizer: bool = False

    @property
    @abc.abstractmethod
    def dataset(self) -> str:
        """The name of what it reads; phases of one dataset are in a row."""

    @property
    @abc.abstractmethod
    def seq_length(self) -> int:
        """Tokens of a row, with padding."""

    @property
    def examples_per_row(self) -> float:
        """How many the reader of the log is to count; on average."""
        return 1.0

    @property
    @abc.abstractmethod
    def num_predictions(self) -> int:
        """Positions of a row where a word of the vocabulary is predicted."""

    @abc.abstractmethod
    def train_batches(
        self, strategy: tf.distribute.Strategy, seed: int, examples: range
    ) -> tf.distribute.DistributedDataset:
        """Batches of a range of the examples that the run reads."""

    @abc.abstractmethod
    def evaluator(
        self,
        strategy: tf.distribute.Strategy,
        learner: objectives.Learner,
        dtype: tf.DType,
    ) -> tuple[Evaluator, int]:
        """(What measures the model on held-out text, batches of this text)."""

    @abc.abstractmethod
    def naming_failures(self) -> contextlib.AbstractContextManager[None]:
        """Turns errors of TensorFlow into ones that name the data."""


AnyPhase = TypeVar("AnyPhase", bound=Phase)


def at_step(phases: Sequence[AnyPhase], step: int) -> AnyPhase:
    """The phase that the step after `step` steps belongs to."""
    return next(p for p in reversed(phases) if p.from_step <= step)


def dataset_start(phases: Sequence[Phase], phase: Phase) -> int:
    """The step at which the run began with the dataset of a phase."""
    return next(p for p in phases if p.dataset == phase.dataset).from_step
