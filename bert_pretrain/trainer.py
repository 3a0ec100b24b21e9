"""One loop of updates: loss, gradients, their reduction, AdamW.

A step in words: each replica sums the loss over its predictions and divides
by the predictions of all replicas, so that the sum of the replicas' gradients
is the gradient of the mean over the global batch, however unequal the shares;
the gradients are summed over the replicas, clipped once, and applied.
"""

import dataclasses
import time

import orbit
import tensorflow as tf
import tf_keras

from bert_pretrain import encoder, losses, model


@dataclasses.dataclass(frozen=True)
class Loop:
    """How much one loop did, and in what time."""

    num_steps: int
    num_examples: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class State:
    """What an update changes, and a checkpoint holds."""

    bert: tf_keras.Model
    adam: tf_keras.optimizers.Optimizer
    num_examples: tf.Variable  # int64 [], consumed by the run

    @property
    def step(self):
        return int(self.adam.iterations.numpy())


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpdateConfig:
    """What an update depends on beside the state and the batch."""

    global_batch_size: int
    dtype: tf.DType  # of the matrix products and hidden states
    max_gradient_norm: float  # 0 for no limit
    seed: int  # of the dropout masks, together with the step


def new_state(bert, adam):
    """The state at step 0; call it in the strategy's scope."""
    return State(
        bert,
        adam,
        tf.Variable(
            0,
            dtype=tf.int64,
            trainable=False,
            name="num_examples",
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        ),
    )


class Trainer(orbit.StandardTrainer):
    """Updates a `State`; many steps inside one `tf.function`."""

    def __init__(self, state, batches, config):
        """Prepares the training; call it in the strategy's scope.

        Args:
          batches: distributed batches of `records.parse`'s features.
        """
        super().__init__(batches)
        self._strategy = tf.distribute.get_strategy()
        self.state = state
        self._config = config
        names = ["steps", "gradient_norm", *_sum_names("masked_lm")]
        if model.has_pairs(state.bert):
            names += _sum_names("next_sentence")
        self._sums = {name: tf_keras.metrics.Sum(name) for name in names}
        self.last_loop = None

    def train(self, num_steps):
        start = time.perf_counter()
        output = super().train(num_steps)  # Reads the sums, hence waits.
        num_steps = int(num_steps)
        self.last_loop = Loop(
            num_steps,
            num_steps * self._config.global_batch_size,
            time.perf_counter() - start,
        )
        return output

    def train_loop_begin(self):
        for metric in self._sums.values():
            metric.reset_state()

    def train_step(self, iterator):
        self._strategy.run(self._replica_step, args=(next(iterator),))
        self.state.num_examples.assign_add(self._config.global_batch_size)

    def train_loop_end(self):
        sums = {
            name: float(metric.result()) for name, metric in self._sums.items()
        }
        output = means(sums)
        output["gradient_norm"] = sums["gradient_norm"] / sums["steps"]
        output["learning_rate"] = float(self.state.adam.learning_rate.numpy())
        return output

    def _replica_step(self, batch):
        replica = tf.distribute.get_replica_context()
        variables = self.state.bert.trainable_variables
        with tf.GradientTape() as tape:
            sums = forward(
                self.state.bert,
                batch,
                self._config.dtype,
                self._dropout_seed(replica),
            )
            counts = replica.all_reduce(
                tf.distribute.ReduceOp.SUM,
                {name: part.num_predictions for name, part in sums.items()},
            )
            # A batch may hold no prediction at all.
            loss = tf.add_n(
                [
                    part.loss / tf.maximum(counts[name], 1.0)
                    for name, part in sums.items()
                ]
            )
        gradients = [
            tf.convert_to_tensor(gradient)
            for gradient in tape.gradient(loss, variables)
        ]
        gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        gradients, norm = _clip(gradients, self._config.max_gradient_norm)
        self.state.adam.apply_gradients(
            zip(gradients, variables, strict=True),
            skip_gradients_aggregation=True,
        )
        # A metric adds up over the replicas, where these are the same.
        share = 1 / replica.num_replicas_in_sync
        self._sums["steps"].update_state(share)
        self._sums["gradient_norm"].update_state(norm * share)
        for name, value in flatten(sums).items():
            self._sums[name].update_state(value)

    def _dropout_seed(self, replica):
        """int32 [2], another one for each step and each replica."""
        return tf.random.experimental.stateless_fold_in(
            tf.stack(
                [
                    self._config.seed,
                    tf.cast(self.state.adam.iterations, tf.int32),
                ]
            ),
            replica.replica_id_in_sync_group,
        )


def forward(bert, batch, dtype, dropout_seed=None):
    """Runs the model on one replica's batch.

    Returns:
      Objective to its `losses.Sums`.
    """
    hidden_BSH = encoder.encode(bert, batch, dtype, dropout_seed)
    logits_BPV = encoder.masked_lm_logits(
        bert, hidden_BSH, batch["masked_lm_positions"]
    )
    sums = {
        "masked_lm": losses.masked_lm_sums(
            logits_BPV, batch["masked_lm_ids"], batch["masked_lm_weights"]
        )
    }
    if model.has_pairs(bert):
        # A row begins with [CLS], unless it only fills up a batch.
        row_weights_B = tf.cast(batch["attention_mask"][:, 0], tf.float32)
        sums["next_sentence"] = losses.next_sentence_sums(
            encoder.next_sentence_logits(bert, hidden_BSH),
            batch["next_sentence_labels"],
            row_weights_B,
        )
    return sums


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


def _sum_names(objective):
    return [
        f"{objective}_{field.name}" for field in dataclasses.fields(losses.Sums)
    ]


def _clip(gradients, max_norm):
    norm = tf.linalg.global_norm(gradients)
    if max_norm:
        gradients, _ = tf.clip_by_global_norm(
            gradients, max_norm, use_norm=norm
        )
    return gradients, norm
