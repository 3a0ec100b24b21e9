"""Packing: rows that hold segments of several documents.

Best-fit-decreasing over segments sorted by length (Krell et al. 2021, arXiv
2107.02027, section 3): a row repeatedly takes the longest segment that fits
into its free tokens. If none fits and many tokens are free, the row takes the
first sentences of a longer segment, and the rest of that segment is packed
later. This is common when each document fills most of a row. So segments are
cut at ends of sentences only, and only to avoid padding.
"""

import bisect
import collections
import itertools
from collections.abc import Iterator, Sequence

Segment = tuple[int, int]  # start and end

SPECIAL_TOKENS_PER_SEGMENT = 2
# A segment is cut only if at least this share of a row is free. Half of it
# becomes padding on average. Smaller pieces would teach the model little.
_MIN_FREE_SHARE = 1 / 32
# Segments that are tried for a cut. The best of them leaves only a few tokens
# free.
_NUM_CANDIDATES = 8


def pack(
    segments: Sequence[Segment],
    sentence_ends: Sequence[int],
    document_ends: Sequence[int],
    seq_length: int,
) -> list[list[Segment]]:
    """Packs segments into rows.

    Args:
      segments: each of at most seq_length - 2 tokens.
      sentence_ends: where segments may be cut, ascending; they contain the end
        of each segment.
      document_ends: those of the sentence ends that end a document, ascending.
      seq_length: tokens of a row, special tokens included.

    Returns:
      The segments of each row in the order of the text. Neighbouring segments
      of a document are joined.
    """
    pool = _Pool(segments, sentence_ends)
    is_document_end = frozenset(document_ends)
    smallest_cut = max(1, int(seq_length * _MIN_FREE_SHARE))
    rows = []
    while pool:
        row: list[Segment] = []
        room = seq_length - SPECIAL_TOKENS_PER_SEGMENT
        while segment := pool.take(room) or (
            pool.cut(room) if room >= smallest_cut else None
        ):
            row.append(segment)
            room -= segment[1] - segment[0] + SPECIAL_TOKENS_PER_SEGMENT
        rows.append(_join(sorted(row), is_document_end))
    return rows


def _join(row: list[Segment], document_ends: frozenset[int]) -> list[Segment]:
    """Joins segments that follow one another in a document."""
    joined = row[:1]
    for start, end in row[1:]:
        if start == joined[-1][1] and start not in document_ends:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    return joined


class _Pool:
    """Segments by length, with fast access to the longest one that fits."""

    def __init__(
        self, segments: Sequence[Segment], sentence_ends: Sequence[int]
    ) -> None:
        self._sentence_ends = sentence_ends
        self._by_length: dict[int, list[Segment]] = collections.defaultdict(
            list
        )
        self._lengths = 0  # Bit n is set if there are segments of n tokens.
        for segment in segments:
            self._add(segment)

    def __bool__(self) -> bool:
        return self._lengths > 0

    def take(self, limit: int) -> Segment | None:
        """Removes and returns the longest segment of at most `limit` tokens."""
        fitting = self._lengths & ((2 << max(limit, 0)) - 1)
        return self._remove(fitting.bit_length() - 1, -1) if fitting else None

    def cut(self, limit: int) -> Segment | None:
        """Cuts a long segment, and returns its first sentences.

        Of some of the longest segments, it cuts the one whose first sentences
        fill `limit` tokens best.

        Returns:
          At most `limit` tokens. None if no first sentence is short enough.
        """
        best_length, best = 0, None
        for length, index in itertools.islice(self._longest(), _NUM_CANDIDATES):
            start, _ = self._by_length[length][index]
            end = self._last_end(start, limit)
            if end - start > best_length:
                best_length, best = end - start, (length, index)
        if best is None:
            return None
        start, end = self._remove(*best)
        self._add((start + best_length, end))
        return start, start + best_length

    def _add(self, segment: Segment) -> None:
        length = segment[1] - segment[0]
        self._by_length[length].append(segment)
        self._lengths |= 1 << length

    def _remove(self, length: int, index: int) -> Segment:
        segments = self._by_length[length]
        segments[index], segments[-1] = segments[-1], segments[index]
        segment = segments.pop()
        if not segments:
            self._lengths ^= 1 << length
        return segment

    def _longest(self) -> Iterator[tuple[int, int]]:
        """Yields (length, index) of segments, the longest first."""
        lengths = self._lengths
        while lengths:
            length = lengths.bit_length() - 1
            for index in range(len(self._by_length[length])):
                yield length, index
            lengths ^= 1 << length

    def _last_end(self, start: int, limit: int) -> int:
        """The last end of a sentence within `limit` tokens, or `start`."""
        after = bisect.bisect_right(self._sentence_ends, start + limit)
        return max(start, self._sentence_ends[after - 1]) if after else start
