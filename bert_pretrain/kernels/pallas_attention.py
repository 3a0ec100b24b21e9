"""Attention for TPUs in Pallas: all scores of a head stay in fast memory.

The kernel reads queries, keys and values in the layout of the matrix product
before it, and writes its result in the layout of the matrix product after it.
So no tensor of size S x S reaches the main memory, and no tensor is
transposed. The 128 lanes of a register hold a group of heads, for example two
heads of 64. The kernel computes one block of queries after the other. A block
sees all keys at once, so that one softmax is enough; only much longer rows
would need running sums (Dao et al. 2022, section 3.1).

A token sees the tokens of the same document. Dropout uses the hash function of
fused_operations.py with the same positions, so its masks are the same.

B = rows, S = seq_length, H = hidden size, X = 3 H: for each group the
queries, the keys and the values of its heads.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES = 128
_BLOCK_SIZE = 128  # queries
_HIDDEN_SCORE = -1e9


@dataclasses.dataclass(frozen=True)
class Attention:
    """The parameters of a kernel, which are compiled into it."""

    num_heads: int
    head_size: int  # a divisor of LANES
    rate: float  # dropout of the attention's weights; 0 for none
    # Constants of dropout's random bits, see fused_operations.py. They are
    # passed in, because an import of that file would load TensorFlow.
    golden_step: int
    mixing: tuple[tuple[int, int], ...]
    is_interpreted: bool = False  # plain operations, for any device

    @property
    def group_size(self) -> int:
        """Number of heads in a group."""
        return LANES // self.head_size

    def forward(self) -> Callable[..., jax.Array]:
        """A function that computes attention.

        (seed int32 [2], ids int32 [B, S], qkv [B, S, X]) -> [B, S, H].
        """
        return functools.partial(_call, self, _forward, 1)

    def backward(self) -> Callable[..., jax.Array]:
        """A function that computes the gradient with respect to qkv.

        (seed, ids, qkv, upstream [B, S, H]) -> [B, S, X].
        """
        return functools.partial(_call, self, _backward, 3)


def _call(
    attention: Attention,
    kernel: Callable[..., None],
    num_outputs: int,
    seed: jax.Array,
    ids_BS: jax.Array,
    *arrays: jax.Array,
) -> jax.Array:
    """Runs a kernel for each row and group.

    Args:
      attention: the kernel's parameters.
      kernel: `_forward` or `_backward`.
      num_outputs: so many [B, S, H] are the kernel's result.
      seed: int32 [2].
      ids_BS: int32.
      arrays: qkv and, for `_backward`, the gradient of the result.
    """
    B, S, _ = arrays[0].shape
    dtype = arrays[0].dtype
    num_groups = attention.num_heads // attention.group_size
    shape = B, S, num_outputs * num_groups * LANES
    num_products = {_forward: 2, _backward: 5}[kernel]

    def block(width):
        return pl.BlockSpec(
            (1, S, width // num_groups), lambda row, group: (row, 0, group)
        )

    sums = pltpu.VMEM((S, LANES), jnp.float32)
    num_scores = B * S * S * attention.num_heads
    return pl.pallas_call(
        functools.partial(kernel, attention),
        grid=(B, num_groups),
        in_specs=[
            pl.BlockSpec(memory_space=pltpu.SMEM),
            pl.BlockSpec((1, S, 1), lambda row, group: (row, 0, 0)),
            pl.BlockSpec((1, 1, S), lambda row, group: (row, 0, 0)),
            *(block(array.shape[2]) for array in arrays),
        ],
        out_specs=block(shape[2]),
        out_shape=jax.ShapeDtypeStruct(shape, dtype),
        scratch_shapes=[sums, sums] if kernel is _backward else [],
        # The lanes that are set to zero do not count.
        cost_estimate=pl.CostEstimate(
            flops=2 * num_products * num_scores * attention.head_size,
            transcendentals=num_scores,
            bytes_accessed=dtype.itemsize
            * (sum(array.size for array in arrays) + B * S * shape[2]),
        ),
        interpret=attention.is_interpreted,
    )(seed, ids_BS[:, :, None], ids_BS[:, None, :], *arrays)


def _forward(
    attention: Attention,
    seed_ref: Any,
    rows_ref: Any,
    columns_ref: Any,
    qkv_ref: Any,
    out_ref: Any,
) -> None:
    """The kernel of attention, for one row and one group."""
    k, v = qkv_ref[0, :, LANES : 2 * LANES], qkv_ref[0, :, 2 * LANES :]
    first = _first_head(attention)

    def run_block(block):
        q = qkv_ref[0, block, :LANES]
        is_seen = rows_ref[0, block] == columns_ref[0]
        out = jnp.zeros(q.shape, jnp.float32)
        for member in range(attention.group_size):
            weights = _weights(_of_head(attention, q, member), k, is_seen)
            if attention.rate:
                weights *= _kept(
                    attention, seed_ref, first + member, block, k.shape[0]
                )
            attended = _dot(weights.astype(v.dtype), v, 1, 0)
            out += _of_head(attention, attended, member)
        out_ref[0, block] = out.astype(out_ref.dtype)

    _for_each_block(k.shape[0], run_block)


def _backward(  # noqa: PLR0913 (a kernel's references)
    attention: Attention,
    seed_ref: Any,
    rows_ref: Any,
    columns_ref: Any,
    qkv_ref: Any,
    upstream_ref: Any,
    out_ref: Any,
    k_sums: Any,
    v_sums: Any,
) -> None:
    """The kernel of the gradient, for one row and one group."""
    k, v = qkv_ref[0, :, LANES : 2 * LANES], qkv_ref[0, :, 2 * LANES :]
    first = _first_head(attention)
    k_sums[...] = v_sums[...] = jnp.zeros(k.shape, jnp.float32)

    def run_block(block):
        q, upstream = qkv_ref[0, block, :LANES], upstream_ref[0, block]
        is_seen = rows_ref[0, block] == columns_ref[0]
        q_sum = jnp.zeros(q.shape, jnp.float32)
        for member in range(attention.group_size):
            own_q = _of_head(attention, q, member)
            own_upstream = _of_head(attention, upstream, member)
            weights = dropped = _weights(own_q, k, is_seen)
            slope = _dot(own_upstream, v, 1, 1)
            if attention.rate:
                kept = _kept(
                    attention, seed_ref, first + member, block, k.shape[0]
                )
                dropped, slope = weights * kept, slope * kept
            slope -= jnp.sum(weights * slope, axis=1, keepdims=True)
            scores_gradient = weights * slope
            v_sums[...] += _dot_transposed(dropped, own_upstream)
            k_sums[...] += _dot_transposed(scores_gradient, own_q)
            q_gradient = _dot(scores_gradient.astype(k.dtype), k, 1, 0)
            q_sum += _of_head(attention, q_gradient, member)
        out_ref[0, block, :LANES] = q_sum.astype(out_ref.dtype)

    _for_each_block(k.shape[0], run_block)
    out_ref[0, :, LANES : 2 * LANES] = k_sums[...].astype(out_ref.dtype)
    out_ref[0, :, 2 * LANES :] = v_sums[...].astype(out_ref.dtype)


def _for_each_block(seq_length: int, run_block: Callable[[Any], None]) -> None:
    """Calls a function with each block of queries, as a slice.

    The loop is not unrolled: the code of a block is long, and the program
    already contains it once for each layer.
    """
    size = min(seq_length, _BLOCK_SIZE)

    def step(i, _):
        run_block(pl.ds(pl.multiple_of(i * size, size), size))

    jax.lax.fori_loop(0, seq_length // size, step, None)


def _weights(q: jax.Array, k: jax.Array, is_seen: jax.Array) -> jax.Array:
    """Softmax of the scores, in float32."""
    scores = jnp.where(is_seen, _dot(q, k, 1, 1), _HIDDEN_SCORE)
    shares = jnp.exp(scores - jnp.max(scores, axis=1, keepdims=True))
    return shares / jnp.sum(shares, axis=1, keepdims=True)


def _of_head(attention: Attention, values: jax.Array, member: int) -> jax.Array:
    """Sets the lanes of the group's other heads to zero."""
    if attention.group_size == 1:
        return values
    lane = jax.lax.broadcasted_iota(jnp.int32, values.shape, 1)
    is_own = lane // attention.head_size == member
    # A v5e cannot select between bfloat16 values.
    wide = jnp.where(is_own, values.astype(jnp.float32), 0.0)
    return wide.astype(values.dtype)


