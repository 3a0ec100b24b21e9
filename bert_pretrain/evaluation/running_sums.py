"""Sums over the steps of a loop, without exchange between replicas.

Each replica adds up its own values. At the loop's end one program, with one
sum over the replicas, computes the totals.
"""

from collections.abc import Mapping, Sequence

import tensorflow as tf


class RunningSums:
    """Named sums of scalars.

    They are float64: float32 cannot count the tokens of a long loop.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Makes the sums, all zero; call this in the strategy's scope."""
        self._strategy = tf.distribute.get_strategy()
        self._sums = {
            name: tf.Variable(
                tf.zeros([], tf.float64),
                trainable=False,
                name=name,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )
            for name in names
        }

    def reset(self) -> None:
        """Sets the sums to zero; call this in a replica's context."""
        for variable in self._sums.values():
            variable.assign(0.0)

    def add(self, values: Mapping[str, tf.Tensor]) -> None:
        """Adds the values of this replica; call this in its context."""
        for name, value in values.items():
            self._sums[name].assign_add(tf.cast(value, tf.float64))

    def read(self) -> dict[str, float]:
        """The sums over all replicas."""
        halves = self._gather().numpy().astype(float).sum(axis=0)
        return {
            name: float(high + low)
            for name, high, low in zip(self._sums, *halves, strict=True)
        }

    @tf.function(autograph=False)
    def _gather(self):
        return self._strategy.experimental_local_results(
            self._strategy.run(self._replica_gather)
        )[0]

    def _replica_gather(self):
        """float32 [replicas, 2, names]: the sums of each replica, in halves.

        A TPU does not sum float64 over replicas, so a sum travels as two
        float32 values. Each replica fills a row of its own, so no sum is
        rounded.
        """
        replica = tf.distribute.get_replica_context()
        sums = tf.stack([v.read_value() for v in self._sums.values()])
        high = tf.cast(sums, tf.float32)
        low = tf.cast(sums - tf.cast(high, tf.float64), tf.float32)
        row = tf.one_hot(
            replica.replica_id_in_sync_group, replica.num_replicas_in_sync
        )
        # Not a product: infinity times 0 would put NaN into other rows.
        rows = tf.where(
            row[:, tf.newaxis, tf.newaxis] > 0, tf.stack([high, low]), 0.0
        )
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, rows)
