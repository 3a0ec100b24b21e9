"""What an update of the weights changes, and a checkpoint holds."""

import dataclasses

import tensorflow as tf
import tf_keras

from bert_pretrain.training import schedule


@dataclasses.dataclass(frozen=True)
class TrainState:
    """What an update changes, and a checkpoint holds."""

    bert: tf_keras.Model
    variables: list  # of `bert`, those that are trained
    adam: tf_keras.optimizers.Optimizer
    num_examples: tf.Variable  # int64 [], consumed by the run
    num_predictions: tf.Variable  # int64 [], masked tokens learned from
    set_start: tf.Variable  # int64 [], num_examples when the set was begun
    phase_start: tf.Variable  # int64 [], step at which the phase was begun
    bad_steps_in_row: tf.Variable  # int64 [], up to now
    num_rollbacks: tf.Variable  # int64 [], see recovery.py
    clock: schedule.Clock

    @property
    def step(self):
        return int(self.adam.iterations.numpy())

    @property
    def saved(self):
        """Name to what a checkpoint holds under it."""
        return {
            "model": self.bert,
            "optimizer": self.adam,
            "step": self.adam.iterations,
            "num_examples": self.num_examples,
            "num_predictions": self.num_predictions,
            "set_start": self.set_start,
            "phase_start": self.phase_start,
            "bad_steps_in_row": self.bad_steps_in_row,
            "num_rollbacks": self.num_rollbacks,
            "seconds": self.clock.seconds,
        }


def new_state(bert, adam, variables=None, clock=None):
    """The state at step 0; call it in the strategy's scope.

    Args:
      variables: those that `adam` updates; all trainable ones if not given.
      clock: the one that `adam`'s schedule reads, if it does.
    """
    return TrainState(
        bert,
        bert.trainable_variables if variables is None else variables,
        adam,
        counter("num_examples"),
        counter("num_predictions"),
        counter("set_start"),
        counter("phase_start"),
        counter("bad_steps_in_row"),
        counter("num_rollbacks"),
        clock or schedule.Clock(),
    )


def counter(name):
    return tf.Variable(
        0,
        dtype=tf.int64,
        trainable=False,
        name=name,
        # Each replica counts for itself, and all the same: on a TPU, what is
        # synchronized when written is sent around at each step.
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
