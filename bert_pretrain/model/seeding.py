"""Seeds that follow from a seed, the same ones on every device.

TensorFlow's own (`stateless_fold_in`) do not: where a word of the seed is
negative, XLA computes others than TensorFlow's kernels, and on a TPU it takes
another generator; so the dropout of a run would be another one there. Each
also costs XLA the code of a whole generator.
"""

import tensorflow as tf

# 2**32 divided by the golden ratio: multiples of it differ in all bits.
_GOLDEN = 0x9E3779B9


def fold_in(seed: tf.Tensor, number: tf.Tensor | int) -> tf.Tensor:
    """A seed that follows from a seed, int32 [2], and a number, int32 []."""
    return _fold_in(seed, tf.reshape(number, [1]))[0]


def split(seed: tf.Tensor, num_seeds: int) -> list[tf.Tensor]:
    """`fold_in` of the numbers from 0 on."""
    return tf.unstack(_fold_in(seed, tf.range(num_seeds)))


def mix(bits: tf.Tensor) -> tf.Tensor:
    """MurmurHash3's finalizer (Appleby 2011), of uint32."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        shifted = tf.bitwise.right_shift(bits, _uint32(shift))
        bits = tf.bitwise.bitwise_xor(bits, shifted) * _uint32(factor)
    return bits


def _fold_in(seed, numbers_N):
    """int32 [N, 2]."""
    first, second = tf.unstack(tf.bitcast(seed, tf.uint32))
    # Each word of each seed has a place of its own, none of which is 0, of
    # which the finalizer makes 0.
    places_N1 = tf.bitcast(numbers_N, tf.uint32)[:, tf.newaxis] * _uint32(2)
    bits_N2 = mix((places_N1 + _uint32([1, 2])) * _uint32(_GOLDEN))
    for word in (first, second):
        bits_N2 = mix(tf.bitwise.bitwise_xor(bits_N2, word))
    return tf.bitcast(bits_N2, tf.int32)


def _uint32(value):
    return tf.constant(value, tf.uint32)
