"""The state of a run: what an update changes, and what a checkpoint holds."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from bert_pretrain.model import objectives
from bert_pretrain.training import schedule


@dataclasses.dataclass(frozen=True)
class TrainState:
    """All variables of a run; each counter is an int64 scalar."""

    learner: objectives.Learner
    variables: Sequence[tf.Variable]  # of the model, those that are trained
    optimizer: tf_keras.optimizers.Optimizer
    num_examples: tf.Variable  # consumed by the run
    num_predictions: tf.Variable  # masked tokens that the run learned from
    dataset_start: tf.Variable  # num_examples when the dataset was begun
    phase_start: tf.Variable  # step at which the phase was begun
    bad_steps_in_row: tf.Variable  # the newest steps that were left out
    num_rollbacks: tf.Variable  # see recovery.py
    clock: schedule.Clock

    @property
    def bert(self) -> tf_keras.Model:
        """The model that is trained."""
        return self.learner.bert

    @property
    def step(self) -> int:
        """The number of updates so far, the ones left out included."""
        return int(self.optimizer.iterations.numpy())

    @property
    def saved(self) -> dict[str, Any]:
        """What a checkpoint holds, by its name there."""
        return {
            **self.learner.trackables,
            "optimizer": self.optimizer,
            "step": self.optimizer.iterations,
            "num_examples": self.num_examples,
            "num_predictions": self.num_predictions,
            "set_start": self.dataset_start,
            "phase_start": self.phase_start,
            "bad_steps_in_row": self.bad_steps_in_row,
            "num_rollbacks": self.num_rollbacks,
            "seconds": self.clock.seconds,
        }


def new_state(
    learner: objectives.Learner,
    optimizer: tf_keras.optimizers.Optimizer,
    variables: Sequence[tf.Variable] | None = None,
    clock: schedule.Clock | None = None,
) -> TrainState:
    """The state at step 0; call it in the strategy's scope.

    Args:
      variables: those that `optimizer` updates; by default all trainable ones.
      clock: the one that the optimizer's learning rate follows, if it does.
    """
    return TrainState(
        learner,
        learner.bert.trainable_variables if variables is None else variables,
        optimizer,
        counter("num_examples"),
        counter("num_predictions"),
        counter("set_start"),
        counter("phase_start"),
        counter("bad_steps_in_row"),
        counter("num_rollbacks"),
        clock or schedule.Clock(),
    )


def counter(name: str) -> tf.Variable:
    """An int64 scalar that every replica counts for itself, all the same.

    A TPU would exchange a synchronized variable between its cores at every
    step.
    """
    return tf.Variable(
        0,
        dtype=tf.int64,
        trainable=False,
        name=name,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
