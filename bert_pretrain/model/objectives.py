"""The objectives of pretraining, in one table.

Masked language modelling, and next sentence prediction if the model has
sentence pairs (Devlin et al. 2018, section 3.1). The trainer, the evaluator,
the progress line, the curves and the summary go through `OBJECTIVES`. A new
objective needs an entry here, its logits in encoder.py, and its labels among
the features of data/records.py if the records do not hold them yet.

B = rows on this replica, P = predictions in a row, H = hidden size,
Q = predictions in a row over all objectives.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import tensorflow as tf
import transformers

from bert_pretrain.model import bert_model, encoder, losses

Model = transformers.TFPreTrainedModel
Batch = Mapping[str, tf.Tensor]


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
    """The objectives that a model is trained on."""
    return [o for o in OBJECTIVES if o.is_trained(bert)]


# ------------------------------------------------------------- on a replica


def forward(
    bert: Model,
    batch: Batch,
    dtype: tf.DType,
    dropout_seed: tf.Tensor | None = None,
    recompute: bool = False,
) -> dict[str, losses.Sums]:
    """Runs the model on one replica's batch.

    Args:
      bert: the model.
      batch: features of `records.parse`.
      dtype: see `encoder.encode`.
      dropout_seed: int32 [2]; without it there is no dropout.
      recompute: see `encoder.encode`.

    Returns:
      The sums of each objective, by its name.
    """
    trained = of_model(bert)
    # The last objective comes first. The dropout masks of the last layer depend
    # on this order, so another order would change runs that resume.
    positions = [objective.positions(batch) for objective in reversed(trained)]
    states_BQH = encoder.encode(
        bert,
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
        objective.name: objective.sums(bert, batch, of_objective)
        for objective, of_objective in zip(
            trained, reversed(states), strict=True
        )
    }


def num_predictions(bert: Model, batch: Batch) -> dict[str, tf.Tensor]:
    """The number of predictions of each objective, by its name."""
    return {o.name: o.num_predictions(batch) for o in of_model(bert)}


# -------------------------------------------------- sums over steps, and means


def sum_names(bert: Model) -> list[str]:
    """The names of the `flatten`ed sums."""
    return [
        f"{objective.name}_{field.name}"
        for objective in of_model(bert)
        for field in dataclasses.fields(losses.Sums)
    ]


def loss_names(bert: Model) -> list[str]:
    """The names of the losses among the `flatten`ed sums."""
    return [f"{objective.name}_loss" for objective in of_model(bert)]


def flatten(sums: Mapping[str, losses.Sums]) -> dict[str, tf.Tensor]:
    """The sums under one name each, such as "masked_lm_loss"."""
    return {
        f"{name}_{field}": value
        for name, of_objective in sums.items()
        for field, value in vars(of_objective).items()
    }


def means(sums: Mapping[str, float]) -> dict[str, float]:
    """Loss and accuracy of each objective.

    Args:
      sums: `flatten`ed sums, added up over steps and replicas.
    """
    result = {}
    for objective in OBJECTIVES:
        name = objective.name
        if f"{name}_num_predictions" not in sums:
            continue
        count = max(sums[f"{name}_num_predictions"], 1.0)
        result[f"{name}_loss"] = sums[f"{name}_loss"] / count
        result[f"{name}_accuracy"] = sums[f"{name}_num_correct"] / count
    return result


def total_loss(metrics: Mapping[str, float | None]) -> float:
    """The trained loss in nats: the sum of the objectives' mean losses.

    Args:
      metrics: from `means` or from a record of the run's log, with or without
        other values; None stands for a value that is not finite.
    """
    total = 0.0
    for objective in OBJECTIVES:
        loss = metrics.get(f"{objective.name}_loss", 0.0)
        total += math.inf if loss is None else loss
    return total
