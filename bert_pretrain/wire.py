"""Protobuf's wire format of `tf.train.Example`, written many at once.

Building a `tf.train.Example` for each row takes longer than all that a
builder does to it otherwise. NumPy lays out many rows side by side: every
value has room for its longest encoding, and the bytes that are not used are
left out in the end. Message types and field numbers are those of
tensorflow/core/example/{example,feature}.proto, the encoding that of
https://protobuf.dev/programming-guides/encoding.

B = examples, W = values of a feature, N = columns of bytes.
"""

import dataclasses
import functools

import numpy as np

_FLOAT_LIST, _INT64_LIST = 2, 3  # field numbers in Feature
_TRUE = np.ones(1, bool)
# Values below this, as token ids are, are encoded by a table.
_TABLE_SIZE = 1 << 20


@dataclasses.dataclass(frozen=True)
class _Message:
    """B encoded messages, in columns that lie one after another.

    columns: pairs of bytes, uint8 [B or 1, N], and which are used, bool
    [B or 1, N or 1]; num_bytes: int [B or 1], of those used.
    """

    columns: list
    num_bytes: np.ndarray


def serialize(features):
    """Serializes examples as protobuf does with `deterministic=True`.

    Args:
      features: names to int32 or float32 [B, W]; no number is negative.

    Returns:
      A list of B byte strings.
    """
    example = _field(
        1,
        _join(
            _field(1, _join([_key(name), _field(2, _feature(values))]))
            for name, values in sorted(features.items())
        ),
    )
    num_rows = len(next(iter(features.values())))
    width = sum(content.shape[1] for content, _ in example.columns)
    content = np.empty((num_rows, width), np.uint8)
    is_used = np.empty((num_rows, width), bool)
    start = 0
    for column, its_use in example.columns:
        end = start + column.shape[1]
        content[:, start:end] = column
        is_used[:, start:end] = its_use
        start = end
    # Twice as fast as content[is_used].
    flat = np.compress(is_used.ravel(), content.ravel()).tobytes()
    ends = np.cumsum(np.broadcast_to(example.num_bytes, num_rows)).tolist()
    return [
        flat[start:end]
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def _key(name):
    return _field(1, _constant(name.encode()))


def _feature(values):
    if values.dtype == np.float32:
        packed = values.astype("<f4").view(np.uint8)
        num_bytes = np.full(len(values), packed.shape[1])
        message = _Message([(packed, _TRUE)], num_bytes)
        return _field(_FLOAT_LIST, _field(1, message))
    return _field(_INT64_LIST, _field(1, _varints(values)))


def _field(number, message):
    """The messages as a field of others: tag, length, content."""
    length_delimited = _constant(bytes([number << 3 | 2]))
    return _join(
        [length_delimited, _varints(message.num_bytes[:, None]), message]
    )


def _join(messages):
    messages = list(messages)
    return _Message(
        [column for message in messages for column in message.columns],
        sum(message.num_bytes for message in messages),
    )


def _constant(content):
    return _Message(
        [(np.frombuffer(content, np.uint8)[None], _TRUE)],
        np.array([len(content)]),
    )


def _varints(values):
    """Base-128 encodes int [B or 1, W]: seven bits a byte, the lowest first."""
    num_rows, num_values = values.shape
    largest = int(values.max(initial=0))
    if largest < 128:
        return _Message(
            [(values.astype(np.uint8), _TRUE)], np.full(num_rows, num_values)
        )
    if largest < _TABLE_SIZE:
        slots, is_used = (
            table.take(values) for table in _varint_table(largest.bit_length())
        )
    else:
        slots, is_used = _encode(values)
    shape = num_rows, num_values * slots.itemsize
    is_used = is_used.view(bool).reshape(shape)
    return _Message(
        [(slots.view(np.uint8).reshape(shape), is_used)],
        np.count_nonzero(is_used, axis=1),
    )


@functools.cache
def _varint_table(num_bits):
    """`_encode` of all values of so many bits, to look them up."""
    return _encode(np.arange(1 << num_bits))


def _encode(values):
    """(bytes, which are used), of each value in one wide integer."""
    num_bytes = -(-int(values.max()).bit_length() // 7)
    width = 1 << (num_bytes - 1).bit_length()  # of NumPy's integers
    slots = np.zeros((*values.shape, width), np.uint8)
    is_used = np.zeros(slots.shape, bool)
    for i in range(num_bytes):
        rest = values >> 7 * i
        np.not_equal(rest, 0, out=is_used[..., i])
        # The eighth bit says that another byte follows.
        slots[..., i] = rest & 0x7F | (rest > 0x7F) * np.uint8(0x80)
    is_used[..., 0] = True
    return tuple(
        array.view(f"u{width}").reshape(values.shape)
        for array in (slots, is_used)
    )
