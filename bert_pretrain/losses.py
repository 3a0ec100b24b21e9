"""Sums of loss and of correct predictions, and their counts.

Rows hold unequal numbers of predictions, so that a mean of means would weigh
them unequally: whoever wants a mean divides the sums, once, over everything.

B = rows on this replica, P = prediction slots a row, V = vocabulary.
"""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Sums:
    """Of predictions: their loss in nats, how many are right, how many."""

    loss: tf.Tensor
    num_correct: tf.Tensor
    num_predictions: tf.Tensor


def masked_lm_sums(logits_BPV, label_ids_BP, label_weights_BP):
    """Sums over the masked positions; a slot of weight 0 holds none."""
    return _sums(logits_BPV, label_ids_BP, label_weights_BP)


def next_sentence_sums(logits_B2, labels_B, row_weights_B):
    """Sums over the rows; a row of weight 0 only fills up a batch."""
    return _sums(logits_B2, labels_B, row_weights_B)


def _sums(logits, labels, weights):
    logits = tf.cast(logits, tf.float32)
    nats = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    is_correct = tf.equal(
        tf.argmax(logits, axis=-1, output_type=labels.dtype), labels
    )
    return Sums(
        loss=tf.reduce_sum(nats * weights),
        num_correct=tf.reduce_sum(tf.cast(is_correct, tf.float32) * weights),
        num_predictions=tf.reduce_sum(weights),
    )
