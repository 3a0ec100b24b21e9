"""Rows: token ids cut and joined to what one example holds.

A row is one or more parts, each a range of a document's tokens:

    [CLS] part [SEP]                        pairing none: full sentences
    [CLS] part [SEP] part [SEP]             pairing nsp or sop: sentence pairs
    [CLS] part [SEP] [CLS] part [SEP] …     packing: parts of many documents

Rows are made as ranges (a few numbers a row) and only then gathered, so that
no Python loop runs over tokens. Sentences stay whole where they fit; one that
does not fit into what is left of a row starts the next row, and one that is
longer than a row is cut, so that no text is lost.
"""

import bisect
import dataclasses
from typing import Literal

import numpy as np

from bert_pretrain import errors, numba_jit, options
from bert_pretrain.data import vocabulary
from tfrecord_builders.rows import packing, pairs


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowsConfig(options.Options):
    seq_length: int = options.option(
        "Tokens of a row, special tokens included (S).", 128, at_least=8
    )
    pairing: Literal["none", "nsp", "sop"] = options.option(
        "none: full sentences of one document. nsp: pairs of parts, half of "
        "them from two documents, for next-sentence prediction. sop: pairs "
        "of parts that follow one another, half of them swapped, for "
        "sentence-order prediction (ALBERT).",
        "none",
    )
    packing: bool = options.option(
        "Fills rows with the text of several documents, each with its own "
        "[CLS] and [SEP], for training that keeps them apart; needs "
        "pairing=none.",
        False,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.packing and self.pairing != "none":
            raise errors.UserError(
                f"packing goes with pairing=none, not {self.pairing!r}: a "
                "packed row has no one first and second part; leave one out."
            )


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Documents as token ids, and where their sentences end.

    ids: integers [T]; sentence_ends: [N], rising, the last one T;
    document_ends: [D], a selection of the sentence_ends; is_continuation:
    bool [T], the tokens that a segmenter found to go on with the word before
    them, or None if there was no segmenter.
    """

    ids: np.ndarray
    sentence_ends: np.ndarray
    document_ends: np.ndarray
    is_continuation: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows as ranges of tokens, part after part, without the special tokens.

    ids: integers [T]; part_starts, part_lengths: [Q], ranges of the ids;
    parts_per_row: [R], Q in all; next_sentence_labels: bool [R], true where
    the second part is from elsewhere, or the parts are swapped;
    is_continuation: as of `Tokens`.
    """

    ids: np.ndarray
    part_starts: np.ndarray
    part_lengths: np.ndarray
    parts_per_row: np.ndarray
    next_sentence_labels: np.ndarray
    is_continuation: np.ndarray | None = None

    def __len__(self):
        return len(self.parts_per_row)

    @property
    def num_bytes(self):
        return sum(
            getattr(self, field.name).nbytes
            for field in dataclasses.fields(self)
            if getattr(self, field.name) is not None
        )

    def take(self, order):
        """The rows that `order` ([N] row numbers) names, in that order."""
        first_parts = _starts(self.parts_per_row)
        parts = _ranges(first_parts[order], self.parts_per_row[order])
        return dataclasses.replace(
            self,
            part_starts=self.part_starts[parts],
            part_lengths=self.part_lengths[parts],
            parts_per_row=self.parts_per_row[order],
            next_sentence_labels=self.next_sentence_labels[order],
        )

    def to_bytes(self):
        ids = self._gather(self.ids)
        itemsize = 2 if ids.max(initial=0) < 2**16 else 4
        sizes = np.array(
            [len(ids), len(self.part_lengths), len(self), itemsize], "<i8"
        )
        return b"".join(
            [
                sizes.tobytes(),
                ids.astype(f"<u{itemsize}").tobytes(),
                self.part_lengths.astype("<i4").tobytes(),
                self.parts_per_row.astype("<i4").tobytes(),
                self.next_sentence_labels.tobytes(),
                b""
                if self.is_continuation is None
                else np.packbits(self._gather(self.is_continuation)).tobytes(),
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
        # Bits, where there was a segmenter, are all that may follow.
        bits = np.frombuffer(content, np.uint8, offset=offset)
        if len(bits):
            arrays.append(np.unpackbits(bits, count=num_ids).view(bool))
        ids, part_lengths, *others = arrays
        return cls(ids, _starts(part_lengths), part_lengths, *others)

    def features(self, seq_length, vocab, is_packed=False):
        """The rows as a model takes them: int32 [R, S] each, by name.

        Beside the features of records there is `is_continuation`, bool
        [R, S], where there was a segmenter.
        """
        shape = len(self), seq_length
        part_rows = np.repeat(np.arange(len(self)), self.parts_per_row)
        # A part is followed by a [SEP]; a [CLS] precedes the row, or the part.
        starts = _starts(self.part_lengths + (2 if is_packed else 1))
        first_parts = _starts(self.parts_per_row)
        starts = starts - starts[first_parts][part_rows] + 1
        ends = starts + self.part_lengths  # the columns of the [SEP]s

        places = (
            np.repeat(part_rows, self.part_lengths),
            _ranges(starts, self.part_lengths),
        )
        input_ids = np.full(shape, vocab.id(vocabulary.PAD), np.int32)
        input_ids[places] = self._gather(self.ids)
        input_ids[part_rows, ends] = vocab.id(vocabulary.SEP)
        if is_packed:
            input_ids[part_rows, starts - 1] = vocab.id(vocabulary.CLS)
        else:
            input_ids[:, 0] = vocab.id(vocabulary.CLS)

        columns = np.arange(seq_length)
        last_parts = first_parts + self.parts_per_row - 1
        attention_mask = columns <= ends[last_parts, None]
        token_type_ids = np.zeros(shape, np.int32)
        if not is_packed:
            token_type_ids[:] = columns > ends[first_parts, None]
            token_type_ids *= attention_mask
        features = {
            "input_ids": input_ids,
            "attention_mask": attention_mask.astype(np.int32),
            "token_type_ids": token_type_ids,
            "next_sentence_labels": self.next_sentence_labels.astype(np.int32),
        }
        if is_packed:
            # One more from each [CLS] on.
            is_first = np.zeros(shape, np.int32)
            is_first[part_rows, starts - 1] = 1
            features["document_ids"] = is_first.cumsum(axis=1) * attention_mask
        if self.is_continuation is not None:
            features["is_continuation"] = np.zeros(shape, bool)
            features["is_continuation"][places] = self._gather(
                self.is_continuation
            )
        return features

    def _gather(self, values):
        """Of `values` [T], those of the parts, one after another."""
        return _copy(values, self.part_starts, self.part_lengths)


def build(tokens, config, seed):
    """Makes the rows of some documents.

    Args:
      seed: an int; one seed, one set of pairs.

    Returns:
      (`Rows`, counts: `num_tokens_cut` from parts of other documents, which
      stand whole in rows of their own, `num_documents_unpaired`, and of packed
      rows `num_rows_unpacked` and `num_tokens_unpacked`, special tokens
      included, what they would be with one part a row).
    """
    if config.pairing == "none":
        parts, parts_per_row, counts = _full_rows(tokens, config)
        labels = np.zeros(len(parts_per_row), bool)
    else:
        parts, labels, counts = _pairs(tokens, config, seed)
        parts_per_row = np.full(len(labels), 2, np.int32)
    starts, ends = np.array(parts, np.int64).reshape(-1, 2).T
    return Rows(
        tokens.ids,
        starts,
        (ends - starts).astype(np.int32),
        parts_per_row,
        labels,
        tokens.is_continuation,
    ), counts


def _pairs(tokens, config, seed):
    """(the parts, the labels, counts)."""
    capacity = config.seq_length - 3
    # With sentences of at most half a row, two always fit.
    ends = _cut_long(tokens.sentence_ends, capacity // 2)
    documents = np.searchsorted(ends, tokens.document_ends) + 1
    return pairs.pair(
        np.append(0, ends),
        np.append(0, documents),
        capacity,
        config.pairing,
        seed,
    )


def _full_rows(tokens, config):
    """(the parts, how many each row has, counts)."""
    ends = _cut_long(tokens.sentence_ends, config.seq_length - 2).tolist()
    document_ends = tokens.document_ends.tolist()
    parts = _full_sentences(ends, document_ends, config.seq_length - 2)
    if not config.packing:
        return parts, np.ones(len(parts), np.int32), {}
    packed = packing.pack(parts, ends, document_ends, config.seq_length)
    counts = {
        "num_rows_unpacked": len(parts),
        "num_tokens_unpacked": len(tokens.ids) + 2 * len(parts),
    }
    return (
        [part for row in packed for part in row],
        np.array([len(row) for row in packed], np.int32),
        counts,
    )


def _full_sentences(ends, document_ends, capacity):
    """(start, end) of each part: as many whole sentences as fit."""
    parts, start, first = [], 0, 0
    for document_end in document_ends:
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
    return np.cumsum(steps)


def concatenate(many):
    """Joins `Rows`."""
    # Of no rows it is not known whether there was a segmenter.
    many = [rows for rows in many if len(rows)] or many[:1]
    offsets = _starts(np.array([len(rows.ids) for rows in many]))
    joined = {
        field.name: _concatenate([getattr(rows, field.name) for rows in many])
        for field in dataclasses.fields(Rows)
    }
    joined["part_starts"] += np.repeat(
        offsets, [len(rows.part_starts) for rows in many]
    )
    return Rows(**joined)


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
        _concatenate([tokens.is_continuation for tokens in many]),
    )


def _concatenate(arrays):
    return None if arrays[0] is None else np.concatenate(arrays)


def _starts(lengths):
    return np.cumsum(lengths) - lengths


def _ranges(starts, lengths):
    """The numbers of all ranges [start, start + length), one after another."""
    places = np.repeat(starts - _starts(lengths), lengths)
    places += np.arange(len(places))
    return places


@numba_jit.compiled
def _copy(values, starts, lengths):
    """Of `values` what lies in all ranges [start, start + length)."""
    copied = np.empty(lengths.sum(), values.dtype)
    at = 0
    for part in range(len(starts)):
        for i in range(starts[part], starts[part] + lengths[part]):
            copied[at] = values[i]
            at += 1
    return copied
