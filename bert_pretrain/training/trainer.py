"""One loop of updates: loss, gradients, their reduction, the update.

A step in words: each replica takes the gradient of the loss summed over its
predictions; the gradients are summed over the replicas, together with the
counts, and divided by the predictions of all. So they are the gradient of the
mean over the global batch, however unequal the shares. They are clipped once,
and applied. Where its batch is more than a replica can hold, it is computed in
parts, whose gradients are added up before that one reduction.
"""

import dataclasses
import math
import time

import orbit
import tensorflow as tf

from bert_pretrain.model import objectives, seeding
from bert_pretrain.training import optimizer, running_sums, train_state


@dataclasses.dataclass(frozen=True)
class Loop:
    """How much one loop did, and in what time."""

    num_steps: int
    num_examples: int
    seconds: float
    longest_bad_row: int = 0  # steps in a row whose update was not applied
    num_tokens: int = 0  # without padding
    input_seconds: float = 0.0  # in which the host waited for batches


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpdateConfig:
    """What an update depends on beside the state and the batch."""

    global_batch_size: int
    dtype: tf.DType  # of the matrix products and hidden states
    max_gradient_norm: float  # 0 for no limit
    seed: int  # of the dropout masks, together with the step
    accumulation_steps: int = 1  # parts that a replica's batch is computed in
    recompute: bool = False  # a layer's inner values, for the gradient


