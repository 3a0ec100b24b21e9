"""Seeds that are derived from a seed, equal on every device.

TensorFlow's `stateless_fold_in` differs between devices. XLA and TensorFlow's
kernels give different results if a word of the seed is negative, and on a TPU
XLA uses another generator. A run would then have different dropout masks on
different devices. Each call of it also adds the code of a whole generator to
the XLA program.
"""

import tensorflow as tf

# 2**32 divided by the golden ratio; its multiples differ in all bits.
_GOLDEN = 0x9E3779B9


def fold_in(seed: tf.Tensor, number: tf.Tensor | int) -> tf.Tensor:
    """Derives a seed from a seed, int32 [2], and a number, int32 []."""
    return _fold_in(seed, tf.reshape(number, [1]))[0]


def split(seed: tf.Tensor, num_seeds: int) -> list[tf.Tensor]:
    """Derives seeds from a seed, with `fold_in` of the numbers from 0."""
    return tf.unstack(_fold_in(seed, tf.range(num_seeds)))


def mix(bits: tf.Tensor) -> tf.Tensor:
    """Mixes uint32 with the finalizer of MurmurHash3 (Appleby 2011)."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        shifted = tf.bitwise.right_shift(bits, _uint32(shift))
        bits = tf.bitwise.bitwise_xor(bits, shifted) * _uint32(factor)
    return bits


def _fold_in(seed: tf.Tensor, numbers_N: tf.Tensor) -> tf.Tensor:
    """One seed for each number: int32 [N, 2]."""
    first, second = tf.unstack(tf.bitcast(seed, tf.uint32))
    # The words of all seeds are numbered from 1, because the finalizer maps 0
    # to 0.
    indices_N1 = tf.bitcast(numbers_N, tf.uint32)[:, tf.newaxis] * _uint32(2)
    bits_N2 = mix((indices_N1 + _uint32([1, 2])) * _uint32(_GOLDEN))
    for word in (first, second):
        bits_N2 = mix(tf.bitwise.bitwise_xor(bits_N2, word))
    return tf.bitcast(bits_N2, tf.int32)


def _uint32(value: int | list[int]) -> tf.Tensor:
    return tf.constant(value, tf.uint32)
