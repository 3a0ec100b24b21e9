"""Rows: token ids cut and joined to what one example holds.

A row is one or two parts, each a range of a document's tokens:

    [CLS] part [SEP]                  pairing none: full sentences
    [CLS] part [SEP] part [SEP]       pairing nsp: sentence pairs

Rows are made as ranges (a few numbers a row) and only then gathered, so that
no Python loop runs over tokens. Sentences stay whole where they fit; one that
does not fit into what is left of a row starts the next row, and one that is
longer than a row is cut, so that no text is lost.
"""

import bisect
import dataclasses
import random
from typing import Literal

import numpy as np

from bert_pretrain import errors, options, vocabulary

# BERT, appendix A.2: one row in ten is shorter than need be, so that the
# model sees short inputs too.
SHORT_ROW_FRACTION = 0.1
# BERT, section 3.1: half of the pairs are from two documents.
RANDOM_NEXT_FRACTION = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowsConfig:
    seq_length: int = options.option(
        "Tokens of a row, special tokens included (S).", 128
    )
    pairing: Literal["none", "nsp"] = options.option(
        "none: full sentences of one document. nsp: pairs of parts, half of "
        "them from two documents, for next-sentence prediction.",
        "none",
    )

    def __post_init__(self):
        if self.seq_length < 8:
            raise errors.UserError(
                f"seq_length={self.seq_length} must be at least 8."
            )


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Documents as token ids, and where their sentences end.

    ids: integers [T]; sentence_ends: [N], rising, the last one T;
    document_ends: [D], a selection of the sentence_ends.
    """

    ids: np.ndarray
    sentence_ends: np.ndarray
    document_ends: np.ndarray


@dataclasses.dataclass(frozen=True)
class Rows:
    """Token ids of rows, part after part, without the special tokens.

    ids: integers [T]; part_lengths: [Q], T in all; parts_per_row: [R], Q in
    all; is_random_next: bool [R].
    """

    ids: np.ndarray
    part_lengths: np.ndarray
    parts_per_row: np.ndarray
    is_random_next: np.ndarray

    def __len__(self):
        return len(self.parts_per_row)

    @property
    def num_bytes(self):
        return sum(
            getattr(self, field.name).nbytes
            for field in dataclasses.fields(self)
        )

    def take(self, order):
        """The rows that `order` ([N] row numbers) names, in that order."""
        part_starts = _starts(self.parts_per_row)
        parts = _ranges(part_starts[order], self.parts_per_row[order])
        token_starts = _starts(self.part_lengths)
        tokens = _ranges(token_starts[parts], self.part_lengths[parts])
        return Rows(
            self.ids[tokens],
            self.part_lengths[parts],
            self.parts_per_row[order],
            self.is_random_next[order],
        )

    def to_bytes(self):
        itemsize = 2 if self.ids.max(initial=0) < 2**16 else 4
        sizes = np.array(
            [len(self.ids), len(self.part_lengths), len(self), itemsize], "<i8"
        )
        return b"".join(
            [
                sizes.tobytes(),
                self.ids.astype(f"<u{itemsize}").tobytes(),
                self.part_lengths.astype("<i4").tobytes(),
                self.parts_per_row.astype("<i4").tobytes(),
                self.is_random_next.tobytes(),
            ]
        )

    @classmethod
    def from_bytes(cls, content):
        num_ids, num_parts, num_rows, itemsize = np.frombuffer(
            content, "<i8", 4
        )
        arrays, offset = [], 32
        for dtype, count in (
            (f"<u{itemsize}", num_ids),
            ("<i4", num_parts),
            ("<i4", num_rows),
            (np.bool_, num_rows),
        ):
            arrays.append(np.frombuffer(content, dtype, count, offset))
            offset += arrays[-1].nbytes
        return cls(*arrays)

    def features(self, seq_length, vocab):
        """The rows as a model takes them: int32 [R, S] each, by name."""
        num_rows = len(self)
        part_rows = np.repeat(np.arange(num_rows), self.parts_per_row)
        # A part is followed by a [SEP], a row is preceded by a [CLS].
        starts = _starts(self.part_lengths + 1)
        first_parts = _starts(self.parts_per_row)
        starts = starts - starts[first_parts][part_rows] + 1
        ends = starts + self.part_lengths  # the columns of the [SEP]s

        input_ids = np.full(
            (num_rows, seq_length), vocab.id(vocabulary.PAD), np.int32
        )
        input_ids[:, 0] = vocab.id(vocabulary.CLS)
        input_ids[
            np.repeat(part_rows, self.part_lengths),
            _ranges(starts, self.part_lengths),
        ] = self.ids
        input_ids[part_rows, ends] = vocab.id(vocabulary.SEP)

        columns = np.arange(seq_length)
        last_parts = first_parts + self.parts_per_row - 1
        attention_mask = columns <= ends[last_parts, None]
        token_type_ids = attention_mask & (columns > ends[first_parts, None])
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask.astype(np.int32),
            "token_type_ids": token_type_ids.astype(np.int32),
            "next_sentence_labels": self.is_random_next.astype(np.int32),
        }


def build(tokens, config, seed):
    """Makes the rows of some documents.

    Args:
      seed: an int; one seed, one set of pairs.

    Returns:
      (`Rows`, counts: `num_tokens_cut` from parts of other documents, which
      stand whole in rows of their own, and `num_documents_unpaired`).
    """
    if config.pairing == "none":
        parts = _full_sentences(tokens, config.seq_length - 2)
        counts = {}
        parts_per_row = np.ones(len(parts), np.int32)
        is_random_next = np.zeros(len(parts), bool)
    else:
        pairs = _SentencePairs(
            tokens, config.seq_length - 3, random.Random(seed)
        )
        parts, is_random_next, counts = pairs.build()
        parts_per_row = np.full(len(is_random_next), 2, np.int32)
        is_random_next = np.array(is_random_next, bool)
    starts, ends = np.array(parts, np.int64).reshape(-1, 2).T
    lengths = (ends - starts).astype(np.int32)
    return Rows(
        tokens.ids[_ranges(starts, lengths)],
        lengths,
        parts_per_row,
        is_random_next,
    ), counts


def _full_sentences(tokens, capacity):
    """(start, end) of each row: as many whole sentences as fit."""
    ends = _cut_long(tokens.sentence_ends, capacity)
    parts, start, first = [], 0, 0
    for document_end in tokens.document_ends.tolist():
        while start < document_end:
            limit = min(start + capacity, document_end)
            first = bisect.bisect_right(ends, limit, first)
            parts.append((start, ends[first - 1]))
            start = ends[first - 1]
    return parts


def _cut_long(sentence_ends, capacity):
    """Adds an end wherever a sentence would be longer than `capacity`."""
    lengths = np.diff(sentence_ends, prepend=0)
    pieces = -(-lengths // capacity)
    steps = np.repeat(capacity, pieces.sum())
    last = np.cumsum(pieces) - 1
    steps[last] = lengths - capacity * (pieces - 1)
    return np.cumsum(steps).tolist()


class _SentencePairs:
    """Pairs for next-sentence prediction (BERT, section 3.1, appendix A.2).

    A chunk of whole sentences is taken that fits into a row, and divided at a
    random sentence. The first part is followed either by the rest of the
    chunk or by sentences of another document; in that case the rest of the
    chunk is returned and starts the next row.
    """

    def __init__(self, tokens, capacity, rng):
        # With sentences of at most half a row, two always fit.
        self._ends = _cut_long(tokens.sentence_ends, capacity // 2)
        self._starts = [0, *self._ends[:-1]]
        bounds = np.searchsorted(self._ends, tokens.document_ends) + 1
        self._documents = list(
            zip([0, *bounds.tolist()[:-1]], bounds.tolist(), strict=False)
        )
        self._capacity = capacity
        self._rng = rng
        self._parts, self._is_random_next = [], []
        self._owed_actual = 0
        self._counts = {"num_tokens_cut": 0, "num_documents_unpaired": 0}

    def build(self):
        for document, (first, stop) in enumerate(self._documents):
            while first < stop:
                first = self._add_pair(document, first, stop)
        return self._parts, self._is_random_next, self._counts

    def _add_pair(self, document, first, stop):
        """Adds the pair that starts at sentence `first`.

        Returns:
          The sentence at which the next pair starts.
        """
        rng, ends = self._rng, self._ends
        capacity = self._capacity
        if rng.random() < SHORT_ROW_FRACTION:
            capacity = 2 + int(rng.random() * (capacity - 1))
        limit = self._starts[first] + capacity
        chunk_stop = bisect.bisect_right(ends, limit, first, stop)
        if chunk_stop < first + 2:  # Two always fit into a whole row.
            capacity = self._capacity
            chunk_stop = min(first + 2, stop)
        num_sentences = chunk_stop - first
        must_be_random = num_sentences == 1
        can_be_random = len(self._documents) > 1
        if must_be_random and not can_be_random:
            self._counts["num_documents_unpaired"] += 1
            return stop
        second = first + 1 + int(rng.random() * max(0, num_sentences - 1))
        self._parts.append((self._starts[first], ends[second - 1]))
        if must_be_random or (can_be_random and self._draw_random_next()):
            self._owed_actual += must_be_random * (1 - RANDOM_NEXT_FRACTION)
            length = ends[second - 1] - self._starts[first]
            self._parts.append(self._other_part(document, capacity - length))
            self._is_random_next.append(True)
            return second
        self._parts.append((self._starts[second], ends[chunk_stop - 1]))
        self._is_random_next.append(False)
        return chunk_stop

    def _draw_random_next(self):
        """Draws whether the next part is from elsewhere.

        A document's last sentence has none after it and always gets one from
        elsewhere; such pairs are made up for, so that half of all stay true.
        """
        if self._rng.random() >= RANDOM_NEXT_FRACTION:
            return False
        if self._owed_actual >= 1:
            self._owed_actual -= 1
            return False
        return True

    def _other_part(self, document, capacity):
        """(start, end) in a document that is not `document`."""
        other = int(self._rng.random() * (len(self._documents) - 1))
        other += other >= document
        first, stop = self._documents[other]
        first += int(self._rng.random() * (stop - first))
        start = self._starts[first]
        last = bisect.bisect_right(self._ends, start + capacity, first, stop)
        if last > first:
            return start, self._ends[last - 1]
        self._counts["num_tokens_cut"] += self._ends[first] - start - capacity
        return start, start + capacity


def concatenate(many):
    return Rows(
        *(
            np.concatenate([getattr(rows, field.name) for rows in many])
            for field in dataclasses.fields(Rows)
        )
    )


def concatenate_tokens(many):
    """Joins `Tokens`, the ends of each moved behind those before it."""
    if not many:
        empty = np.zeros(0, np.int64)
        return Tokens(empty.astype(np.int32), empty, empty)
    offsets = _starts(np.array([len(tokens.ids) for tokens in many]))
    return Tokens(
        np.concatenate([tokens.ids for tokens in many]),
        *(
            np.concatenate(
                [
                    getattr(tokens, name) + offset
                    for tokens, offset in zip(many, offsets, strict=True)
                ]
            )
            for name in ("sentence_ends", "document_ends")
        ),
    )


def _starts(lengths):
    return np.cumsum(lengths) - lengths


def _ordinals(lengths):
    """0, 1, … within each of the runs that `lengths` gives."""
    return np.arange(lengths.sum()) - np.repeat(_starts(lengths), lengths)


def _ranges(starts, lengths):
    """The numbers of all ranges [start, start + length), one after another."""
    return np.repeat(starts, lengths) + _ordinals(lengths)
