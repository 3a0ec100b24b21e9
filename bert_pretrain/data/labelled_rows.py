"""Rows of labelled examples: several short examples share a row.

An example becomes a piece, or several if its text is too long for one. Pieces
are packed into rows of S tokens, and each piece is computed as if it were alone
in its row (`document_ids`, `position_ids`). So a batch has fixed shapes, which
a TPU needs, and hardly any padding, which a CPU would compute like text.

What a model says of a piece, it says in slots: one for a text, one for each
word of a tagged sentence. A slot names its position, its piece, its label, and
the number of the output that it gives.

The order of an epoch depends only on the seed and the epoch, so a run can
resume at any row.

B = rows, S = tokens of a row, P = slots of a row.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from bert_pretrain.data import records

# Rows that are open while an epoch is packed. More fill rows hardly better.
_MAX_OPEN_ROWS = 32
# Of texts. With two, a row holds the end of one long text and of another, but
# not a third that would fill it.
_MIN_SLOTS, _MAX_SLOTS = 4, 32
_NUM_BATCHES_READY = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pieces:
    """Tokens and slots of pieces, one piece after another.

    A piece has the tokens `bounds[i]` to `bounds[i + 1]`, and the slots
    `slot_bounds[i]` to `slot_bounds[i + 1]`.
    """

    input_ids: np.ndarray  # int32 [tokens], special tokens included
    token_type_ids: np.ndarray  # int32 [tokens]
    bounds: np.ndarray  # int64 [pieces + 1]
    slot_positions: np.ndarray  # int32 [slots]: places in the piece
    slot_bounds: np.ndarray  # int64 [pieces + 1]
    outputs: np.ndarray  # int32 [slots]: the number of the output
    # By the names of the batch's features: arrays [slots], such as the labels.
    labels: Mapping[str, np.ndarray]
    # Names of labels that are positions in the piece.
    position_labels: tuple[str, ...] = ()
    num_outputs: int
    # A second text for each piece, which lies in a row of its own.
    second: "Pieces | None" = None

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """int64 [pieces]: tokens that a row needs for each piece."""
        lengths = np.diff(self.bounds)
        if self.second is None:
            return lengths
        return np.maximum(lengths, self.second.lengths)

    @functools.cached_property
    def slot_counts(self) -> np.ndarray:
        """int64 [pieces]: the slots of each piece."""
        return np.diff(self.slot_bounds)

    def num_slots_of_row(self, seq_length: int) -> int:
        """Slots that a row has room for: enough for most rows to be full."""
        slots_per_token = self.slot_counts.sum() / max(1, self.lengths.sum())
        wanted = int(np.ceil(1.5 * seq_length * slots_per_token))
        largest = int(self.slot_counts.max(initial=1))
        # Words of a sentence take one slot each.
        limit = _MAX_SLOTS if largest == 1 else seq_length
        # So rows for one text have one slot, whatever its length.
        total = int(self.slot_counts.sum())
        return max(largest, min(max(wanted, _MIN_SLOTS), limit, total))


def join(
    pieces: Sequence[tuple[Sequence[int], Sequence[int]]],
) -> dict[str, Any]:
    """Tokens and bounds of `Pieces`, from (ids, token types) of each piece."""
    lengths = [len(ids) for ids, _ in pieces]
    return {
        "input_ids": _concatenate([ids for ids, _ in pieces], np.int32),
        "token_type_ids": _concatenate([t for _, t in pieces], np.int32),
        "bounds": np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
    }


def _concatenate(arrays: Sequence[Sequence[int]], dtype: type) -> np.ndarray:
    if not arrays:
        return np.zeros(0, dtype)
    return np.concatenate([np.asarray(array, dtype) for array in arrays])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """The shape of rows, and how many make a batch."""

    seq_length: int
    num_slots: int
    batch_size: int  # rows


class Epochs:
    """Packs pieces anew for each epoch, in an order from (seed, epoch)."""

    def __init__(self, pieces: Pieces, layout: Layout, seed: int) -> None:
        """Takes pieces of at most `seq_length` tokens."""
        self._pieces = pieces
        self._layout = layout
        self._seed = seed

    def rows(self, epoch: int) -> list[list[int]]:
        """The numbers of the pieces in each row of an epoch."""
        generator = np.random.default_rng((self._seed, epoch))
        order = generator.permutation(len(self._pieces))
        rows = pack(self._pieces, order, self._layout)
        # Rows are closed when they are full, and the last ones are not.
        return [rows[i] for i in generator.permutation(len(rows))]

    def rows_from(self, first_row: int) -> Iterator[list[int]]:
        """Yields the rows of all epochs, from a row of the run on."""
        epoch = 0
        while True:
            rows = self.rows(epoch)
            yield from rows[first_row:]
            first_row = max(0, first_row - len(rows))
            epoch += 1


def pack(
    pieces: Pieces, order: Sequence[int] | np.ndarray, layout: Layout
) -> list[list[int]]:
    """Packs pieces in an order: each into the fullest open row that has room.

    Returns:
      The numbers of the pieces in each row.
    """
    lengths, counts = pieces.lengths.tolist(), pieces.slot_counts.tolist()
    rows: list[list[int]] = []
    # (tokens left, slots left, pieces), the fullest first.
    open_rows: list[tuple[int, int, list[int]]] = []
    for number in map(int, order):
        length, count = lengths[number], counts[number]
        for i, (tokens, slots, row) in enumerate(open_rows):
            if length <= tokens and count <= slots:
                del open_rows[i]
                row.append(number)
                left = (tokens - length, slots - count, row)
                break
        else:
            left = (
                layout.seq_length - length,
                layout.num_slots - count,
                [number],
            )
        place = next(
            (i for i, other in enumerate(open_rows) if other[0] > left[0]),
            len(open_rows),
        )
        open_rows.insert(place, left)
        if len(open_rows) > _MAX_OPEN_ROWS:
            rows.append(open_rows.pop(0)[2])
    return rows + [row for _, _, row in open_rows]


def batch(
    pieces: Pieces, rows: Sequence[Sequence[int]], layout: Layout
) -> dict[str, np.ndarray]:
    """The features of a batch; missing rows are padding.

    Returns:
      input_ids, attention_mask, token_type_ids, document_ids, position_ids:
        int32 [B, S]; a piece is a document, counted from 1.
      label_positions, slot_documents, outputs: int32 [B, P]; the document of
        an empty slot is 0, its output -1.
      label_weights: float32 [B, P], 0 for an empty slot.
      the pieces' labels: [B, P], positions as places in the row.
      With second texts, their tokens too, under "second_…".
    """
    size, width = layout.batch_size, layout.num_slots
    slots = {
        name: np.zeros((size, width), np.int32)
        for name in ("label_positions", "slot_documents")
    }
    slots["outputs"] = np.full((size, width), -1, np.int32)
    slots["label_weights"] = np.zeros((size, width), np.float32)
    for name, values in pieces.labels.items():
        slots[name] = np.zeros((size, width), values.dtype)
    features = _tokens(pieces, rows, layout)
    for b, row in enumerate(rows):
        start = end = 0
        for document, number in enumerate(row, 1):
            begin, stop = pieces.slot_bounds[number : number + 2]
            own, place = slice(begin, stop), slice(end, end + stop - begin)
            slots["label_positions"][b, place] = (
                start + pieces.slot_positions[own]
            )
            slots["slot_documents"][b, place] = document
            slots["outputs"][b, place] = pieces.outputs[own]
            slots["label_weights"][b, place] = 1
            for name, values in pieces.labels.items():
                shift = start if name in pieces.position_labels else 0
                slots[name][b, place] = values[own] + shift
            start += int(pieces.bounds[number + 1] - pieces.bounds[number])
            end = place.stop
    if pieces.second is not None:
        others = _tokens(pieces.second, rows, layout)
        features |= {f"second_{name}": x for name, x in others.items()}
        features["second_label_positions"] = _starts(
            pieces.second, rows, layout
        )
    return features | slots


def _tokens(
    pieces: Pieces, rows: Sequence[Sequence[int]], layout: Layout
) -> dict[str, np.ndarray]:
    shape = layout.batch_size, layout.seq_length
    features = {
        name: np.zeros(shape, np.int32)
        for name in (
            "input_ids",
            "attention_mask",
            "token_type_ids",
            "document_ids",
            "position_ids",
        )
    }
    for b, row in enumerate(rows):
        start = 0
        for document, number in enumerate(row, 1):
            begin, stop = pieces.bounds[number : number + 2]
            length = int(stop - begin)
            place = slice(start, start + length)
            features["input_ids"][b, place] = pieces.input_ids[begin:stop]
            features["token_type_ids"][b, place] = pieces.token_type_ids[
                begin:stop
            ]
            features["attention_mask"][b, place] = 1
            features["document_ids"][b, place] = document
            features["position_ids"][b, place] = np.arange(length)
            start += length
    return features


def _starts(
    pieces: Pieces, rows: Sequence[Sequence[int]], layout: Layout
) -> np.ndarray:
    """int32 [B, P]: the first position of each piece; one slot a piece."""
    starts = np.zeros((layout.batch_size, layout.num_slots), np.int32)
    lengths = np.diff(pieces.bounds)
    for b, row in enumerate(rows):
        starts[b, : len(row)] = np.cumsum([0, *lengths[list(row)]])[:-1]
    return starts


def train_batches(
    strategy: tf.distribute.Strategy,
    pieces: Pieces,
    layout: Layout,
    seed: int,
    rows: range,
) -> tf.distribute.DistributedDataset:
    """Batches of a range of the rows of a run, distributed over `strategy`.

    Args:
      layout: of a global batch.
      rows: the range starts where the run is now; its length is a multiple of
        the batch size.
    """

    def read() -> Iterator[list[int]]:
        following = Epochs(pieces, layout, seed).rows_from(rows.start)
        return itertools.islice(following, len(rows))

    return _distribute(strategy, read, pieces, layout)


def eval_batches(
    strategy: tf.distribute.Strategy, pieces: Pieces, layout: Layout
) -> tuple[tf.distribute.DistributedDataset, int]:
    """Batches that hold each piece once, and empty rows at their end.

    Returns:
      The distributed batches, and the number of global batches.
    """
    rows = pack(pieces, range(len(pieces)), layout)
    num_batches = -(-len(rows) // layout.batch_size)
    rows += [[] for _ in range(num_batches * layout.batch_size - len(rows))]
    return (
        _distribute(strategy, lambda: iter(rows), pieces, layout),
        num_batches,
    )


def _distribute(
    strategy: tf.distribute.Strategy,
    read: Callable[[], Iterator[list[int]]],
    pieces: Pieces,
    layout: Layout,
) -> tf.distribute.DistributedDataset:
    """Batches of the rows that `read` gives, one after another."""

    def build(context: tf.distribute.InputContext) -> tf.data.Dataset:
        size = context.get_per_replica_batch_size(layout.batch_size)
        of_replica = dataclasses.replace(layout, batch_size=size)

        def generate() -> Iterator[dict[str, np.ndarray]]:
            rows = read()
            while chosen := list(itertools.islice(rows, size)):
                yield batch(pieces, chosen, of_replica)

        dataset = tf.data.Dataset.from_generator(
            generate,
            output_signature={
                name: tf.TensorSpec(values.shape, values.dtype)
                for name, values in batch(pieces, [], of_replica).items()
            },
        )
        return records.without_autotuning(dataset.prefetch(_NUM_BATCHES_READY))

    return strategy.distribute_datasets_from_function(build)
