"""What fine-tuning learns: the loss of each kind of task.

B = rows on this replica, P = slots in a row, C = classes, H = hidden size,
S = tokens of a row, N = B x P.
"""

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import transformers

from bert_pretrain.kernels import seeding
from bert_pretrain.model import adapters, encoder, heads, losses, objectives

_NAME = "task"
_HIDDEN = -1e9  # the score of what is no choice
Tensors = Mapping[str, tf.Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What the losses depend on, beside the batch."""

    pooling: heads.Pooling
    metric: str  # the score that decides which checkpoint is the best
    # float32 [C]: how much an example of a class counts.
    class_weights: np.ndarray | None = None
    r_drop: float = 0.0  # see `Classes`
    temperature: float = 0.05  # see `Vectors`
    # Of the numbers that a regression learns.
    mean: float = 0.0
    deviation: float = 1.0


class TaskLearner(objectives.Learner):
    """Learns a task, with adapters or without."""

    def __init__(
        self,
        bert: transformers.TFPreTrainedModel,
        added: adapters.Adapters,
        config: LossConfig,
    ) -> None:
        """Takes the model with its head, and its adapters."""
        super().__init__(bert, [_NAME])
        self.adapters = added
        self._config = config

    @property
    def metric(self) -> str:
        """The score that decides which checkpoint is the best."""
        return self._config.metric

    @property
    def trackables(self) -> dict[str, Any]:
        """See `Learner`."""
        return {**super().trackables, "adapters": self.adapters}

    def settle(self) -> None:
        """Puts into the weights what else the outputs depend on."""

    @property
    def _model(self) -> Any:
        return self.adapters.view(self.bert)

    @property
    def labels(self) -> dict[str, str]:
        """See `Learner`."""
        return {"loss": "loss", "accuracy": "accuracy"}

    def num_predictions(self, batch: Tensors) -> dict[str, tf.Tensor]:
        """See `Learner`; the sum of the weights."""
        return {_NAME: tf.reduce_sum(self._weights(batch))}

    def forward(
        self,
        batch: Tensors,
        dtype: tf.DType,
        dropout_seed: tf.Tensor | None = None,
        recompute: bool = False,
    ) -> dict[str, losses.Sums]:
        """See `Learner`; the batch has the features of labelled_rows.py."""
        return {_NAME: self._sums(batch, dtype, dropout_seed, recompute)}

    @abc.abstractmethod
    def _sums(
        self,
        batch: Tensors,
        dtype: tf.DType,
        seed: tf.Tensor | None,
        recompute: bool,
    ) -> losses.Sums:
        """The sums over the slots of a batch."""

    @abc.abstractmethod
    def outputs(self, batch: Tensors, dtype: tf.DType) -> dict[str, tf.Tensor]:
        """What the model says in each slot, by names: [B, P, …]."""

    def _weights(self, batch: Tensors) -> tf.Tensor:
        """float32 [B, P]: how much each slot counts."""
        weights = batch["label_weights"]
        if self._config.class_weights is not None:
            weights *= tf.gather(
                tf.constant(self._config.class_weights, tf.float32),
                batch["label_ids"],
            )
        return weights

    def means(self, sums: Mapping[str, float]) -> dict[str, float]:
        """See `Learner`; there is one objective, so its name is left out."""
        named = super().means(sums)
        return {name.removeprefix(f"{_NAME}_"): v for name, v in named.items()}

    def cost(self, evaluation: Mapping[str, float | None]) -> float:
        """See `Learner`: the less, the better the score."""
        score = evaluation.get(self.metric)
        loss = evaluation.get("loss", 0.0)
        return math.inf if score is None or loss is None else -score


class Classes(TaskLearner):
    """Learns classes of texts or words, by cross-entropy.

    With `r_drop`, each batch goes through the model twice, with other dropout,
    and the two answers are drawn to one another (Liang et al. 2021, equation
    4; here divided by 2, so that a weight of 0 is the loss of one pass).
    """

    def _logits(
        self,
        batch: Tensors,
        dtype: tf.DType,
        seed: tf.Tensor | None,
        recompute: bool = False,
    ) -> tf.Tensor:
        """float32 [B, P, C]."""
        seeds = _two(seed)
        pooling = self._config.pooling
        states_BPH = heads.pooled(
            self._model, batch, pooling, dtype, seeds[0], recompute
        )
        return heads.classification_logits(
            self._model, states_BPH, pooling, seeds[1]
        )

    def _sums(self, batch, dtype, seed, recompute):
        """See `TaskLearner`."""
        weights = self._weights(batch)
        if seed is None or not self._config.r_drop:
            return losses.class_sums(
                self._logits(batch, dtype, seed, recompute),
                batch["label_ids"],
                weights,
            )
        first, second = (
            self._logits(batch, dtype, each, recompute) for each in _two(seed)
        )
        one, other = (
            losses.class_sums(logits, batch["label_ids"], weights)
            for logits in (first, second)
        )
        difference = _divergence(first, second) + _divergence(second, first)
        drawn = self._config.r_drop / 4 * tf.reduce_sum(difference * weights)
        return losses.Sums(
            loss=(one.loss + other.loss) / 2 + drawn,
            num_correct=(one.num_correct + other.num_correct) / 2,
            num_predictions=one.num_predictions,
        )

    def outputs(self, batch: Tensors, dtype: tf.DType) -> dict[str, tf.Tensor]:
        """See `TaskLearner`: the probabilities of the classes."""
        return {
            "probabilities": tf.nn.softmax(self._logits(batch, dtype, None))
        }


class Tags(Classes):
    """Learns tags of words, from the state of each word's first token."""

    def _logits(self, batch, dtype, seed, recompute=False):
        seeds = _two(seed)
        states_BPH = encoder.encode(
            self._model,
            batch,
            dtype,
            seeds[0],
            recompute,
            batch["label_positions"],
        )
        return heads.tagging_logits(self._model, states_BPH, seeds[1])


class Numbers(Classes):
    """Learns numbers, by their squared differences.

    The head learns numbers of mean 0 and deviation 1, whatever their range.
    """

    @property
    def labels(self) -> dict[str, str]:
        """See `Learner`."""
        return {"loss": "loss"}

    def means(self, sums: Mapping[str, float]) -> dict[str, float]:
        """See `Learner`; a number is not right or wrong."""
        return {"loss": super().means(sums)["loss"]}

    def _sums(self, batch, dtype, seed, recompute):
        """See `TaskLearner`."""
        config, weights = self._config, self._weights(batch)
        wanted = (batch["label_values"] - config.mean) / config.deviation
        given = self._logits(batch, dtype, seed, recompute)[..., 0]
        return losses.Sums(
            loss=tf.reduce_sum(tf.square(given - wanted) * weights),
            num_correct=tf.zeros([]),
            num_predictions=tf.reduce_sum(weights),
        )

    def outputs(self, batch: Tensors, dtype: tf.DType) -> dict[str, tf.Tensor]:
        """See `TaskLearner`: the numbers."""
        logits = self._logits(batch, dtype, None)[..., 0]
        return {"values": self._config.mean + self._config.deviation * logits}

    def settle(self) -> None:
        """Lets the head give the numbers themselves, as HuggingFace's does."""
        config, head = self._config, self.bert.classifier
        head.kernel.assign(config.deviation * head.kernel)
        head.bias.assign(config.mean + config.deviation * head.bias)
        self._config = dataclasses.replace(config, mean=0.0, deviation=1.0)


class Spans(TaskLearner):
    """Learns where answers start and end, by the mean of two cross-entropies.

    The choices of a slot are the tokens of its own document.
    """

    def _logits(
        self,
        batch: Tensors,
        dtype: tf.DType,
        seed: tf.Tensor | None,
        recompute: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """float32 [B, P, S] for the starts, and for the ends."""
        states_BSH = encoder.encode(self._model, batch, dtype, seed, recompute)
        is_choice_BPS = (
            batch["slot_documents"][:, :, tf.newaxis]
            == batch["document_ids"][:, tf.newaxis]
        )
        start_BS, end_BS = heads.span_logits(self._model, states_BSH)
        return tuple(
            tf.where(is_choice_BPS, logits_BS[:, tf.newaxis], _HIDDEN)
            for logits_BS in (start_BS, end_BS)
        )

    def _sums(self, batch, dtype, seed, recompute):
        """See `TaskLearner`."""
        weights = self._weights(batch)
        of_starts, of_ends = (
            losses.class_sums(logits_BPS, batch[name], weights)
            for logits_BPS, name in zip(
                self._logits(batch, dtype, seed, recompute),
                ("starts", "ends"),
                strict=True,
            )
        )
        return losses.Sums(
            loss=(of_starts.loss + of_ends.loss) / 2,
            num_correct=(of_starts.num_correct + of_ends.num_correct) / 2,
            num_predictions=of_starts.num_predictions,
        )

    def outputs(self, batch: Tensors, dtype: tf.DType) -> dict[str, tf.Tensor]:
        """See `TaskLearner`: the logits by the place in the window."""
        length = batch["input_ids"].shape[1]
        places_BPS = batch["label_positions"][:, :, tf.newaxis] + tf.range(
            length
        )
        is_inside = places_BPS < length
        places_BPS = tf.minimum(places_BPS, length - 1)
        return {
            name: tf.where(
                is_inside,
                tf.gather(logits_BPS, places_BPS, batch_dims=2),
                _HIDDEN,
            )
            for name, logits_BPS in zip(
                ("start_logits", "end_logits"),
                self._logits(batch, dtype, None),
                strict=True,
            )
        }


class Vectors(TaskLearner):
    """Learns vectors of texts by contrast (SimCSE, Gao et al. 2021).

    A text is to be nearer to its second text than to the other second texts of
    the batch, over all replicas. Without second texts it is the same text with
    other dropout (section 3). Equation 1, with cosines.
    """

    def num_predictions(self, batch: Tensors) -> dict[str, tf.Tensor]:
        """See `Learner`; a text is to be told from the others."""
        return {_NAME: tf.reduce_sum(batch["label_weights"])}

    def _vectors(
        self,
        batch: Tensors,
        dtype: tf.DType,
        seed: tf.Tensor | None,
        recompute: bool = False,
    ) -> tf.Tensor:
        """float32 [B, P, H]."""
        return heads.pooled(
            self._model, batch, self._config.pooling, dtype, seed, recompute
        )

    def _sums(self, batch, dtype, seed, recompute):
        """See `TaskLearner`."""
        seeds = _two(seed)
        second_batch = batch
        if "second_input_ids" in batch:
            second_batch = {**batch} | {
                name.removeprefix("second_"): values
                for name, values in batch.items()
                if name.startswith("second_")
            }
        first_NH, second_NH = (
            tf.math.l2_normalize(
                tf.reshape(vectors, [-1, vectors.shape[-1]]), axis=-1
            )
            for vectors in (
                self._vectors(batch, dtype, seeds[0], recompute),
                self._vectors(second_batch, dtype, seeds[1], recompute),
            )
        )
        weights_N = tf.reshape(batch["label_weights"], [-1])
        # The second texts of all replicas.
        replica = tf.distribute.get_replica_context()
        others_MH, weights_M = (
            tf.ensure_shape(
                replica.all_gather(values, axis=0),
                [
                    replica.num_replicas_in_sync * values.shape[0],
                    *values.shape[1:],
                ],
            )
            for values in (second_NH, weights_N)
        )
        num_own = weights_N.shape[0]
        own_N = replica.replica_id_in_sync_group * num_own + tf.range(num_own)
        logits_NM = tf.where(
            weights_M > 0,
            tf.matmul(first_NH, others_MH, transpose_b=True)
            / self._config.temperature,
            _HIDDEN,
        )
        return losses.class_sums(logits_NM, own_N, weights_N)

    def outputs(self, batch: Tensors, dtype: tf.DType) -> dict[str, tf.Tensor]:
        """See `TaskLearner`: the vectors."""
        return {"embeddings": self._vectors(batch, dtype, None)}


OF_KIND: dict[str, type[TaskLearner]] = {
    "classification": Classes,
    "regression": Numbers,
    "tagging": Tags,
    "question_answering": Spans,
    "embedding": Vectors,
}


def _two(seed: tf.Tensor | None) -> list[Any]:
    return [None, None] if seed is None else seeding.split(seed, 2)


def _divergence(from_BPC: tf.Tensor, to_BPC: tf.Tensor) -> tf.Tensor:
    """float32 [B, P]: Kullback and Leibler's, of two answers, in nats."""
    from_log = tf.nn.log_softmax(from_BPC)
    return tf.reduce_sum(
        tf.exp(from_log) * (from_log - tf.nn.log_softmax(to_BPC)), axis=-1
    )
