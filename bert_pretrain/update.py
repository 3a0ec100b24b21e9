"""The optimizer's update, left out where it would spoil the weights.

A step whose loss or gradient is not finite counts as a step, and its examples
as consumed, but weights and the optimizer's moments stay as they were.
"""

import tensorflow as tf

from bert_pretrain import optimizer


def is_finite(norm, losses):
    """Whether the gradients' global norm and all the losses are numbers.

    A gradient may be finite where the loss is not, hence both.
    """
    return tf.reduce_all(tf.math.is_finite(tf.stack([norm, *losses])))


def apply_if(is_good, adam, gradients, variables):
    """Updates the variables if `is_good`; call it in a replica's context.

    Args:
      is_good: bool [], the same on every replica.
      gradients: already reduced over the replicas.
    """

    def apply():
        optimizer.apply(adam, gradients, variables)

    if isinstance(tf.distribute.get_strategy(), tf.distribute.MirroredStrategy):
        _apply_and_undo(is_good, adam, variables, apply)
    else:
        tf.cond(is_good, apply, lambda: optimizer.count(adam))


def _apply_and_undo(is_good, adam, variables, apply):
    """Its replicas meet in the update, which they cannot in a branch."""
    changed = [
        *variables,
        *(v for v in adam.variables() if v is not adam.iterations),
    ]
    before = [tf.identity(variable) for variable in changed]
    apply()

    def undo(strategy, is_good, before):
        for variable, value in zip(changed, before, strict=True):
            strategy.extended.update(
                variable,
                lambda v, value, is_good: v.assign(tf.where(is_good, v, value)),
                args=(value, is_good),
                group=False,
            )

    tf.distribute.get_replica_context().merge_call(undo, args=(is_good, before))
