"""The parts of a layer between its matrix products, in few passes over memory.

Each has its gradient written out, so that what the gradient needs is computed
again from the inputs, and not kept from one pass for another; dropout's masks
are not kept either, since an element's fate follows from a seed and its place.

XLA makes one pass of such a chain: on a TPU, where it compiles the whole step;
elsewhere the chains are compiled one by one, and the matrix products stay
with the device's library. (On a CPU with oneDNN, compiling the whole step
takes twice the time of compiling none of it.)

B = rows, N = heads, S = seq_length, D = head size, H = hidden size.
"""

import functools
import math

import tensorflow as tf

# Of dropout's random bits, see `_random_bits`: the step from place to place,
# and the shifts and factors that mix them.
GOLDEN_STEP = 0x9E3779B9
MIXING = (17, 0xED5AD4BB), (11, 0xAC4C1B51), (15, 0x31848BAB)

_compiled = functools.partial(
    tf.function, jit_compile=True, autograph=False, reduce_retracing=False
)


def gelu(values):
    """GELU by the error function (Hendrycks and Gimpel 2016)."""

    @tf.custom_gradient
    def activate(values):
        return _gelu(values), functools.partial(_gelu_gradient, values)

    return activate(values)


def normalize(values, scale_H, offset_H, epsilon):
    """LayerNorm (Ba et al. 2016), computed in float32, returned as it came."""

    @tf.custom_gradient
    def apply(values, scale_H, offset_H):
        normalized, mean, deviation = _normalize(
            values, scale_H, offset_H, epsilon
        )

        def gradient(upstream):
            return _normalize_gradient(
                values, mean, deviation, scale_H, upstream
            )

        return normalized, gradient

    return apply(values, scale_H, offset_H)


def statistics(values, epsilon):
    """Mean and deviation [..., 1] of the last axis, as `normalize` has them.

    They have no gradient: `normalize_by` has theirs in its own.
    """
    wide = tf.cast(tf.stop_gradient(values), tf.float32)
    return _statistics(wide, epsilon)


def normalize_by(values, scale_H, offset_H, mean, deviation):
    """`normalize`, given the values' `statistics`: one pass less."""

    @tf.custom_gradient
    def apply(values, scale_H, offset_H, mean, deviation):
        def gradient(upstream):
            return (
                *_normalize_gradient(
                    values, mean, deviation, scale_H, upstream
                ),
                None,
                None,
            )

        wide = (tf.cast(values, tf.float32) - mean) / deviation
        normalized = tf.cast(wide * scale_H + offset_H, values.dtype)
        return normalized, gradient

    return apply(values, scale_H, offset_H, mean, deviation)


def dropout(values, rate, seed):
    """Zeroes elements at random, and scales the others up.

    Args:
      seed: int32 [2]; the same one zeroes the same elements. None for no
        dropout.
    """
    if seed is None or not rate:
        return values

    @tf.custom_gradient
    def drop(values):
        return _drop(values, rate, seed), lambda upstream: _drop(
            upstream, rate, seed
        )

    return drop(values)


def attention(query_BNSD, key_BNSD, value_BNSD, hidden_scores, rate, seed):
    """Attention (Vaswani et al. 2017, section 3.2.1), with dropout.

    Only one [B, N, S, S] tensor is kept for the gradient, and the gradient's
    sums over a row of it are taken over D instead (Dao et al. 2022, B.2).

    Args:
      query_BNSD: already divided by the root of the head size.
      hidden_scores: what is added to the scores of what a token must not see.
      rate, seed: see `dropout`.
    """

    @tf.custom_gradient
    def attend(query_BNSD, key_BNSD, value_BNSD):
        scores_BNSS = tf.matmul(query_BNSD, key_BNSD, transpose_b=True)
        weights_BNSS = tf.nn.softmax(scores_BNSS + hidden_scores)
        attended_BNSD = tf.matmul(dropout(weights_BNSS, rate, seed), value_BNSD)

        def gradient(upstream_BNSD):
            scores_gradient_BNSS = _scores_gradient(
                weights_BNSS,
                tf.matmul(upstream_BNSD, value_BNSD, transpose_b=True),
                attended_BNSD,
                upstream_BNSD,
                rate,
                seed,
            )
            return (
                tf.matmul(scores_gradient_BNSS, key_BNSD),
                tf.matmul(scores_gradient_BNSS, query_BNSD, transpose_a=True),
                tf.matmul(
                    dropout(weights_BNSS, rate, seed),
                    upstream_BNSD,
                    transpose_a=True,
                ),
            )

        return attended_BNSD, gradient

    return attend(query_BNSD, key_BNSD, value_BNSD)


