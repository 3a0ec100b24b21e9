"""Seeds: the same on every device, and all different."""

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain.kernels import seeding

# Also for negative words, for which TensorFlow's own seeds differ.
SEEDS = ([0, 0], [7, 1], [-3, 2**31 - 1], [-(2**31), -1])


@pytest.mark.parametrize("seed", SEEDS)
def test_seeds_are_the_same_compiled_or_not(seed):
    def derive(seed, number):
        return seeding.fold_in(seed, number), seeding.split(seed, 5)

    seed = tf.constant(seed)
    with tf.device("CPU"):
        eager = derive(seed, tf.constant(-2))
    compiled = tf.function(derive, jit_compile=True)(seed, tf.constant(-2))
    for ours, theirs in zip(
        tf.nest.flatten(compiled), tf.nest.flatten(eager), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_mixing_is_the_finalizer_of_murmurhash3():
    # From its reference code (smhasher's fmix32).
    mixed = seeding.mix(tf.constant([0, 1, 2**32 - 1], tf.uint32))
    np.testing.assert_array_equal(mixed, [0, 0x514E28B7, 0x81F16F39])


def test_splitting_folds_in_the_numbers_from_zero_on():
    seed = tf.constant([5, 6])
    for number, part in enumerate(seeding.split(seed, 4)):
        np.testing.assert_array_equal(part, seeding.fold_in(seed, number))


def test_no_two_seeds_are_alike():
    seen = set()
    for first in range(-4, 4):
        for second in range(-4, 4):
            parts = seeding.split(tf.constant([first, second]), 64)
            seen |= {word for part in parts for word in part.numpy().tolist()}
    # Among so few words of 32 bits no pair is expected by chance.
    assert len(seen) == 8 * 8 * 64 * 2


@pytest.mark.parametrize("word", [0, 1, 2])
def test_each_bit_of_seed_and_number_changes_half_of_the_bits(word):
    def bits(words):
        seed = seeding.fold_in(tf.constant(words[:2]), tf.constant(words[2]))
        return np.unpackbits(seed.numpy().view(np.uint8))

    rng = np.random.default_rng(0)
    origins = rng.integers(-(2**31), 2**31, (32, 3)).astype(np.int32)
    for bit in range(0, 32, 5):
        changed = origins.copy()
        changed[:, word] ^= np.int32(1 << bit)
        shares = [
            np.mean(bits(one) != bits(other))
            for one, other in zip(origins, changed, strict=True)
        ]
        assert abs(np.mean(shares) - 0.5) < 0.06
