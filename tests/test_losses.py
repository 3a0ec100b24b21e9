"""Sums over unequal numbers of predictions."""

import numpy as np
import tensorflow as tf

from bert_pretrain import losses


def test_sums_equal_numpy():
    rng = np.random.default_rng(0)
    logits_BPV = rng.normal(size=[3, 4, 7])
    labels_BP = rng.integers(0, 7, [3, 4])
    weights_BP = np.array([[1, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]])
    # Certainly right where the weight says that nobody looks.
    logits_BPV[0, 3, labels_BP[0, 3]] = 100
    sums = losses.masked_lm_sums(
        tf.constant(logits_BPV, tf.float32),
        tf.constant(labels_BP, tf.int32),
        tf.constant(weights_BP, tf.float32),
    )
    shifted = logits_BPV - np.log(
        np.exp(logits_BPV).sum(axis=-1, keepdims=True)
    )
    nats_BP = -np.take_along_axis(shifted, labels_BP[..., None], axis=-1)[
        ..., 0
    ]
    np.testing.assert_allclose(
        sums.loss, (nats_BP * weights_BP).sum(), rtol=1e-5
    )
    is_correct = logits_BPV.argmax(axis=-1) == labels_BP
    assert float(sums.num_correct) == (is_correct * weights_BP).sum()
    assert float(sums.num_predictions) == 4


def test_the_loss_is_float32_whatever_the_logits():
    logits = tf.cast(tf.random.stateless_normal([2, 2], [1, 2]), tf.bfloat16)
    sums = losses.next_sentence_sums(logits, tf.constant([0, 1]), tf.ones([2]))
    assert sums.loss.dtype == tf.float32


def test_a_row_without_weight_counts_for_nothing():
    logits = tf.constant([[2.0, -1.0], [5.0, 0.0]])
    labels = tf.constant([1, 0])
    both = losses.next_sentence_sums(logits, labels, tf.constant([1.0, 0.0]))
    one = losses.next_sentence_sums(logits[:1], labels[:1], tf.constant([1.0]))
    assert vars(both) == vars(one)
