"""Sums of the loss and of correct predictions, with their counts.

Rows hold different numbers of predictions, so a mean of the rows' means would
give predictions different weights. The caller therefore adds up the sums and
divides once, at the end.

B = rows on this replica, P = prediction slots in a row, V = vocabulary.
"""

import dataclasses

import tensorflow as tf

from bert_pretrain.kernels import fused_operations, recomputation


@dataclasses.dataclass(frozen=True)
class Sums:
    """Sums over predictions: the loss in nats and two counts."""

    loss: tf.Tensor
    num_correct: tf.Tensor
    num_predictions: tf.Tensor


def masked_lm_sums(
    logits_BPV: tf.Tensor,
    label_ids_BP: tf.Tensor,
    label_weights_BP: tf.Tensor,
) -> Sums:
    """Sums over the masked positions; a slot of weight 0 is unused.

    The leading axes may also be one axis, B x P.
    """
    return class_sums(logits_BPV, label_ids_BP, label_weights_BP)


def next_sentence_sums(
    logits_B2: tf.Tensor, labels_B: tf.Tensor, row_weights_B: tf.Tensor
) -> Sums:
    """Sums over the rows; a row of weight 0 only fills up a batch."""
    return class_sums(logits_B2, labels_B, row_weights_B)


def class_sums(
    logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor
) -> Sums:
    """Sums over predictions of a class each; those of weight 0 are unused.

    Args:
      logits: [..., classes].
      labels: int32 [...].
      weights: float32 [...].
    """
    nats, guesses = _cross_entropy(logits, labels)
    is_correct = tf.cast(tf.equal(guesses, labels), tf.float32)
    return Sums(
        loss=tf.reduce_sum(nats * weights),
        num_correct=tf.reduce_sum(is_correct * weights),
        num_predictions=tf.reduce_sum(weights),
    )


def _cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """(Cross-entropy in nats, predicted labels).

    Only the logits are kept for the gradient.
    """

    @tf.custom_gradient
    def compare(logits):
        wide = tf.cast(logits, tf.float32)
        totals = _log_sum_exp(wide)
        nats = totals - _pick(wide, labels)
        guesses = tf.argmax(wide, axis=-1, output_type=labels.dtype)

        def gradient(upstream, _):
            return fused_operations.cross_entropy_gradient(
                logits, totals, labels, upstream
            )

        return (nats, guesses), gradient

    return compare(logits)


def _log_sum_exp(logits: tf.Tensor) -> tf.Tensor:
    if recomputation.is_one_program():
        return tf.reduce_logsumexp(logits, axis=-1)
    # Softmax takes one pass, reduce_logsumexp takes four. The logarithm is
    # exact enough, because the largest probability is never near 0.
    return tf.reduce_max(logits, axis=-1) - tf.math.log(
        tf.reduce_max(tf.nn.softmax(logits), axis=-1)
    )


def _pick(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The logit of each label."""
    if recomputation.is_one_program():
        # XLA fuses this with the log-sum-exp into one pass.
        is_label = tf.range(logits.shape[-1]) == labels[..., tf.newaxis]
        return tf.reduce_sum(tf.where(is_label, logits, 0.0), axis=-1)
    return tf.gather(logits, labels, batch_dims=labels.shape.rank)
