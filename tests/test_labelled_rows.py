"""Packed rows of labelled examples."""

import itertools

import numpy as np
import pytest

from bert_pretrain.data import labelled_rows
from helpers import strategies

LAYOUT = labelled_rows.Layout(seq_length=20, num_slots=6, batch_size=4)


def pieces_of(lengths, second=None):
    """Pieces of these lengths, whose tokens tell the piece and the place."""
    tokens = labelled_rows.join(
        [
            ([100 * number + place for place in range(length)], [0] * length)
            for number, length in enumerate(lengths, 1)
        ]
    )
    num_pieces = len(lengths)
    return labelled_rows.Pieces(
        **tokens,
        slot_positions=np.minimum(1, np.array(lengths) - 1).astype(np.int32),
        slot_bounds=np.arange(num_pieces + 1),
        outputs=np.arange(num_pieces, dtype=np.int32),
        labels={
            "label_ids": np.arange(num_pieces, dtype=np.int32) % 3,
            "starts": np.zeros(num_pieces, np.int32),
        },
        position_labels=("starts",),
        num_outputs=num_pieces,
        second=second,
    )


def random_pieces(num_pieces=200, seed=0):
    return pieces_of(np.random.default_rng(seed).integers(1, 21, num_pieces))


def test_an_epoch_has_each_piece_once_and_no_row_is_too_long():
    pieces = random_pieces()
    epochs = labelled_rows.Epochs(pieces, LAYOUT, seed=3)
    rows = epochs.rows(0)
    assert sorted(itertools.chain(*rows)) == list(range(200))
    for row in rows:
        assert pieces.lengths[row].sum() <= LAYOUT.seq_length
        assert len(row) <= LAYOUT.num_slots
    # Hardly any padding is left.
    assert pieces.lengths.sum() > 0.9 * len(rows) * LAYOUT.seq_length


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [
        labelled_rows.Epochs(random_pieces(), LAYOUT, seed).rows(epoch)
        for seed in (1, 2)
        for epoch in (0, 1)
    ]
    assert len({str(order) for order in orders}) == 4


@pytest.mark.parametrize("first_row", [0, 1, 77, 300])
def test_a_run_goes_on_at_any_row(first_row):
    def rows_from(row):
        epochs = labelled_rows.Epochs(random_pieces(), LAYOUT, seed=3)
        return epochs.rows_from(row)

    whole = list(itertools.islice(rows_from(0), 400))
    assert (
        list(itertools.islice(rows_from(first_row), 50))
        == (whole[first_row : first_row + 50])
    )


def test_a_batch_says_where_each_piece_and_its_slot_is():
    batch = labelled_rows.batch(pieces_of([3, 5, 2]), [[2, 0], [1]], LAYOUT)
    first, second, third, _ = batch["input_ids"]
    assert first[:6].tolist() == [300, 301, 100, 101, 102, 0]
    assert second[:6].tolist() == [200, 201, 202, 203, 204, 0]
    assert not third.any()
    assert batch["document_ids"][0, :6].tolist() == [1, 1, 2, 2, 2, 0]
    assert batch["position_ids"][0, :6].tolist() == [0, 1, 0, 1, 2, 0]
    assert batch["label_positions"][0, :3].tolist() == [1, 3, 0]
    assert batch["slot_documents"][0, :3].tolist() == [1, 2, 0]
    assert batch["label_weights"].sum() == 3
    assert batch["outputs"][:2, :2].tolist() == [[2, 0], [1, -1]]
    assert batch["label_ids"][:2, :2].tolist() == [[2, 0], [1, 0]]
    # A label that is a position moves with its piece.
    assert batch["starts"][0, :2].tolist() == [0, 2]


def test_second_texts_lie_in_the_same_slots():
    pieces = pieces_of([3, 5], second=pieces_of([6, 2]))
    assert pieces.lengths.tolist() == [6, 5]
    batch = labelled_rows.batch(pieces, [[1, 0]], LAYOUT)
    assert batch["input_ids"][0, :9].tolist() == [
        *(200, 201, 202, 203, 204),
        *(100, 101, 102),
        0,
    ]
    assert batch["second_input_ids"][0, :8].tolist() == [
        *(200, 201),
        *(100, 101, 102, 103, 104, 105),
    ]
    assert batch["second_label_positions"][0, :2].tolist() == [0, 2]


@pytest.mark.parametrize("num_replicas", [1, 2])
def test_every_output_is_in_the_evaluation_once(num_replicas):
    strategy = strategies.strategy_of(num_replicas)
    batches, num_batches = labelled_rows.eval_batches(
        strategy, random_pieces(), LAYOUT
    )
    seen = []
    for batch in itertools.islice(batches, num_batches):
        for outputs in strategy.experimental_local_results(batch["outputs"]):
            assert outputs.shape == (LAYOUT.batch_size // num_replicas, 6)
            seen += [n for n in outputs.numpy().ravel().tolist() if n >= 0]
    assert sorted(seen) == list(range(200))


def test_replicas_divide_the_same_batches():
    def rows_of(num_replicas):
        strategy = strategies.strategy_of(num_replicas)
        batches = labelled_rows.train_batches(
            strategy, random_pieces(), LAYOUT, seed=5, rows=range(8, 24)
        )
        return np.concatenate(
            [
                part.numpy()
                for batch in batches
                for part in strategy.experimental_local_results(
                    batch["input_ids"]
                )
            ]
        )

    alone = rows_of(1)
    assert alone.shape == (16, LAYOUT.seq_length)
    np.testing.assert_array_equal(alone, rows_of(2))


def test_words_have_as_many_slots_as_a_row_needs():
    pieces = random_pieces()
    assert 1 <= pieces.num_slots_of_row(20) <= 32
    assert pieces_of([20, 20]).num_slots_of_row(20) == 2
    assert pieces_of([1] * 99).num_slots_of_row(64) == 32
    # There are no more to fill.
    assert pieces_of([1] * 9).num_slots_of_row(64) == 9
