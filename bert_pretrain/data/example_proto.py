"""Writes many `tf.train.Example`s at once in protobuf's wire format.

If a builder made a `tf.train.Example` object for each row, that would take
longer than all its other work on the row. So this module writes the bytes
itself, in machine code. Message types and field numbers are those of
tensorflow/core/example/{example,feature}.proto. The encoding is that of
https://protobuf.dev/programming-guides/encoding:

    Example { 1: Features { 1: entry { 1: name, 2: Feature { list } } … } }
    list = 2: FloatList { 1: floats } or 3: Int64List { 1: varints }

All these fields have the same form: a tag, a length, and the bytes.

B = examples, W = values of a feature, F = features, V = values of an example.
"""

from collections.abc import Mapping

import numpy as np

from bert_pretrain import numba_jit

_FLOAT_LIST, _INT64_LIST = 2, 3
_MAX_VARINT_BYTES = 5
# Tags and lengths: each feature has four of both, and each example one.
_BYTES_AROUND = 8 * _MAX_VARINT_BYTES


def serialize(
    features: Mapping[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Serializes examples as protobuf does with `deterministic=True`.

    Args:
      features: int32 or float32 [B, W] by name, without negative numbers.

    Returns:
      (uint8: the bytes of all examples; int64 [B]: the end of each example).
    """
    names, arrays = zip(*sorted(features.items()), strict=True)
    return _serialize(
        np.concatenate([array.view(np.uint32) for array in arrays], axis=1),
        np.cumsum([0, *(array.shape[1] for array in arrays)]),
        np.array(
            [
                _FLOAT_LIST if array.dtype == np.float32 else _INT64_LIST
                for array in arrays
            ]
        ),
        np.frombuffer("".join(names).encode(), np.uint8),
        np.cumsum([0, *(len(name.encode()) for name in names)]),
    )


@numba_jit.compiled
def _serialize(values_BV, bounds_F, kinds_F, names, name_bounds_F):
    num_features = len(kinds_F)
    out = np.empty(
        len(values_BV)
        * (
            _MAX_VARINT_BYTES * values_BV.shape[1]
            + len(names)
            + _BYTES_AROUND * (num_features + 1)
        ),
        np.uint8,
    )
    ends = np.empty(len(values_BV), np.int64)
    sizes_F = np.empty(num_features, np.int64)  # bytes of the values
    at = 0
    for row in range(len(values_BV)):
        total = 0
        for i in range(num_features):
            values = values_BV[row, bounds_F[i] : bounds_F[i + 1]]
            sizes_F[i] = _values_size(values, kinds_F[i])
            name_size = name_bounds_F[i + 1] - name_bounds_F[i]
            total += _field_size(_entry_size(name_size, sizes_F[i]))
        at = _start_field(out, at, 1, total)
        for i in range(num_features):
            name = names[name_bounds_F[i] : name_bounds_F[i + 1]]
            at = _start_field(out, at, 1, _entry_size(len(name), sizes_F[i]))
            at = _start_field(out, at, 1, len(name))
            out[at : at + len(name)] = name
            at += len(name)
            list_size = _field_size(sizes_F[i])
            at = _start_field(out, at, 2, _field_size(list_size))
            at = _start_field(out, at, kinds_F[i], list_size)
            at = _start_field(out, at, 1, sizes_F[i])
            values = values_BV[row, bounds_F[i] : bounds_F[i + 1]]
            at = _write_values(out, at, values, sizes_F[i], kinds_F[i])
        ends[row] = at
    return out[:at], ends


@numba_jit.compiled
def _entry_size(name_size, values_size):
    feature_size = _field_size(_field_size(values_size))
    return _field_size(name_size) + _field_size(feature_size)


@numba_jit.compiled
def _field_size(size):
    return 1 + _varint_size(np.uint32(size)) + size


@numba_jit.compiled
def _values_size(values, kind):
    if kind == _FLOAT_LIST:
        return 4 * len(values)
    size = 0
    for value in values:
        size += _varint_size(value)
    return size


@numba_jit.compiled
def _varint_size(value):
    # There is no branch, so that the compiler can vectorize the loop.
    return (
        1
        + (value >= 1 << 7)
        + (value >= 1 << 14)
        + (value >= 1 << 21)
        + (value >= 1 << 28)
    )


@numba_jit.compiled
def _start_field(out, at, number, size):
    out[at] = number << 3 | 2
    return _write_varint(out, at + 1, np.uint32(size))


@numba_jit.compiled
def _write_values(out, at, values, size, kind):
    if kind == _FLOAT_LIST:
        for value in values:
            for shift in range(0, 32, 8):
                out[at] = value >> np.uint32(shift) & np.uint32(255)
                at += 1
    elif size == len(values):  # One byte each: the loop can be vectorized.
        for i in range(len(values)):
            out[at + i] = values[i]
        at += size
    else:
        for value in values:
            at = _write_varint(out, at, value)
    return at


@numba_jit.compiled
def _write_varint(out, at, value):
    """Writes seven bits a byte, lowest first; bit 8 means: more follow."""
    while value > 127:
        out[at] = value & np.uint32(127) | np.uint32(128)
        value >>= np.uint32(7)
        at += 1
    out[at] = value
    return at + 1