class Trainer(orbit.StandardTrainer):
    """Updates a `State`; many steps inside one `tf.function`."""

    def __init__(self, strategy, state, batches, config):
        """Prepares the training; call it outside of the strategy's scope.

        Args:
          state: made in that scope.
          batches: distributed batches of `records.parse`'s features.
        """
        super().__init__(batches)
        self._strategy = strategy
        self.state = state
        self._config = config
        # Of the steps whose update was applied; the tokens are all that were
        # computed.
        names = [
            "steps",
            "gradient_norm",
            "tokens",
            *objectives.sum_names(state.bert),
        ]
        with strategy.scope():
            self._sums = running_sums.RunningSums(names)
            self._longest_bad_row = train_state.counter("longest_bad_row")
        # The host's own: one of the strategy's would be counted on the
        # devices, by a program beside each step.
        with tf.device("CPU:0"):
            self._input_microseconds = train_state.counter("input_microseconds")
        self.last_loop = None

    def train(self, num_steps):
        start = time.perf_counter()
        self.state.clock.tick()
        sums = super().train(num_steps)  # Reads the sums, hence waits.
        self.state.clock.tick()
        num_steps = int(num_steps)
        self.last_loop = Loop(
            num_steps,
            num_steps * self._config.global_batch_size,
            time.perf_counter() - start,
            int(self._longest_bad_row.numpy()),
            int(sums["tokens"]),
            int(self._input_microseconds.numpy()) / 1e6,
        )
        return self._summarize(sums) | {
            "bad_steps": num_steps - round(sums["steps"])
        }

    def train_loop_begin(self):
        self._begin_loop()
        self._input_microseconds.assign(0)

    def train_step(self, iterator):
        self._strategy.run(
            self._replica_step, args=(self._next_batch(iterator),)
        )

    def train_loop_end(self):
        return self._sums.read()

    def _summarize(self, sums):
        """What is told of a loop, from its sums."""
        num_good = sums["steps"]
        output = objectives.means(sums)
        output["num_predictions"] = int(self.state.num_predictions.numpy())
        output["gradient_norm"] = sums["gradient_norm"] / max(num_good, 1.0)
        if not num_good:
            output = dict.fromkeys(output, math.nan)
        output["parameter_norm"] = float(self._parameter_norm())
        output["learning_rate"] = optimizer.last_learning_rate(self.state.adam)
        return output

    def _next_batch(self, iterator):
        """The next batch; notes how long the host had to wait for it.

        On accelerators the host runs ahead of the device, which then has work
        while the host waits: the share is the most that input can cost.
        """
        start = tf.timestamp()
        with tf.control_dependencies([start]):
            batch = next(iterator)
        # Of the first replica, which is on this host: to ask the others of a
        # pod takes longer than the answer is worth.
        values = [
            self._strategy.experimental_local_results(value)[0]
            for value in tf.nest.flatten(batch)
        ]
        with tf.control_dependencies(values):
            seconds = tf.timestamp() - start
        self._input_microseconds.assign_add(tf.cast(1e6 * seconds, tf.int64))
        return batch

    @tf.function
    def _begin_loop(self):
        # One program: assigned by the host, each counter on each replica
        # would take a call of its own.
        self._strategy.run(self._replica_begin)

    def _replica_begin(self):
        self._sums.reset()
        self._longest_bad_row.assign(0)

    @tf.function
    def _parameter_norm(self):
        """The global norm of what is trained, as on the first replica."""
        norms = self._strategy.run(self._replica_norm)
        return self._strategy.experimental_local_results(norms)[0]

    def _replica_norm(self):
        return tf.linalg.global_norm(
            [tf.convert_to_tensor(v) for v in self.state.variables]
        )

    def _replica_step(self, batch):
        replica = tf.distribute.get_replica_context()
        counts = objectives.num_predictions(self.state.bert, batch)
        sums, gradients = self._accumulate(
            batch, _weights(replica, counts), self._dropout_seed(replica)
        )
        losses_ = [value for name, value in sums.items() if "loss" in name]
        # All that replicas tell each other in a step, but for `_weights`.
        gradients, totals = _all_reduce(
            replica, (gradients, tf.stack([counts["masked_lm"], *losses_]))
        )
        count, *losses_ = tf.unstack(totals)
        gradients, norm = _divide_and_clip(
            gradients, tf.maximum(count, 1.0), self._config.max_gradient_norm
        )
        is_good = optimizer.is_finite(norm, losses_)
        optimizer.apply_if(
            is_good, self.state.adam, gradients, self.state.variables
        )
        self._count_bad_steps(is_good)
        self.state.num_examples.assign_add(self._config.global_batch_size)
        self.state.num_predictions.assign_add(
            tf.where(is_good, tf.cast(count, tf.int64), 0)
        )
        # The sums add up over the replicas, where these are the same.
        share = 1 / replica.num_replicas_in_sync
        step = {"steps": share, "gradient_norm": norm * share, **sums}
        step = {n: tf.where(is_good, value, 0.0) for n, value in step.items()}
        num_tokens = tf.reduce_sum(batch["attention_mask"])
        self._sums.add({**step, "tokens": num_tokens})

    def _count_bad_steps(self, is_good):
        in_row = self.state.bad_steps_in_row
        in_row.assign(tf.where(is_good, tf.zeros_like(in_row), in_row + 1))
        longest = self._longest_bad_row
        longest.assign(tf.maximum(longest, in_row))

    def _accumulate(self, batch, weights, dropout_seed):
        """`_gradients` of a replica's batch, computed in equal parts."""
        num_parts = self._config.accumulation_steps
        if num_parts == 1:
            return self._gradients(batch, weights, dropout_seed)
        parts = {
            name: tf.reshape(
                values,
                [num_parts, values.shape[0] // num_parts, *values.shape[1:]],
            )
            for name, values in batch.items()
        }

        def add(i, totals):
            part = self._gradients(
                {name: values[i] for name, values in parts.items()},
                weights,
                seeding.fold_in(dropout_seed, i),
            )
            return i + 1, tf.nest.map_structure(tf.add, totals, part)

        zeros = (
            {
                name: tf.zeros([])
                for name in objectives.sum_names(self.state.bert)
            },
            [tf.zeros(v.shape) for v in self.state.variables],
        )
        _, totals = tf.while_loop(
            lambda i, totals: i < num_parts,
            add,
            (tf.constant(0), zeros),
            maximum_iterations=num_parts,
        )
        return totals

    def _gradients(self, batch, weights, dropout_seed):
        """(`flatten`ed sums, gradients of the weighed sum of the losses)."""
        with tf.GradientTape() as tape:
            sums = objectives.forward(
                self.state.bert,
                batch,
                self._config.dtype,
                dropout_seed,
                self._config.recompute,
            )
            loss = tf.add_n(
                [part.loss * weights[name] for name, part in sums.items()]
            )
        return objectives.flatten(sums), [
            tf.convert_to_tensor(gradient)
            for gradient in tape.gradient(loss, self.state.variables)
        ]

    def _dropout_seed(self, replica):
        """int32 [2], another one for each step and each replica."""
        return seeding.fold_in(
            tf.stack(
                [
                    self._config.seed,
                    tf.cast(self.state.adam.iterations, tf.int32),
                ]
            ),
            replica.replica_id_in_sync_group,
        )


def _weights(replica, counts):
    """What a nat of each objective is worth, beside one of the first.

    The means of the objectives add up, so it is in inverse proportion to the
    counts of all replicas. Where there is one objective alone its gradient
    need not wait for these.
    """
    first, *others = counts
    if not others:
        return {first: 1.0}
    # A batch may hold no prediction at all.
    counts = {
        name: tf.maximum(count, 1.0)
        for name, count in _all_reduce(replica, counts).items()
    }
    return {name: counts[first] / count for name, count in counts.items()}


def _all_reduce(replica, values):
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, values)


def _divide_and_clip(gradients, divisor, max_norm):
    """(Gradients divided, then scaled down to the norm; their norm before).

    In one pass over them, after the one for the norm.
    """
    norm = tf.linalg.global_norm(gradients) / divisor
    scale = 1 / divisor
    if max_norm:
        scale *= max_norm / tf.maximum(norm, max_norm)
    return [gradient * scale for gradient in gradients], norm
