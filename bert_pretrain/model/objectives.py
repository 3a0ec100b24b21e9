"""What a model learns: its objectives, and those of pretraining in one table.

Pretraining has masked language modelling, and next sentence prediction if the
model has sentence pairs (Devlin et al. 2018, section 3.1). Its learner, the
curves and the summary go through `OBJECTIVES`. A new objective needs an entry
here, its logits in encoder.py, and its labels among the features of
data/records.py if the records do not hold them yet. Fine-tuning has learners of
its own.

B = rows on this replica, P = predictions in a row, H = hidden size,
Q = predictions in a row over all objectives.
"""

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import transformers

from bert_pretrain.model import bert_model, encoder, losses

Model = transformers.TFPreTrainedModel
Batch = Mapping[str, tf.Tensor]


class Learner(abc.ABC):
    """What a trainer trains: a model, and the losses of its objectives."""

    def __init__(self, bert: Model, names: Sequence[str]) -> None:
        """Takes the model.

        Args:
          names: of the objectives; all metrics begin with one of them.
        """
        self.bert = bert
        self.names = tuple(names)

    @abc.abstractmethod
    def num_predictions(self, batch: Batch) -> dict[str, tf.Tensor]:
        """float32 []: the predictions of each objective, by its name.

        They are known before the forward pass.
        """

    @abc.abstractmethod
    def forward(
        self,
        batch: Batch,
        dtype: tf.DType,
        dropout_seed: tf.Tensor | None = None,
        recompute: bool = False,
    ) -> dict[str, losses.Sums]:
        """The sums of each objective over one replica's batch, by its name.

        Args:
          dtype, recompute: see `encoder.encode`.
          dropout_seed: int32 [2]; without it there is no dropout.
        """

    @property
    def trackables(self) -> dict[str, Any]:
        """What a checkpoint holds of it, by the names there."""
        return {"model": self.bert}

    @property
    @abc.abstractmethod
    def labels(self) -> Mapping[str, str]:
        """The metrics of the line of progress, with their labels there."""

    @abc.abstractmethod
    def cost(self, evaluation: Mapping[str, float | None]) -> float:
        """What is to become small, and decides which checkpoint is the best.

        Args:
          evaluation: of a held-out split, as the run's log has it; None
            stands for a value that is not finite.
        """

    @property
    def sum_names(self) -> list[str]:
        """The names of the `flatten`ed sums."""
        return [
            f"{name}_{field.name}"
            for name in self.names
            for field in dataclasses.fields(losses.Sums)
        ]

    @property
    def loss_names(self) -> list[str]:
        """The names of the losses among the `flatten`ed sums."""
        return [f"{name}_loss" for name in self.names]

    def means(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Loss and accuracy of each objective.

        Args:
          sums: `flatten`ed sums, added up over steps and replicas.
        """
        result = {}
        for name in self.names:
            count = max(sums[f"{name}_num_predictions"], 1.0)
            result[f"{name}_loss"] = sums[f"{name}_loss"] / count
            result[f"{name}_accuracy"] = sums[f"{name}_num_correct"] / count
        return result


def flatten(sums: Mapping[str, losses.Sums]) -> dict[str, tf.Tensor]:
    """The sums under one name each, such as "masked_lm_loss"."""
    return {
        f"{name}_{field}": value
        for name, of_objective in sums.items()
        for field, value in vars(of_objective).items()
    }


# --------------------------------------------------------------- pretraining


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """A task that a model learns."""

    title: str  # in figures
    name: str  # prefix of the names of its metrics
    labels: Mapping[str, str]  # metric to its label in the progress line
    is_trained: Callable[[Model], bool]  # whether a model has this objective
    positions: Callable[[Batch], tf.Tensor]  # int32 [B, P] of the predictions
    # float32 []; it is known before the forward pass.
    num_predictions: Callable[[Batch], tf.Tensor]
    # Takes the states [B, P, H] at `positions`.
    sums: Callable[[Model, Batch, tf.Tensor], losses.Sums]


def _masked_lm_sums(
    bert: Model, batch: Batch, states_BPH: tf.Tensor
) -> losses.Sums:
    # The positions become rows of one matrix. A TPU stores the last two axes in
    # tiles, and the positions of a single row would not fill a tile.
    states_RH = tf.reshape(states_BPH, [-1, states_BPH.shape[-1]])
    return losses.masked_lm_sums(
        encoder.masked_lm_logits(bert, states_RH),
        tf.reshape(batch["masked_lm_ids"], [-1]),
        tf.reshape(batch["masked_lm_weights"], [-1]),
    )


def _next_sentence_sums(
    bert: Model, batch: Batch, states_B1H: tf.Tensor
) -> losses.Sums:
    return losses.next_sentence_sums(
        encoder.next_sentence_logits(bert, states_B1H[:, 0]),
        batch["next_sentence_labels"],
        _row_weights(batch),
    )


def _row_weights(batch: Batch) -> tf.Tensor:
    """float32 [B]: 0 for a row that only fills up the batch, else 1."""
    # Every real row begins with [CLS].
    return tf.cast(batch["attention_mask"][:, 0], tf.float32)


OBJECTIVES = (
    Objective(
        title="Masked LM",
        name="masked_lm",
        labels={"loss": "loss", "accuracy": "accuracy"},
        is_trained=lambda bert: True,
        positions=lambda batch: batch["masked_lm_positions"],
        num_predictions=lambda batch: tf.reduce_sum(batch["masked_lm_weights"]),
        sums=_masked_lm_sums,
    ),
    Objective(
        title="Next sentence",
        name="next_sentence",
        labels={"accuracy": "next sentence"},
        is_trained=bert_model.has_pairs,
        # [CLS], which is the first token.
        positions=lambda batch: tf.zeros_like(batch["attention_mask"][:, :1]),
        num_predictions=lambda batch: tf.reduce_sum(_row_weights(batch)),
        sums=_next_sentence_sums,
    ),
)


def of_model(bert: Model) -> list[Objective]:
    """The objectives that a model is pretrained on."""
    return [o for o in OBJECTIVES if o.is_trained(bert)]


class Pretraining(Learner):
    """Learns the objectives in the table that a model has."""

    def __init__(self, bert: Model) -> None:
        """Takes the model, which decides what is learned."""
        self._objectives = of_model(bert)
        super().__init__(bert, [o.name for o in self._objectives])

    def num_predictions(self, batch: Batch) -> dict[str, tf.Tensor]:
        """See `Learner`."""
        return {o.name: o.num_predictions(batch) for o in self._objectives}

    def forward(
        self,
        batch: Batch,
        dtype: tf.DType,
        dropout_seed: tf.Tensor | None = None,
        recompute: bool = False,
    ) -> dict[str, losses.Sums]:
        """See `Learner`; the batch has the features of `records.parse`."""
        # The last objective comes first. The dropout masks of the last layer
        # depend on this order, so another order would change runs that resume.
        backwards = self._objectives[::-1]
        positions = [objective.positions(batch) for objective in backwards]
        states_BQH = encoder.encode(
            self.bert,
            batch,
            dtype,
            dropout_seed,
            recompute,
            tf.concat(positions, axis=1) if positions[1:] else positions[0],
        )
        states = (
            tf.split(states_BQH, [p.shape[1] for p in positions], axis=1)
            if positions[1:]
            else [states_BQH]
        )
        return {
            objective.name: objective.sums(self.bert, batch, of_objective)
            for objective, of_objective in zip(
                self._objectives, reversed(states), strict=True
            )
        }

    @property
    def labels(self) -> dict[str, str]:
        """See `Learner`."""
        return {
            f"{objective.name}_{metric}": label
            for objective in self._objectives
            for metric, label in objective.labels.items()
        }

    def cost(self, evaluation: Mapping[str, float | None]) -> float:
        """The trained loss in nats: the sum of the objectives' mean losses."""
        return sum(
            math.inf if loss is None else loss
            for loss in map(evaluation.get, self.loss_names)
        )
