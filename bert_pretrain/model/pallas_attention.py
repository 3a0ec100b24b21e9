"""Attention for TPUs in Pallas: all scores of a head stay in fast memory.

It reads queries, keys and values as one matrix product leaves them, and
writes what the next one takes, so that nothing of size S x S reaches the main
memory and nothing is transposed. The 128 lanes of a register hold the heads
of a group, two of 64. Queries are taken in blocks, each of which sees all
keys at once: so a softmax is one, without the running sums that rows of many
thousands would need (Dao et al. 2022, section 3.1).

A token sees the tokens of the same document. Dropout is drawn from the hash
that kernels.py has, of the same places: the masks are the same ones.

B = rows, S = seq_length, H = hidden size, X = 3 H: group by group the
queries, the keys and the values of its heads.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES = 128
_BLOCK_SIZE = 128  # queries
_HIDDEN_SCORE = -1e9


@dataclasses.dataclass(frozen=True)
class Attention:
    """What a kernel is made for."""

    num_heads: int
    head_size: int  # a divisor of LANES
    rate: float  # of dropout on the attention's weights; 0 for none
    # Of dropout's random bits, see kernels.py, which loads TensorFlow.
    golden_step: int
    mixing: tuple[tuple[int, int], ...]
    is_interpreted: bool = False  # by plain operations, on any device

    @property
    def group_size(self) -> int:
        """Heads in a group."""
        return LANES // self.head_size

    def forward(self) -> Callable:
        """(seed int32 [2], ids int32 [B, S], qkv [B, S, X]) -> [B, S, H]."""
        return functools.partial(_call, self, _forward, 1)

    def backward(self) -> Callable:
        """(seed, ids, qkv, upstream [B, S, H]) -> the gradient of qkv."""
        return functools.partial(_call, self, _backward, 3)


def _call(attention, kernel, num_parts, seed, ids_BS, *arrays):
    """Runs a kernel that gives `num_parts` x [B, S, H], for each group."""
    B, S, _ = arrays[0].shape
    dtype = arrays[0].dtype
    num_groups = attention.num_heads // attention.group_size
    shape = B, S, num_parts * num_groups * LANES
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
        # Of the heads' own products, without the lanes that are zero.
        cost_estimate=pl.CostEstimate(
            flops=2 * num_products * num_scores * attention.head_size,
            transcendentals=num_scores,
            bytes_accessed=dtype.itemsize
            * (sum(array.size for array in arrays) + B * S * shape[2]),
        ),
        interpret=attention.is_interpreted,
    )(seed, ids_BS[:, :, None], ids_BS[:, None, :], *arrays)


def _forward(attention, seed_ref, rows_ref, columns_ref, qkv_ref, out_ref):
    k, v = qkv_ref[0, :, LANES : 2 * LANES], qkv_ref[0, :, 2 * LANES :]
    first = _first_head(attention)

    def of_block(block):
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

    _for_each_block(k.shape[0], of_block)


def _backward(  # noqa: PLR0913 (a kernel's references)
    attention,
    seed_ref,
    rows_ref,
    columns_ref,
    qkv_ref,
    upstream_ref,
    out_ref,
    k_sums,
    v_sums,
):
    k, v = qkv_ref[0, :, LANES : 2 * LANES], qkv_ref[0, :, 2 * LANES :]
    first = _first_head(attention)
    k_sums[...] = v_sums[...] = jnp.zeros(k.shape, jnp.float32)

    def of_block(block):
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
            of_scores = (weights * slope).astype(q.dtype)
            v_sums[...] += _dot(dropped.astype(v.dtype), own_upstream, 0, 0)
            k_sums[...] += _dot(of_scores, own_q, 0, 0)
            q_sum += _of_head(attention, _dot(of_scores, k, 1, 0), member)
        out_ref[0, block, :LANES] = q_sum.astype(out_ref.dtype)

    _for_each_block(k.shape[0], of_block)
    out_ref[0, :, LANES : 2 * LANES] = k_sums[...].astype(out_ref.dtype)
    out_ref[0, :, 2 * LANES :] = v_sums[...].astype(out_ref.dtype)


def _for_each_block(seq_length, of_block):
    """Calls a function with slices of the queries, one after the other.

    In a loop, not side by side: what the compiler makes of a block is long,
    and stands in the program once a layer.
    """
    size = min(seq_length, _BLOCK_SIZE)

    def step(i, _):
        of_block(pl.ds(pl.multiple_of(i * size, size), size))

    jax.lax.fori_loop(0, seq_length // size, step, None)


def _weights(q, k, is_seen):
    scores = jnp.where(is_seen, _dot(q, k, 1, 1), _HIDDEN_SCORE)
    shares = jnp.exp(scores - jnp.max(scores, axis=1, keepdims=True))
    return shares / jnp.sum(shares, axis=1, keepdims=True)


def _of_head(attention, values, member):
    """Zeroes the lanes of the group's other heads."""
    if attention.group_size == 1:
        return values
    lane = jax.lax.broadcasted_iota(jnp.int32, values.shape, 1)
    is_own = lane // attention.head_size == member
    # In float32, since a v5e selects no bfloat16.
    wide = jnp.where(is_own, values.astype(jnp.float32), 0.0)
    return wide.astype(values.dtype)


def _first_head(attention):
    """The number of the group's first head, among those of all rows."""
    group = pl.program_id(1)
    row = pl.program_id(0)
    return row * attention.num_heads + group * attention.group_size


def _kept(attention, seed_ref, head, block, seq_length):
    """0 for a weight that is dropped, else what makes up for it."""
    query = jax.lax.broadcasted_iota(jnp.int32, (block.size, 1), 0)
    key = jax.lax.broadcasted_iota(jnp.int32, (1, seq_length), 1)
    rows = (head * seq_length + block.start + query) * seq_length
    # The same bits as kernels.py's, in int32, which every TPU knows.
    step = _signed(attention.golden_step)
    bits = rows * step + seed_ref[0] + key * step
    for number, (shift, factor) in enumerate(attention.mixing):
        bits ^= jax.lax.shift_right_logical(bits, jnp.int32(shift))
        bits *= _signed(factor)
        if not number:
            bits ^= seed_ref[1]
    # Compared as if they had no sign: both sides are moved by 2**31.
    threshold = round(attention.rate * 2**32) - 2**31
    is_kept = (bits ^ _signed(2**31)) >= jnp.int32(threshold)
    return jnp.where(is_kept, 1 / (1 - attention.rate), 0.0)


def _signed(value):
    """An int32 of the bits of a uint32."""
    return jnp.int32(value - 2**32 if value >= 2**31 else value)


def _dot(left, right, left_axis, right_axis):
    return jax.lax.dot_general(
        left,
        right,
        (((left_axis,), (right_axis,)), ((), ())),
        preferred_element_type=jnp.float32,
    )
