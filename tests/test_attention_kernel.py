"""The TPUs' attention kernel, interpreted on a CPU, equals plain attention."""

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain.kernels import attention_kernel, fused_operations

pytest.importorskip("jax")

SEED = tf.constant([7, -8])


def normal(*shape, seed=0):
    values = np.random.default_rng(seed).normal(size=shape)
    return tf.constant(values, tf.float32)


def documents(num_rows, seq_length):
    """Rows of several documents, with padding (0) behind them."""
    ids = np.random.default_rng(3).integers(0, 4, [num_rows, seq_length])
    return tf.constant(np.sort(ids, axis=1)[:, ::-1].copy(), tf.int32)


def side_by_side(parts, head_size):
    """[B, S, X] of query, key and value [B, N, S, D], group by group."""
    num_rows, num_heads, seq_length, _ = parts[0].shape
    group_size = attention_kernel.GROUP_WIDTH // head_size
    return tf.reshape(
        tf.transpose(
            tf.reshape(
                tf.stack(parts),
                [3, num_rows, -1, group_size, seq_length, head_size],
            ),
            [1, 4, 2, 0, 3, 5],
        ),
        [num_rows, seq_length, 3 * num_heads * head_size],
    )


def by_kernel(ids_BS, rate, seed, query, key, value):
    num_heads, head_size = query.shape[1], query.shape[3]
    with attention_kernel.form("interpreted"):
        attended_BSH = attention_kernel.attend(
            side_by_side([query, key, value], head_size),
            ids_BS,
            num_heads,
            rate,
            seed,
        )
    return tf.transpose(
        tf.reshape(attended_BSH, [*ids_BS.shape, num_heads, head_size]),
        [0, 2, 1, 3],
    )


def plainly(ids_BS, rate, seed, query, key, value):
    is_seen = ids_BS[:, :, tf.newaxis] == ids_BS[:, tf.newaxis]
    hidden_scores = tf.where(is_seen, 0.0, -1e4)[:, tf.newaxis]
    return fused_operations.attention(
        query, key, value, hidden_scores, rate, seed
    )


@pytest.mark.parametrize(
    "num_heads, seq_length, head_size, rate",
    [
        (2, 128, 64, 0.0),
        (4, 384, 64, 0.25),
        (4, 128, 32, 0.1),
        (1, 256, 128, 0.1),
    ],
)
def test_values_gradients_and_dropout_masks_are_those_of_plain_attention(
    num_heads, seq_length, head_size, rate
):
    ids_BS = documents(2, seq_length)
    heads = [
        normal(2, num_heads, seq_length, head_size, seed=number)
        for number in range(3)
    ]
    heads[0] *= head_size**-0.5
    seed = SEED if rate else None
    upstream = normal(*heads[0].shape, seed=9)
    results = []
    for attend in (by_kernel, plainly):
        with tf.GradientTape() as tape:
            tape.watch(heads)
            attended = attend(ids_BS, rate, seed, *heads)
        results.append([attended, *tape.gradient(attended, heads, upstream)])
    for ours, plain in zip(*results, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=2e-5)


def test_the_kernel_is_used_only_on_tpus():
    assert attention_kernel.obstacle(512, 12, 64) is None
    assert not attention_kernel.is_used(512, 12, 64)


def test_a_machine_without_jax_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(
        attention_kernel.importlib.util, "find_spec", lambda name: None
    )
    assert "pip install -c constraints" in attention_kernel.obstacle(
        512, 12, 64
    )


@pytest.mark.parametrize(
    "seq_length, num_heads, head_size, fits",
    [
        (512, 12, 64, True),
        (128, 2, 64, True),
        (1024, 16, 64, True),
        (128, 6, 128, True),
        (64, 2, 64, False),  # shorter than a block of queries
        (128, 3, 64, False),  # half of a group
        (128, 2, 48, False),
        (4096, 12, 64, False),
    ],
)
def test_the_kernel_is_used_only_for_shapes_that_fit(
    monkeypatch, seq_length, num_heads, head_size, fits
):
    monkeypatch.setattr(
        attention_kernel.recomputation, "is_one_program", lambda: True
    )
    shape = seq_length, num_heads, head_size
    assert attention_kernel.is_used(*shape) == fits
    with attention_kernel.form("plain"):
        assert not attention_kernel.is_used(*shape)
