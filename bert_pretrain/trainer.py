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
import tf_keras

from bert_pretrain import (
    encoder,
    losses,
    model,
    optimizer,
    running_sums,
    schedule,
    seeding,
    update,
)


@dataclasses.dataclass(frozen=True)
class Loop:
    """How much one loop did, and in what time."""

    num_steps: int
    num_examples: int
    seconds: float
    longest_bad_row: int = 0  # steps in a row whose update was not applied
    num_tokens: int = 0  # without padding
    input_seconds: float = 0.0  # in which the host waited for batches


@dataclasses.dataclass(frozen=True)
class State:
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpdateConfig:
    """What an update depends on beside the state and the batch."""

    global_batch_size: int
    dtype: tf.DType  # of the matrix products and hidden states
    max_gradient_norm: float  # 0 for no limit
    seed: int  # of the dropout masks, together with the step
    accumulation_steps: int = 1  # parts that a replica's batch is computed in
    recompute: bool = False  # a layer's inner values, for the gradient


def new_state(bert, adam, variables=None, clock=None):
    """The state at step 0; call it in the strategy's scope.

    Args:
      variables: those that `adam` updates; all trainable ones if not given.
      clock: the one that `adam`'s schedule reads, if it does.
    """
    return State(
        bert,
        bert.trainable_variables if variables is None else variables,
        adam,
        _counter("num_examples"),
        _counter("num_predictions"),
        _counter("set_start"),
        _counter("phase_start"),
        _counter("bad_steps_in_row"),
        _counter("num_rollbacks"),
        clock or schedule.Clock(),
    )


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
        names = ["steps", "gradient_norm", "tokens", *sum_names(state.bert)]
        with strategy.scope():
            self._sums = running_sums.RunningSums(names)
            self._longest_bad_row = _counter("longest_bad_row")
        # The host's own: one of the strategy's would be counted on the
        # devices, by a program beside each step.
        with tf.device("CPU:0"):
            self._input_microseconds = _counter("input_microseconds")
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
        output = means(sums)
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
        counts = num_predictions(self.state.bert, batch)
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
        is_good = update.is_finite(norm, losses_)
        update.apply_if(
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
            {name: tf.zeros([]) for name in sum_names(self.state.bert)},
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
            sums = forward(
                self.state.bert,
                batch,
                self._config.dtype,
                dropout_seed,
                self._config.recompute,
            )
            loss = tf.add_n(
                [part.loss * weights[name] for name, part in sums.items()]
            )
        return flatten(sums), [
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


def forward(bert, batch, dtype, dropout_seed=None, recompute=False):
    """Runs the model on one replica's batch.

    Returns:
      Objective to its `losses.Sums`.
    """
    positions_BQ = batch["masked_lm_positions"]
    if model.has_pairs(bert):
        positions_BQ = tf.pad(positions_BQ, [[0, 0], [1, 0]])  # [CLS] first
    states_BQH = encoder.encode(
        bert, batch, dtype, dropout_seed, recompute, positions_BQ
    )
    masked_BPH = states_BQH[:, 1:] if model.has_pairs(bert) else states_BQH
    # As rows of one matrix: a TPU stores the last two axes in tiles, which
    # the slots of a row would not fill.
    sums = {
        "masked_lm": losses.masked_lm_sums(
            encoder.masked_lm_logits(
                bert, tf.reshape(masked_BPH, [-1, masked_BPH.shape[-1]])
            ),
            tf.reshape(batch["masked_lm_ids"], [-1]),
            tf.reshape(batch["masked_lm_weights"], [-1]),
        )
    }
    if model.has_pairs(bert):
        sums["next_sentence"] = losses.next_sentence_sums(
            encoder.next_sentence_logits(bert, states_BQH[:, 0]),
            batch["next_sentence_labels"],
            _row_weights(batch),
        )
    return sums


def num_predictions(bert, batch):
    """Objective to what `forward` will count: known before it is computed."""
    counts = {"masked_lm": tf.reduce_sum(batch["masked_lm_weights"])}
    if model.has_pairs(bert):
        counts["next_sentence"] = tf.reduce_sum(_row_weights(batch))
    return counts


def sum_names(bert):
    """Names of the `flatten`ed sums of the model's objectives."""
    objectives = ["masked_lm"]
    if model.has_pairs(bert):
        objectives.append("next_sentence")
    return [
        f"{objective}_{field.name}"
        for objective in objectives
        for field in dataclasses.fields(losses.Sums)
    ]


def flatten(sums):
    """`forward`'s sums by name, as they are added up over many steps."""
    return {
        f"{objective}_{field}": value
        for objective, part in sums.items()
        for field, value in vars(part).items()
    }


def means(sums):
    """Loss and accuracy of each objective, from added up `flatten`ed sums."""
    result = {}
    for objective in ("masked_lm", "next_sentence"):
        count = sums.get(f"{objective}_num_predictions")
        if count is None:
            continue
        for name, field in (("loss", "loss"), ("accuracy", "num_correct")):
            result[f"{objective}_{name}"] = sums[f"{objective}_{field}"] / max(
                count, 1.0
            )
    return result


def _counter(name):
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


def _row_weights(batch):
    # A row begins with [CLS], unless it only fills up a batch.
    return tf.cast(batch["attention_mask"][:, 0], tf.float32)


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
