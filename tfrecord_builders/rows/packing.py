"""Packing: which parts of documents share a row.

Best fit, the longest parts first, over parts sorted by length (Krell et al.
2021, arXiv 2107.02027, section 3): a row takes the longest part that fits into
what is left of it, again and again. Where none fits and much is left, as with
documents that each fill most of a row, the first sentences of a long part go
there and its rest is packed later. So parts are cut at sentence ends only, and
hardly more often than the padding demands.
"""

import bisect
import collections
import itertools

SPECIAL_TOKENS_PER_PART = 2
# What may be left of a row before a part is cut to fill it: half of it, in
# the mean, becomes padding, and a shorter piece teaches little.
_LARGEST_REST = 1 / 32
# Parts to choose from where one is cut: the best fills all but a few tokens.
_NUM_CANDIDATES = 8


def pack(parts, sentence_ends, document_ends, seq_length):
    """Packs parts into rows.

    Args:
      parts: (start, end) of each, of at most seq_length - 2 tokens.
      sentence_ends: where parts may be cut, rising; each part's end is one.
      document_ends: a selection of the sentence_ends, rising.
      seq_length: tokens of a row, special tokens included.

    Returns:
      A list of rows, each a list of (start, end) in the order of the text.
    """
    pool = _Pool(parts, sentence_ends)
    document_ends = frozenset(document_ends)
    smallest_cut = max(1, int(seq_length * _LARGEST_REST))
    rows = []
    while pool:
        row, room = [], seq_length - SPECIAL_TOKENS_PER_PART
        while part := (
            pool.take(room) or room >= smallest_cut and pool.cut(room)
        ):
            row.append(part)
            room -= part[1] - part[0] + SPECIAL_TOKENS_PER_PART
        rows.append(_join(sorted(row), document_ends))
    return rows


def _join(row, document_ends):
    """Makes one part of those that follow one another in a document."""
    joined = row[:1]
    for start, end in row[1:]:
        if start == joined[-1][1] and start not in document_ends:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    return joined


class _Pool:
    """Parts by length; the longest that fits is found by one operation."""

    def __init__(self, parts, sentence_ends):
        self._sentence_ends = sentence_ends
        self._by_length = collections.defaultdict(list)
        self._lengths = 0  # Bit n is set if there are parts of n tokens.
        for part in parts:
            self._add(part)

    def _add(self, part):
        length = part[1] - part[0]
        self._by_length[length].append(part)
        self._lengths |= 1 << length

    def __bool__(self):
        return self._lengths > 0

    def take(self, limit):
        """Removes and returns the longest part of at most `limit` tokens."""
        fitting = self._lengths & ((2 << max(limit, 0)) - 1)
        return self._remove(fitting.bit_length() - 1, -1) if fitting else None

    def _remove(self, length, index):
        parts = self._by_length[length]
        parts[index], parts[-1] = parts[-1], parts[index]
        part = parts.pop()
        if not parts:
            self._lengths ^= 1 << length
        return part

    def cut(self, limit):
        """Removes and returns the first sentences, at most `limit` tokens, of
        one of the longest parts: the one of which they fill it best."""
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

    def _longest(self):
        """(length, index) of parts, the longest first."""
        lengths = self._lengths
        while lengths:
            length = lengths.bit_length() - 1
            for index in range(len(self._by_length[length])):
                yield length, index
            lengths ^= 1 << length

    def _last_end(self, start, limit):
        """The last sentence's end within `limit` tokens, or `start`."""
        after = bisect.bisect_right(self._sentence_ends, start + limit)
        return max(start, self._sentence_ends[after - 1]) if after else start
