"""Sums of loss and of correct predictions, and their counts.

Rows hold unequal numbers of predictions, so that a mean of means would weigh
them unequally: whoever wants a mean divides the sums, once, over everything.

B = rows on this replica, P = prediction slots a row, V = vocabulary.
"""

import dataclasses

import tensorflow as tf

from bert_pretrain import kernels


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
        # The logarithm of the exponentials' sum. The largest share is never
        # near 0, and a softmax is one pass where its parts are four.
        totals = tf.reduce_max(wide, axis=-1) - tf.math.log(
            tf.reduce_max(tf.nn.softmax(wide), axis=-1)
        )
        nats = totals - tf.gather(wide, labels, batch_dims=labels.shape.rank)
        guesses = tf.argmax(wide, axis=-1, output_type=labels.dtype)

        def gradient(upstream, _):
            return kernels.cross_entropy_gradient(
                logits, totals, labels, upstream
            )

        return (nats, guesses), gradient

    return compare(logits)
