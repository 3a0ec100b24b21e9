"""Builds rows from the tokens of documents.

Sentences are kept whole where possible. A sentence that does not fit into the
rest of a row begins the next row. A sentence that is longer than a row is cut,
so that no text is lost.
"""

import bisect

import numpy as np

from tfrecord_builders.rows import packing, pairs, rows, rows_config


def build(
    tokens: rows.Tokens, config: rows_config.RowsConfig, seed: int
) -> tuple[rows.Rows, dict[str, int]]:
    """Makes the rows of documents.

    Args:
      seed: sentence pairs depend on it, the tokens and the config only.

    Returns:
      The rows, and counts. With pairing: see `pairs.pair`. With packing:
      `num_rows_unpacked` and `num_tokens_unpacked`, the rows and the tokens
      (special tokens included) that there would be without packing.
    """
    if config.pairing == "none":
        segments, segments_per_row, counts = _full_rows(tokens, config)
        labels = np.zeros(len(segments_per_row), bool)
    else:
        segments, labels, counts = _pairs(tokens, config, seed)
        segments_per_row = np.full(len(labels), 2, np.int32)
    starts, ends = segments.T
    return rows.Rows(
        tokens.ids,
        starts,
        (ends - starts).astype(np.int32),
        segments_per_row,
        labels,
        tokens.is_continuation,
    ), counts


def _full_rows(
    tokens: rows.Tokens, config: rows_config.RowsConfig
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Returns segments, int64 [Q, 2]; segments per row; counts."""
    capacity = config.seq_length - packing.SPECIAL_TOKENS_PER_SEGMENT
    ends = _cut_long(tokens.sentence_ends, capacity).tolist()
    document_ends = tokens.document_ends.tolist()
    segments = _full_sentences(ends, document_ends, capacity)
    if not config.packing:
        return _as_array(segments), np.ones(len(segments), np.int32), {}
    packed = packing.pack(segments, ends, document_ends, config.seq_length)
    counts = {
        "num_rows_unpacked": len(segments),
        "num_tokens_unpacked": len(tokens.ids)
        + packing.SPECIAL_TOKENS_PER_SEGMENT * len(segments),
    }
    return (
        _as_array([segment for row in packed for segment in row]),
        np.array([len(row) for row in packed], np.int32),
        counts,
    )


def _full_sentences(
    ends: list[int], document_ends: list[int], capacity: int
) -> list[packing.Segment]:
    """Makes segments of as many whole sentences as fit into `capacity`."""
    segments, start, first = [], 0, 0
    for document_end in document_ends:
        while start < document_end:
            limit = min(start + capacity, document_end)
            first = bisect.bisect_right(ends, limit, first)
            segments.append((start, ends[first - 1]))
            start = ends[first - 1]
    return segments


def _as_array(segments: list[packing.Segment]) -> np.ndarray:
    return np.array(segments, np.int64).reshape(-1, 2)


def _pairs(
    tokens: rows.Tokens, config: rows_config.RowsConfig, seed: int
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Returns segments, int64 [2 R, 2]; labels; counts."""
    capacity = config.seq_length - 3
    # Two sentences of at most half a row always fit into a row.
    ends = _cut_long(tokens.sentence_ends, capacity // 2)
    documents = np.searchsorted(ends, tokens.document_ends) + 1
    return pairs.pair(
        np.append(0, ends),
        np.append(0, documents),
        capacity,
        config.pairing,
        seed,
    )


def _cut_long(sentence_ends: np.ndarray, capacity: int) -> np.ndarray:
    """Cuts sentences longer than `capacity`; returns the ends of all pieces."""
    lengths = np.diff(sentence_ends, prepend=0)
    num_pieces = -(-lengths // capacity)
    steps = np.repeat(capacity, num_pieces.sum())
    last = np.cumsum(num_pieces) - 1
    steps[last] = lengths - capacity * (num_pieces - 1)
    return np.cumsum(steps)
