"""The kernels and their gradients equal their plain forms."""

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain.kernels import fused_operations

SEED = tf.constant([7, 8])


def normal(*shape, seed=0, dtype=tf.float32):
    values = np.random.default_rng(seed).normal(size=shape)
    return tf.cast(tf.constant(values, tf.float32), dtype)


def plain_gelu(values):
    return tf.nn.gelu(values, approximate=False)


def plain_normalize(values, scale_H, offset_H, epsilon):
    mean, variance = tf.nn.moments(values, axes=[-1], keepdims=True)
    return tf.nn.batch_normalization(
        values, mean, variance, offset_H, scale_H, epsilon
    )


def plain_attention(query, key, value, hidden_scores, rate, seed):
    weights = tf.nn.softmax(
        tf.matmul(query, key, transpose_b=True) + hidden_scores
    )
    if seed is not None:
        weights *= fused_operations.dropout(tf.ones_like(weights), rate, seed)
    return tf.matmul(weights, value)


def assert_equal_with_gradients(ours, plain, inputs):
    """Compares values and gradients in float32, then ours in bfloat16."""
    upstream = None
    results = {}
    for name, function, dtype in (
        ("plain", plain, tf.float32),
        ("float32", ours, tf.float32),
        ("bfloat16", ours, tf.bfloat16),
    ):
        cast = [tf.cast(value, dtype) for value in inputs]
        with tf.GradientTape() as tape:
            tape.watch(cast)
            output = function(*cast)
        if upstream is None:
            upstream = normal(*output.shape, seed=9)
        gradients = tape.gradient(output, cast, tf.cast(upstream, dtype))
        assert all(value.dtype == dtype for value in (output, *gradients))
        results[name] = [
            tf.cast(value, tf.float32).numpy() for value in (output, *gradients)
        ]
    for expected, wide, narrow in zip(
        results["plain"], results["float32"], results["bfloat16"], strict=True
    ):
        np.testing.assert_allclose(wide, expected, rtol=1e-4, atol=2e-5)
        size = np.abs(expected).max()
        assert np.abs(narrow - expected).max() < 0.03 * size


def test_gelu_equals_its_plain_form():
    values = tf.concat([normal(6, 50) * 3, [[-40.0, -9, 0, 9, 40] * 10]], 0)
    assert_equal_with_gradients(fused_operations.gelu, plain_gelu, [values])


@pytest.mark.parametrize("shape", [(3, 5, 16), (7, 24)])
def test_normalize_equals_its_plain_form(shape):
    scale_H, offset_H = normal(shape[-1], seed=1), normal(shape[-1], seed=2)
    values = normal(*shape) * 3 + 1

    def ours(values):
        return fused_operations.normalize(values, scale_H, offset_H, 1e-3)

    assert_equal_with_gradients(
        ours,
        lambda values: plain_normalize(values, scale_H, offset_H, 1e-3),
        [values],
    )
    # The parameters are always float32.
    gradients = []
    for function in (fused_operations.normalize, plain_normalize):
        with tf.GradientTape() as tape:
            tape.watch([scale_H, offset_H])
            output = function(values, scale_H, offset_H, 1e-3)
        gradients.append(
            tape.gradient(output, [scale_H, offset_H], normal(*shape, seed=3))
        )
    for our, plain in zip(*gradients, strict=True):
        np.testing.assert_allclose(our, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", [None, SEED])
def test_attention_equals_its_plain_form(seed):
    is_hidden = np.random.default_rng(5).random([2, 1, 6, 6]) < 0.3
    hidden_scores = tf.constant(np.where(is_hidden, -1e4, 0), tf.float32)

    def attend_by(function):
        def attend(query, key, value):
            return function(
                query,
                key,
                value,
                tf.cast(hidden_scores, query.dtype),
                0.25,
                seed,
            )

        return attend

    assert_equal_with_gradients(
        attend_by(fused_operations.attention),
        attend_by(plain_attention),
        [normal(2, 3, 6, 4, seed=number) for number in range(3)],
    )


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_drops_at_its_rate_and_keeps_the_mean(dtype, rate):
    ones = tf.ones([200, 50, 23], dtype)

    def dropped(*seed):
        values = fused_operations.dropout(ones, rate, tf.constant(seed))
        return tf.cast(values, tf.float32).numpy()

    first = dropped(7, 8)
    np.testing.assert_allclose(
        first[first > 0],
        1 / (1 - rate),
        rtol=4e-3 if dtype == tf.bfloat16 else 1e-6,
    )
    tolerance = 5 * (rate * (1 - rate) / first.size) ** 0.5
    assert abs((first == 0).mean() - rate) < tolerance
    # The mask is independent of other seeds' masks and of its neighbours.
    pairs = [(first, dropped(*seed)) for seed in ((7, 9), (6, 8), (8, 7))]
    pairs += [
        (np.delete(first, 0, axis), np.delete(first, -1, axis))
        for axis in range(3)
    ]
    for one, other in pairs:
        both = ((one == 0) & (other == 0)).mean()
        assert abs(both - rate**2) < 2 * tolerance


def test_dropout_s_gradient_has_its_mask():
    values = normal(8, 40)
    with tf.GradientTape() as tape:
        tape.watch(values)
        dropped = fused_operations.dropout(values, 0.3, SEED)
    ones = tf.ones_like(values)
    np.testing.assert_array_equal(
        tape.gradient(dropped, values),
        fused_operations.dropout(ones, 0.3, SEED),
    )
    assert fused_operations.dropout(values, 0.3, None) is values
    assert fused_operations.dropout(values, 0.0, SEED) is values


@pytest.mark.parametrize("word", [0, 1])
@pytest.mark.parametrize("bit", [0, 5, 30])
def test_each_bit_of_the_seed_changes_half_of_the_upper_random_bits(word, bit):
    shape = tf.TensorShape([1 << 12])
    flip = tf.constant([(1 << bit) * (word == i) for i in range(2)])
    bits, other = (
        fused_operations._random_bits(shape, seed).numpy()
        for seed in (SEED, tf.bitwise.bitwise_xor(SEED, flip))
    )
    # The upper bits decide what is dropped.
    upper = ((bits ^ other) >> 16).astype(np.uint16)
    changed = np.unpackbits(upper.view(np.uint8)).mean()
    assert abs(changed - 0.5) < 0.01