@_compiled
def cross_entropy_gradient(logits, totals, labels, upstream):
    """The gradient of the labels' nats.

    Args:
      logits: [..., V].
      totals: [...] float32, the logarithms of their exponentials' sums.
    """
    shares = tf.exp(tf.cast(logits, tf.float32) - totals[..., tf.newaxis])
    is_label = tf.range(logits.shape[-1]) == labels[..., tf.newaxis]
    errors = shares - tf.cast(is_label, tf.float32)
    return tf.cast(errors * upstream[..., tf.newaxis], logits.dtype)


@_compiled
def _gelu(values):
    wide = tf.cast(values, tf.float32)
    return tf.cast(wide * _normal_cdf(wide), values.dtype)


@_compiled
def _gelu_gradient(values, upstream):
    wide = tf.cast(values, tf.float32)
    density = tf.exp(-0.5 * wide * wide) / math.sqrt(2 * math.pi)
    slope = _normal_cdf(wide) + wide * density
    return tf.cast(tf.cast(upstream, tf.float32) * slope, values.dtype)


def _normal_cdf(values):
    return 0.5 * (1 + tf.math.erf(values / math.sqrt(2)))


@_compiled
def _normalize(values, scale_H, offset_H, epsilon):
    wide = tf.cast(values, tf.float32)
    mean, deviation = _statistics(wide, epsilon)
    normalized = (wide - mean) / deviation * scale_H + offset_H
    return tf.cast(normalized, values.dtype), mean, deviation


def _statistics(wide, epsilon):
    mean = tf.reduce_mean(wide, axis=-1, keepdims=True)
    variance = tf.reduce_mean((wide - mean) ** 2, axis=-1, keepdims=True)
    return mean, tf.sqrt(variance + epsilon)


@_compiled
def _normalize_gradient(values, mean, deviation, scale_H, upstream):
    wide, upstream = (tf.cast(v, tf.float32) for v in (values, upstream))
    whitened = (wide - mean) / deviation
    rows = list(range(values.shape.rank - 1))
    scaled = upstream * scale_H
    gradient = (
        scaled
        - tf.reduce_mean(scaled, axis=-1, keepdims=True)
        - whitened * tf.reduce_mean(scaled * whitened, axis=-1, keepdims=True)
    ) / deviation
    return (
        tf.cast(gradient, values.dtype),
        tf.reduce_sum(upstream * whitened, axis=rows),
        tf.reduce_sum(upstream, axis=rows),
    )


@_compiled
def _drop(values, rate, seed):
    kept = tf.cast(values, tf.float32) * _kept(values.shape, rate, seed)
    return tf.cast(kept, values.dtype)


@_compiled
def _scores_gradient(  # noqa: PLR0913 (all that one pass reads)
    weights_BNSS, upstream_BNSS, attended_BNSD, upstream_BNSD, rate, seed
):
    """The gradient of the softmax and of the dropout after it."""
    dtype = weights_BNSS.dtype
    weights_BNSS, upstream_BNSS, attended_BNSD, upstream_BNSD = (
        tf.cast(v, tf.float32)
        for v in (weights_BNSS, upstream_BNSS, attended_BNSD, upstream_BNSD)
    )
    row_sums = tf.reduce_sum(
        attended_BNSD * upstream_BNSD, axis=-1, keepdims=True
    )
    upstream_BNSS *= _kept(weights_BNSS.shape, rate, seed)
    return tf.cast(weights_BNSS * (upstream_BNSS - row_sums), dtype)


def _kept(shape, rate, seed):
    """float32: 0 for what is dropped, else what makes up for it."""
    if seed is None or not rate:
        return tf.ones([])
    bits = _random_bits(shape, seed)
    threshold = tf.constant(round(rate * 2**32), tf.uint32)
    return tf.where(bits >= threshold, 1 / (1 - rate), 0.0)


def _random_bits(shape, seed):
    """uint32 of a shape, each computed from the seed and its place alone.

    As SplitMix does (Steele et al. 2014, section 3), in 32 bits: steps of the
    golden ratio, mixed by a finalizer, triple32 of Wellons' hash-prospector
    (2018) but for its last shift, which the upper half does not need. It
    costs a tenth of Philox, and no memory.
    """
    first, second = tf.unstack(tf.bitcast(seed, tf.uint32))
    # A step for each place in row-major order. The seed comes first: of
    # constants alone, XLA would make a constant of the tensor's size. The
    # last axis comes last: all that is stored on the way is small.
    bits, num_places = first, shape.num_elements()
    for axis, size in enumerate(shape):
        num_places //= size
        steps = tf.bitcast(tf.range(size, dtype=tf.int32), tf.uint32)
        steps *= tf.constant(GOLDEN_STEP * num_places % 2**32, tf.uint32)
        bits += tf.reshape(steps, [-1] + [1] * (shape.rank - 1 - axis))
    for number, (shift, factor) in enumerate(MIXING):
        shifted = tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint32))
        bits = tf.bitwise.bitwise_xor(bits, shifted)
        bits *= tf.constant(factor, tf.uint32)
        if not number:  # Side by side, the two words could cancel out.
            bits = tf.bitwise.bitwise_xor(bits, second)
    return bits
