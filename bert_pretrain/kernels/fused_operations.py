"""The operations between a layer's matrix products, in few memory passes.

Each operation has a handwritten gradient. The gradient computes intermediate
values again from the inputs, so that they are not stored between the two
passes. Dropout masks are not stored either: a seed and the position of an
element decide whether the element is dropped.

XLA fuses such a chain of operations into one pass. On a TPU, XLA compiles the
whole step. On other devices each chain is compiled alone, and the device's
library computes the matrix products. (On a CPU with oneDNN, a step that is
compiled as a whole takes twice as long as a step that is not compiled.)

B = rows, N = heads, S = seq_length, D = head size, H = hidden size.
"""

import functools
import math
from collections.abc import Callable

import tensorflow as tf

# Constants of dropout's random bits, see `_random_bits`: the step between
# neighbouring elements, and the shifts and factors that mix the bits.
GOLDEN_STEP = 0x9E3779B9
MIXING = (17, 0xED5AD4BB), (11, 0xAC4C1B51), (15, 0x31848BAB)

_compiled: Callable = functools.partial(
    tf.function, jit_compile=True, autograph=False, reduce_retracing=False
)


def gelu(values: tf.Tensor) -> tf.Tensor:
    """GELU, computed with the error function (Hendrycks and Gimpel 2016)."""

    @tf.custom_gradient
    def activate(values):
        return _gelu(values), functools.partial(_gelu_gradient, values)

    return activate(values)


def normalize(
    values: tf.Tensor,
    scale_H: tf.Tensor,
    offset_H: tf.Tensor,
    epsilon: float,
) -> tf.Tensor:
    """LayerNorm (Ba et al. 2016), computed in float32.

    Returns:
      Values of the input's dtype.
    """

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


def statistics(
    values: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes `normalize`'s mean and deviation [..., 1] of the last axis.

    They have no gradient, because the gradient of `normalize_by` includes it.
    """
    wide = tf.cast(tf.stop_gradient(values), tf.float32)
    return _statistics(wide, epsilon)


def normalize_by(
    values: tf.Tensor,
    scale_H: tf.Tensor,
    offset_H: tf.Tensor,
    mean: tf.Tensor,
    deviation: tf.Tensor,
) -> tf.Tensor:
    """`normalize` from known `statistics`, which saves one pass."""

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


def dropout(
    values: tf.Tensor, rate: float, seed: tf.Tensor | None
) -> tf.Tensor:
    """Sets random elements to zero and scales the others up.

    Args:
      values: of any shape that is known when the graph is traced.
      rate: the probability that an element is dropped.
      seed: int32 [2]; the same seed drops the same elements. None for no
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


def attention(
    query_BNSD: tf.Tensor,
    key_BNSD: tf.Tensor,
    value_BNSD: tf.Tensor,
    hidden_scores: tf.Tensor,
    rate: float,
    seed: tf.Tensor | None,
) -> tf.Tensor:
    """Attention (Vaswani et al. 2017, section 3.2.1), with dropout.

    Only one [B, N, S, S] tensor is kept for the gradient. The gradient's sums
    over a row of this tensor are computed as sums over D (Dao et al. 2022,
    B.2).

    Args:
      query_BNSD: already divided by the root of the head size.
      key_BNSD: one key for each position.
      value_BNSD: one value for each position.
      hidden_scores: added to the scores; large and negative where a token
        must not see another token, else 0. Broadcast to [B, N, S, S].
      rate: see `dropout`.
      seed: see `dropout`.
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
def cross_entropy_gradient(
    logits: tf.Tensor,
    totals: tf.Tensor,
    labels: tf.Tensor,
    upstream: tf.Tensor,
) -> tf.Tensor:
    """The gradient of the cross-entropy with respect to the logits.

    Args:
      logits: [..., V].
      totals: [...] float32, log-sum-exp of the logits.
      labels: [...] integers.
      upstream: [...] float32, the gradient with respect to the cross-entropy.
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
def _scores_gradient(  # noqa: PLR0913 (all inputs of one pass)
    weights_BNSS, upstream_BNSS, attended_BNSD, upstream_BNSD, rate, seed
):
    """The gradient with respect to the scores: of dropout and softmax."""
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


def _kept(
    shape: tf.TensorShape, rate: float, seed: tf.Tensor | None
) -> tf.Tensor:
    """float32 factors: 0 for a dropped element, else 1 / (1 - rate)."""
    if seed is None or not rate:
        return tf.ones([])
    bits = _random_bits(shape, seed)
    threshold = tf.constant(round(rate * 2**32), tf.uint32)
    return tf.where(bits >= threshold, 1 / (1 - rate), 0.0)


def _random_bits(shape: tf.TensorShape, seed: tf.Tensor) -> tf.Tensor:
    """Random uint32; each depends only on the seed and its own position.

    This is SplitMix (Steele et al. 2014, section 3) with 32 bits: the position
    in row-major order times the golden ratio, mixed by a finalizer. The
    finalizer is triple32 of Wellons' hash-prospector (2018) without its last
    shift, which does not change the upper half of the bits. It costs a tenth
    of Philox, and no memory.
    """
    first, second = tf.unstack(tf.bitcast(seed, tf.uint32))
    # The seed is added first: XLA would turn a sum of constants alone into a
    # constant of the tensor's size. The last axis is added last, so that all
    # intermediate tensors are small.
    bits, stride = first, shape.num_elements()
    for axis, size in enumerate(shape):
        stride //= size
        steps = tf.bitcast(tf.range(size, dtype=tf.int32), tf.uint32)
        steps *= tf.constant(GOLDEN_STEP * stride % 2**32, tf.uint32)
        bits += tf.reshape(steps, [-1] + [1] * (shape.rank - 1 - axis))
    for number, (shift, factor) in enumerate(MIXING):
        shifted = tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint32))
        bits = tf.bitwise.bitwise_xor(bits, shifted)
        bits *= tf.constant(factor, tf.uint32)
        # Both words at the same place could cancel each other out.
        if not number:
            bits = tf.bitwise.bitwise_xor(bits, second)
    return bits
