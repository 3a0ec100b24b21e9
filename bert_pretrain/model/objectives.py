"""The objectives of pretraining: what they sum, and their means.

Masked language modelling, and next sentence prediction where the model has
sentence pairs (Devlin et al. 2018, section 3.1).
"""

import dataclasses

import tensorflow as tf

from bert_pretrain.model import bert_model, encoder, losses


def forward(bert, batch, dtype, dropout_seed=None, recompute=False):
    """Runs the model on one replica's batch.

    Returns:
      Objective to its `losses.Sums`.
    """
    positions_BQ = batch["masked_lm_positions"]
    if bert_model.has_pairs(bert):
        positions_BQ = tf.pad(positions_BQ, [[0, 0], [1, 0]])  # [CLS] first
    states_BQH = encoder.encode(
        bert, batch, dtype, dropout_seed, recompute, positions_BQ
    )
    masked_BPH = states_BQH[:, 1:] if bert_model.has_pairs(bert) else states_BQH
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
    if bert_model.has_pairs(bert):
        sums["next_sentence"] = losses.next_sentence_sums(
            encoder.next_sentence_logits(bert, states_BQH[:, 0]),
            batch["next_sentence_labels"],
            _row_weights(batch),
        )
    return sums


def num_predictions(bert, batch):
    """Objective to what `forward` will count: known before it is computed."""
    counts = {"masked_lm": tf.reduce_sum(batch["masked_lm_weights"])}
    if bert_model.has_pairs(bert):
        counts["next_sentence"] = tf.reduce_sum(_row_weights(batch))
    return counts


def sum_names(bert):
    """Names of the `flatten`ed sums of the model's objectives."""
    objectives = ["masked_lm"]
    if bert_model.has_pairs(bert):
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


def _row_weights(batch):
    # A row begins with [CLS], unless it only fills up a batch.
    return tf.cast(batch["attention_mask"][:, 0], tf.float32)