def _first_head(attention: Attention) -> jax.Array:
    """Index of the group's first head among the heads of all rows."""
    group = pl.program_id(1)
    row = pl.program_id(0)
    return row * attention.num_heads + group * attention.group_size


def _kept(
    attention: Attention,
    seed_ref: Any,
    head: jax.Array,
    block: Any,
    seq_length: int,
) -> jax.Array:
    """Factors: 0 for a dropped weight, else 1 / (1 - rate)."""
    query = jax.lax.broadcasted_iota(jnp.int32, (block.size, 1), 0)
    key = jax.lax.broadcasted_iota(jnp.int32, (1, seq_length), 1)
    rows = (head * seq_length + block.start + query) * seq_length
    # The same bits as in fused_operations.py, but in int32, which all TPUs
    # support.
    step = _signed(attention.golden_step)
    bits = rows * step + seed_ref[0] + key * step
    for number, (shift, factor) in enumerate(attention.mixing):
        bits ^= jax.lax.shift_right_logical(bits, jnp.int32(shift))
        bits *= _signed(factor)
        if not number:
            bits ^= seed_ref[1]
    # Both sides are shifted by 2**31, so that they compare as unsigned.
    threshold = round(attention.rate * 2**32) - 2**31
    is_kept = (bits ^ _signed(2**31)) >= jnp.int32(threshold)
    return jnp.where(is_kept, 1 / (1 - attention.rate), 0.0)


def _signed(value: int) -> jax.Array:
    """The int32 with the same bits as a uint32."""
    return jnp.int32(value - 2**32 if value >= 2**31 else value)


def _dot_transposed(left: jax.Array, right: jax.Array) -> jax.Array:
    """Matrix product over the rows of both sides, in the dtype of `right`."""
    if jax.__version_info__ < (0, 5):
        # The compiler of that time has no product over the rows of the left
        # side, and transposes only numbers of 32 bits.
        return _dot(left.T.astype(right.dtype), right, 1, 0)
    return _dot(left.astype(right.dtype), right, 0, 0)


def _dot(
    left: jax.Array, right: jax.Array, left_axis: int, right_axis: int
) -> jax.Array:
    """Matrix product over one axis of each side, in float32."""
    return jax.lax.dot_general(
        left,
        right,
        (((left_axis,), (right_axis,)), ((), ())),
        preferred_element_type=jnp.float32,
    )
