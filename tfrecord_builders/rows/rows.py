"""Rows: the token ids of examples before they are serialized.

A row is one or more segments. A segment is a range of tokens of one document:

    [CLS] segment [SEP]                          full sentences
    [CLS] segment [SEP] segment [SEP]            sentence pairs
    [CLS] segment [SEP] [CLS] segment [SEP] …    packed: several documents

Rows are stored as ranges, a few numbers for each row. Tokens are copied only
when rows are serialized or become features, so no Python loop runs over them.

T = tokens, N = sentences, D = documents, Q = segments, R = rows, S = tokens of
a row.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from bert_pretrain import numba_jit
from bert_pretrain.data import vocabulary


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Documents as token ids."""

    ids: np.ndarray  # integers [T]
    sentence_ends: np.ndarray  # [N], ascending; the last one is T
    document_ends: np.ndarray  # [D], those sentence ends that end a document
    # bool [T], tokens that a segmenter found to belong to the word of the token
    # before; None without a segmenter.
    is_continuation: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows as ranges of tokens, without special tokens."""

    ids: np.ndarray  # integers [T]
    segment_starts: np.ndarray  # [Q], indices into the ids
    segment_lengths: np.ndarray  # [Q]
    segments_per_row: np.ndarray  # [R], their sum is Q
    # bool [R], true if the second segment is from another document, or if the
    # two segments are swapped.
    next_sentence_labels: np.ndarray
    is_continuation: np.ndarray | None = None  # bool [T], see `Tokens`

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.segments_per_row)

    @property
    def num_bytes(self) -> int:
        """Memory of all arrays."""
        return sum(
            getattr(self, field.name).nbytes
            for field in dataclasses.fields(self)
            if getattr(self, field.name) is not None
        )

    def take(self, order: np.ndarray) -> "Rows":
        """Selects rows by their numbers, in the order of `order`."""
        first_segments = _starts(self.segments_per_row)
        segments = _ranges(first_segments[order], self.segments_per_row[order])
        return dataclasses.replace(
            self,
            segment_starts=self.segment_starts[segments],
            segment_lengths=self.segment_lengths[segments],
            segments_per_row=self.segments_per_row[order],
            next_sentence_labels=self.next_sentence_labels[order],
        )

    def to_bytes(self) -> bytes:
        """Serializes rows for a temporary file, with the tokens they hold."""
        ids = self._gather(self.ids)
        itemsize = 2 if ids.max(initial=0) < 2**16 else 4
        sizes = np.array(
            [len(ids), len(self.segment_lengths), len(self), itemsize], "<i8"
        )
        return b"".join(
            [
                sizes.tobytes(),
                ids.astype(f"<u{itemsize}").tobytes(),
                self.segment_lengths.astype("<i4").tobytes(),
                self.segments_per_row.astype("<i4").tobytes(),
                self.next_sentence_labels.tobytes(),
                b""
                if self.is_continuation is None
                else np.packbits(self._gather(self.is_continuation)).tobytes(),
            ]
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> "Rows":
        """The inverse of `to_bytes`; tokens that no row holds are lost."""
        num_ids, num_segments, num_rows, itemsize = np.frombuffer(
            content, "<i8", 4
        )
        arrays, offset = [], 32
        for dtype, count in (
            (f"<u{itemsize}", num_ids),
            ("<i4", num_segments),
            ("<i4", num_rows),
            (np.bool_, num_rows),
        ):
            arrays.append(np.frombuffer(content, dtype, count, offset))
            offset += arrays[-1].nbytes
        # Bits follow only if there was a segmenter.
        bits = np.frombuffer(content, np.uint8, offset=offset)
        if len(bits):
            arrays.append(np.unpackbits(bits, count=num_ids).view(bool))
        ids, segment_lengths, *others = arrays
        return cls(ids, _starts(segment_lengths), segment_lengths, *others)

    def features(
        self,
        seq_length: int,
        vocab: vocabulary.Vocabulary,
        is_packed: bool = False,
    ) -> dict[str, np.ndarray]:
        """Makes the features of a model, except those of masking.

        Returns:
          By name, int32 [R, S]: `input_ids`, `attention_mask`,
          `token_type_ids`, and if `is_packed` also `document_ids`: 1, 2, … in
          each row, 0 for padding. `next_sentence_labels`: int32 [R].
          `is_continuation`: bool [R, S], if there was a segmenter.
        """
        shape = len(self), seq_length
        segment_rows = np.repeat(np.arange(len(self)), self.segments_per_row)
        # [SEP] follows each segment. [CLS] precedes each segment of a packed
        # row, and only the first one of other rows.
        starts = _starts(self.segment_lengths + (2 if is_packed else 1))
        first_segments = _starts(self.segments_per_row)
        starts = starts - starts[first_segments][segment_rows] + 1
        ends = starts + self.segment_lengths  # the columns of the [SEP]s

        places = (
            np.repeat(segment_rows, self.segment_lengths),
            _ranges(starts, self.segment_lengths),
        )
        input_ids = np.full(shape, vocab.id(vocabulary.PAD), np.int32)
        input_ids[places] = self._gather(self.ids)
        input_ids[segment_rows, ends] = vocab.id(vocabulary.SEP)
        if is_packed:
            input_ids[segment_rows, starts - 1] = vocab.id(vocabulary.CLS)
        else:
            input_ids[:, 0] = vocab.id(vocabulary.CLS)

        columns = np.arange(seq_length)
        last_segments = first_segments + self.segments_per_row - 1
        attention_mask = columns <= ends[last_segments, None]
        token_type_ids = np.zeros(shape, np.int32)
        if not is_packed:
            token_type_ids[:] = columns > ends[first_segments, None]
            token_type_ids *= attention_mask
        features = {
            "input_ids": input_ids,
            "attention_mask": attention_mask.astype(np.int32),
            "token_type_ids": token_type_ids,
            "next_sentence_labels": self.next_sentence_labels.astype(np.int32),
        }
        if is_packed:
            # The number grows by one at each [CLS].
            is_first = np.zeros(shape, np.int32)
            is_first[segment_rows, starts - 1] = 1
            features["document_ids"] = is_first.cumsum(axis=1) * attention_mask
        if self.is_continuation is not None:
            features["is_continuation"] = np.zeros(shape, bool)
            features["is_continuation"][places] = self._gather(
                self.is_continuation
            )
        return features

    def _gather(self, values: np.ndarray) -> np.ndarray:
        """Copies the items of `values` [T] that belong to segments."""
        return _copy(values, self.segment_starts, self.segment_lengths)


def concatenate(many: Sequence[Rows]) -> Rows:
    """Joins rows; `many` must not be empty."""
    # If there are no rows, `from_bytes` cannot know whether there was a
    # segmenter.
    many = [rows for rows in many if len(rows)] or many[:1]
    offsets = _starts(np.array([len(rows.ids) for rows in many]))
    return Rows(
        np.concatenate([rows.ids for rows in many]),
        np.concatenate(
            [
                rows.segment_starts + offset
                for rows, offset in zip(many, offsets, strict=True)
            ]
        ),
        np.concatenate([rows.segment_lengths for rows in many]),
        np.concatenate([rows.segments_per_row for rows in many]),
        np.concatenate([rows.next_sentence_labels for rows in many]),
        _concatenate([rows.is_continuation for rows in many]),
    )


def concatenate_tokens(many: Sequence[Tokens]) -> Tokens:
    """Joins documents; `many` may be empty."""
    if not many:
        empty = np.zeros(0, np.int64)
        return Tokens(empty.astype(np.int32), empty, empty)
    offsets = _starts(np.array([len(tokens.ids) for tokens in many]))
    pairs = list(zip(many, offsets, strict=True))
    return Tokens(
        np.concatenate([tokens.ids for tokens in many]),
        np.concatenate([each.sentence_ends + offset for each, offset in pairs]),
        np.concatenate([each.document_ends + offset for each, offset in pairs]),
        _concatenate([tokens.is_continuation for tokens in many]),
    )


def _concatenate(arrays) -> np.ndarray | None:
    """Joins arrays, or None if they are None."""
    return None if arrays[0] is None else np.concatenate(arrays)


def _starts(lengths: np.ndarray) -> np.ndarray:
    """The start of each range when ranges lie one after another."""
    return np.cumsum(lengths) - lengths


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """All numbers of the ranges [start, start + length)."""
    numbers = np.repeat(starts - _starts(lengths), lengths)
    numbers += np.arange(len(numbers))
    return numbers


@numba_jit.compiled
def _copy(values, starts, lengths):
    """Copies the values in the ranges [start, start + length)."""
    copied = np.empty(lengths.sum(), values.dtype)
    at = 0
    for segment in range(len(starts)):
        for i in range(starts[segment], starts[segment] + lengths[segment]):
            copied[at] = values[i]
            at += 1
    return copied
