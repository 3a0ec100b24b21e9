"""The trainer: loss, gradients, their sum over replicas, and the update.

A step in words: each replica takes the gradient of the loss, summed over its
predictions. The gradients are summed over the replicas, together with the
counts, and divided by the number of predictions of all replicas. So the result
is the gradient of the mean over the global batch, however unequal the replicas'
shares are. It is clipped once, and applied. If a replica cannot hold its share
of the batch, it computes it in microbatches, and adds their gradients up before
that one exchange.

What is traced here has its conditions and loops in TensorFlow's own words, so
AutoGraph is off. It converted some eighty functions at each start of a program,
in 15 of 52 seconds (docs/benchmarks.md).
"""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence

import orbit
import tensorflow as tf

from bert_pretrain.devices import distribution
from bert_pretrain.evaluation import running_sums
from bert_pretrain.kernels import seeding
from bert_pretrain.model import objectives
from bert_pretrain.telemetry import train_progress
from bert_pretrain.training import optimizer, train_state, training_config

Tensors = Mapping[str, tf.Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpdateConfig:
    """What an update depends on, beside the state and the batch."""

    global_batch_size: int
    dtype: tf.DType  # of the matrix products and hidden states
    max_gradient_norm: float  # 0 for no limit
    seed: int  # of the dropout masks, together with the step
    accumulation_steps: int = 1  # microbatches of a replica's share
    recompute: bool = False  # the inner values of layers, for the gradient


def update_config(
    config: training_config.RunConfig,
    global_batch_size: int,
    accumulation_steps: int,
) -> UpdateConfig:
    """The config of a run's updates with this batch."""
    return UpdateConfig(
        global_batch_size=global_batch_size,
        dtype=distribution.compute_dtype(config.devices),
        max_gradient_norm=config.optimization.max_gradient_norm,
        seed=config.seed,
        accumulation_steps=accumulation_steps,
        recompute=config.recompute,
    )


class Trainer(orbit.StandardTrainer):
    """Updates a `TrainState`, many steps inside one `tf.function`."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        state: train_state.TrainState,
        batches: tf.distribute.DistributedDataset,
        config: UpdateConfig,
    ) -> None:
        """Prepares the training; call it outside of the strategy's scope.

        Args:
          state: made in that scope.
          batches: of the features that `records.parse` gives.
        """
        super().__init__(batches)
        self._strategy = strategy
        self.state = state
        self._config = config
        # They count steps whose update was applied, but all tokens.
        names = [
            "steps",
            "gradient_norm",
            "tokens",
            *state.learner.sum_names,
        ]
        with strategy.scope():
            self._sums = running_sums.RunningSums(names)
            self._longest_bad_row = train_state.counter("longest_bad_row")
        # It belongs to the host. The devices would count a variable of the
        # strategy's, with one more program beside each step.
        with tf.device("CPU:0"):
            self._input_microseconds = train_state.counter("input_microseconds")
        self.last_loop = train_progress.Loop(0, 0, 0.0)  # none yet

    def train(self, num_steps: tf.Tensor) -> dict[str, float]:
        """Trains for `num_steps` steps and returns what is logged of them."""
        start = time.perf_counter()
        self.state.clock.tick()
        sums = super().train(num_steps)  # Reads the sums, so it waits.
        self.state.clock.tick()
        num_steps = int(num_steps)
        self.last_loop = train_progress.Loop(
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

    def train_loop_begin(self) -> None:
        """Sets the loop's counters to zero."""
        self._begin_loop()
        self._input_microseconds.assign(0)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, iterator: tf.distribute.DistributedIterator) -> None:
        """One step, traced into the loop."""
        self._strategy.run(
            self._replica_step, args=(self._next_batch(iterator),)
        )

    def train_loop_end(self) -> dict[str, float]:
        """Reads the loop's sums over all replicas."""
        return self._sums.read()

    # ------------------------------------------------------ between two loops

    @tf.function(autograph=False)
    def _begin_loop(self):
        # One program. If the host assigned the counters, it would call each
        # replica once for each of them.
        self._strategy.run(self._replica_begin)

    def _replica_begin(self):
        self._sums.reset()
        self._longest_bad_row.assign(0)

    def _summarize(self, sums: Mapping[str, float]) -> dict[str, float]:
        num_good = sums["steps"]
        output = self.state.learner.means(sums)
        output["num_predictions"] = int(self.state.num_predictions.numpy())
        output["gradient_norm"] = sums["gradient_norm"] / max(num_good, 1.0)
        if not num_good:
            output = dict.fromkeys(output, math.nan)
        output["parameter_norm"] = float(self._parameter_norm())
        output["learning_rate"] = optimizer.last_learning_rate(
            self.state.optimizer
        )
        return output

    @tf.function(autograph=False)
    def _parameter_norm(self):
        """The global norm of the trained variables on the first replica."""
        norms = self._strategy.run(self._replica_norm)
        return self._strategy.experimental_local_results(norms)[0]

    def _replica_norm(self):
        return tf.linalg.global_norm(
            [tf.convert_to_tensor(v) for v in self.state.variables]
        )

    def is_state_finite(self) -> bool:
        """Whether all weights and all moments of the optimizer are finite."""
        return bool(self._is_finite())

    @tf.function(autograph=False)
    def _is_finite(self):
        found = self._strategy.run(self._replica_is_finite)
        return self._strategy.experimental_local_results(found)[0]

    def _replica_is_finite(self):
        state = self.state
        moments = [
            v for v in state.optimizer.variables() if v.dtype.is_floating
        ]
        return tf.reduce_all(
            [
                tf.reduce_all(tf.math.is_finite(variable))
                for variable in (*state.variables, *moments)
            ]
        )

    # --------------------------------------------------------- inside the loop

    def _next_batch(self, iterator: tf.distribute.DistributedIterator):
        """The next batch; measures how long the host waits for it.

        With an accelerator the host runs ahead, and the device still has work
        while the host waits. So this time is an upper bound of what the input
        costs.
        """
        start = tf.timestamp()
        with tf.control_dependencies([start]):
            batch = next(iterator)
        # Only the first replica's share, which is on this host: the answer is
        # not worth a question to the other hosts of a pod.
        values = [
            self._strategy.experimental_local_results(value)[0]
            for value in tf.nest.flatten(batch)
        ]
        with tf.control_dependencies(values):
            seconds = tf.timestamp() - start
        self._input_microseconds.assign_add(tf.cast(1e6 * seconds, tf.int64))
        return batch

    def _replica_step(self, batch: Tensors) -> None:
        state = self.state
        replica = tf.distribute.get_replica_context()
        learner = state.learner
        counts = learner.num_predictions(batch)
        sums, gradients = self._accumulate(
            batch, _weights(replica, counts), self._dropout_seed(replica)
        )
        losses = [sums[name] for name in learner.loss_names]
        # Apart from `_weights`, the only exchange between replicas in a step.
        first_count = counts[learner.names[0]]
        gradients, totals = _all_reduce(
            replica, (gradients, tf.stack([first_count, *losses]))
        )
        count, *losses = tf.unstack(totals)
        gradients, norm = _divide_and_clip(
            gradients, tf.maximum(count, 1.0), self._config.max_gradient_norm
        )
        is_good = optimizer.is_finite(norm, losses)
        optimizer.apply_if(is_good, state.optimizer, gradients, state.variables)
        self._count(batch, sums, norm, count, is_good)

    def _count(self, batch, sums, norm, count, is_good) -> None:
        """Adds a step to the counters of the run and of the loop."""
        state = self.state
        replica = tf.distribute.get_replica_context()
        in_row = state.bad_steps_in_row
        in_row.assign(tf.where(is_good, tf.zeros_like(in_row), in_row + 1))
        longest = self._longest_bad_row
        longest.assign(tf.maximum(longest, in_row))
        state.num_examples.assign_add(self._config.global_batch_size)
        state.num_predictions.assign_add(
            tf.where(is_good, tf.cast(count, tf.int64), 0)
        )
        # These two are the same on all replicas, whose sums are added up.
        share = 1 / replica.num_replicas_in_sync
        step = {"steps": share, "gradient_norm": norm * share, **sums}
        step = {n: tf.where(is_good, value, 0.0) for n, value in step.items()}
        num_tokens = tf.reduce_sum(batch["attention_mask"])
        self._sums.add({**step, "tokens": num_tokens})

    def _accumulate(self, batch: Tensors, weights: Tensors, seed: tf.Tensor):
        """`_gradients` of a replica's batch, summed over its microbatches."""
        num_microbatches = self._config.accumulation_steps
        if num_microbatches == 1:
            return self._gradients(batch, weights, seed)
        microbatches = {
            name: tf.reshape(
                values,
                [
                    num_microbatches,
                    values.shape[0] // num_microbatches,
                    *values.shape[1:],
                ],
            )
            for name, values in batch.items()
        }

        def add(i, totals):
            of_microbatch = self._gradients(
                {name: values[i] for name, values in microbatches.items()},
                weights,
                seeding.fold_in(seed, i),
            )
            return i + 1, tf.nest.map_structure(tf.add, totals, of_microbatch)

        zeros = (
            {name: tf.zeros([]) for name in self.state.learner.sum_names},
            [tf.zeros(v.shape) for v in self.state.variables],
        )
        _, totals = tf.while_loop(
            lambda i, totals: i < num_microbatches,
            add,
            (tf.constant(0), zeros),
            maximum_iterations=num_microbatches,
        )
        return totals

    def _gradients(self, batch: Tensors, weights: Tensors, seed: tf.Tensor):
        """(`flatten`ed sums, gradients of the weighted sum of the losses)."""
        with tf.GradientTape() as tape:
            sums = self.state.learner.forward(
                batch,
                self._config.dtype,
                seed,
                self._config.recompute,
            )
            loss = tf.add_n(
                [
                    of_objective.loss * weights[name]
                    for name, of_objective in sums.items()
                ]
            )
        return objectives.flatten(sums), [
            tf.convert_to_tensor(gradient)
            for gradient in tape.gradient(loss, self.state.variables)
        ]

    def _dropout_seed(self, replica: tf.distribute.ReplicaContext) -> tf.Tensor:
        """int32 [2], another one for each step and each replica."""
        step = tf.cast(self.state.optimizer.iterations, tf.int32)
        return seeding.fold_in(
            tf.stack([self._config.seed, step]),
            replica.replica_id_in_sync_group,
        )


def _weights(replica: tf.distribute.ReplicaContext, counts: Tensors) -> dict:
    """The weight of each objective's nats, relative to the first objective.

    The loss is the sum of the objectives' means, so the weights are in inverse
    proportion to the counts over all replicas. If there is only one objective,
    its gradient need not wait for this exchange.
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


def _all_reduce(replica: tf.distribute.ReplicaContext, values):
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, values)


def _divide_and_clip(
    gradients: Sequence[tf.Tensor], divisor: tf.Tensor, max_norm: float
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Divides the gradients, and scales them down to the norm `max_norm`.

    Both in one pass over the gradients, after the pass for the norm.

    Returns:
      (the gradients, their norm before they were scaled down).
    """
    norm = tf.linalg.global_norm(gradients) / divisor
    scale = 1 / divisor
    if max_norm:
        scale *= max_norm / tf.maximum(norm, max_norm)
    return [gradient * scale for gradient in gradients], norm
