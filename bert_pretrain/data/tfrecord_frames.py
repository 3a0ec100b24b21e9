"""Writes the frames of many records of a TFRecord file at once.

    length, 8 bytes | its checksum, 4 | the record | its checksum, 4

Numbers are little-endian. A checksum is the CRC-32C of the bytes (RFC 3720,
appendix B.4), masked (tensorflow/core/lib/hash/crc32c.h). TensorFlow's own
writer takes one record at a time, and the call takes longer than the work.
"""

import numpy as np

from bert_pretrain import numba_jit

_HEADER_BYTES, _FOOTER_BYTES = 12, 4
_POLYNOMIAL = 0x82F63B78  # of CRC-32C, in reversed bit order
_MASK = np.uint32(0xA282EAD8)
_BYTE = np.uint32(0xFF)


def frame(content: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Adds a frame to each record.

    Args:
      content: uint8 [N], the bytes of all records.
      ends: int64 [B], the end of each record in `content`.

    Returns:
      uint8 [N + 16 B].
    """
    return _frame(content, ends, _TABLES)


def _make_tables() -> np.ndarray:
    """uint32 [8, 256]: the effect of a byte on the checksum i bytes later."""
    tables = np.zeros((8, 256), np.uint32)
    tables[0] = np.arange(256)
    for _ in range(8):
        tables[0] = tables[0] >> 1 ^ (tables[0] & 1) * np.uint32(_POLYNOMIAL)
    for i in range(1, 8):
        tables[i] = tables[i - 1] >> 8 ^ tables[0][tables[i - 1] & 0xFF]
    return tables


_TABLES = _make_tables()


@numba_jit.compiled
def _frame(content, ends, tables):
    framed = np.empty(
        len(content) + len(ends) * (_HEADER_BYTES + _FOOTER_BYTES), np.uint8
    )
    start = at = 0
    for end in ends:
        length = end - start
        for i in range(8):
            framed[at + i] = length >> 8 * i & 0xFF
        _write_checksum(framed, at, at + 8, tables)
        at += _HEADER_BYTES
        framed[at : at + length] = content[start:end]
        _write_checksum(framed, at, at + length, tables)
        at += length + _FOOTER_BYTES
        start = end
    return framed


@numba_jit.compiled
def _write_checksum(framed, start, end, tables):
    """Writes the masked checksum of framed[start:end] at `end`."""
    checksum = _checksum(framed[start:end], tables)
    masked = (checksum >> np.uint32(15) | checksum << np.uint32(17)) + _MASK
    for i in range(4):
        framed[end + i] = masked >> np.uint32(8 * i) & np.uint32(0xFF)


@numba_jit.compiled
def _checksum(data, tables):
    """CRC-32C, eight bytes at a time ("slicing by 8", Kounavis, Berry 2005)."""
    checksum = np.uint32(0xFFFFFFFF)
    num_eights = len(data) & ~7
    for at in range(0, num_eights, 8):
        later = np.uint32(0)
        for i in range(4):
            byte = data[at + i] ^ checksum >> np.uint32(8 * i) & _BYTE
            later ^= tables[7 - i, byte] ^ tables[3 - i, data[at + i + 4]]
        checksum = later
    for byte in data[num_eights:]:
        low = checksum & _BYTE
        checksum = tables[0, low ^ byte] ^ checksum >> np.uint32(8)
    return np.uint32(~checksum)
