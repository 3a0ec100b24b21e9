"""Sums over unequal numbers of predictions."""

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain.model import losses


def test_sums_equal_numpy():
    rng = np.random.default_rng(0)
    logits_BPV = rng.normal(size=[3, 4, 7])
    labels_BP = rng.integers(0, 7, [3, 4])
    weights_BP = np.array([[1, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]])
    # This prediction is certainly right, but its weight is 0.
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


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_the_gradient_is_that_of_tensorflow_s_cross_entropy(dtype):
    rng = np.random.default_rng(1)
    logits_BPV = tf.cast(tf.constant(rng.normal(0, 4, [3, 5, 40])), dtype)
    # Probabilities near 0 and 1, whose logarithms must stay finite.
    extreme = tf.one_hot([1, 2, 3, 4, 5], 40, 200.0, -200.0, dtype=dtype)
    logits_BPV = tf.concat([logits_BPV, [extreme]], axis=0)
    labels_BP = tf.constant(rng.integers(0, 40, [4, 5]), tf.int32)
    weights_BP = tf.constant(rng.random([4, 5]), tf.float32)
    wide_BPV = tf.cast(logits_BPV, tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([logits_BPV, wide_BPV])
        ours = losses.masked_lm_sums(logits_BPV, labels_BP, weights_BP).loss
        nats_BP = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels_BP, wide_BPV
        )
        plain = tf.reduce_sum(nats_BP * weights_BP)
    np.testing.assert_allclose(ours, plain, rtol=1e-6)
    gradient_BPV = tape.gradient(ours, logits_BPV)
    assert gradient_BPV.dtype == dtype
    np.testing.assert_allclose(
        tf.cast(gradient_BPV, tf.float32),
        tape.gradient(plain, wide_BPV),
        rtol=5e-3 if dtype == tf.bfloat16 else 1e-5,
        atol=1e-6,
    )
