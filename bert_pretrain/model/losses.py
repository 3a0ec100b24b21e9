"""Sums of loss and of correct predictions, and their counts.

Rows hold unequal numbers of predictions, so that a mean of means would weigh
them unequally: whoever wants a mean divides the sums, once, over everything.

B = rows on this replica, P = prediction slots a row, V = vocabulary.
"""

import dataclasses

import tensorflow as tf

from bert_pretrain.model import kernels, recomputation


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
    nats, guesses = _cross_entropy(logits, labels)
    is_correct = tf.cast(tf.equal(guesses, labels), tf.float32)
    return Sums(
        loss=tf.reduce_sum(nats * weights),
        num_correct=tf.reduce_sum(is_correct * weights),
        num_predictions=tf.reduce_sum(weights),
    )


def _cross_entropy(logits, labels):
    """Nats of the labels, and the best labels; kept are the logits alone."""

    @tf.custom_gradient
    def compare(logits):
        wide = tf.cast(logits, tf.float32)
        totals = _log_sum_exp(wide)
        nats = totals - _pick(wide, labels)
        guesses = tf.argmax(wide, axis=-1, output_type=labels.dtype)

        def gradient(upstream, _):
            return kernels.cross_entropy_gradient(
                logits, totals, labels, upstream
            )

        return (nats, guesses), gradient

    return compare(logits)


def _log_sum_exp(logits):
    if recomputation.is_one_program():
        return tf.reduce_logsumexp(logits, axis=-1)
    # The largest share is never near 0, and a softmax is one pass where the
    # parts of a sum of exponentials are four.
    return tf.reduce_max(logits, axis=-1) - tf.math.log(
        tf.reduce_max(tf.nn.softmax(logits), axis=-1)
    )


def _pick(logits, labels):
    if recomputation.is_one_program():
        # In the same pass as a sum over all logits.
        is_label = tf.range(logits.shape[-1]) == labels[..., tf.newaxis]
        return tf.reduce_sum(tf.where(is_label, logits, 0.0), axis=-1)
    return tf.gather(logits, labels, batch_dims=labels.shape.rank)
