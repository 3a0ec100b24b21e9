"""The search finds the largest batch that fits, with few measurements."""

import pytest

from bert_pretrain.assessment import batch_search


@pytest.mark.parametrize(
    "needs, first, expected",
    [
        (lambda rows: 1000 + 10 * rows, 32, 1496),
        (lambda rows: 1000 + 10 * rows, 5000, 1496),
        (lambda rows: 1000 + 10 * rows, 3, 1496),
        (lambda rows: 1000 + 10 * rows + rows * rows // 250, 256, 1048),
        # Above some size the compiler recomputes values, so memory grows more
        # slowly.
        (lambda rows: min(1000 + 20 * rows, 14_000 + 2 * rows), 64, 1000),
        (lambda rows: 15_990 + rows, 64, 8),
        (lambda rows: 15_999 + rows, 64, 0),
    ],
)
def test_the_batch_that_is_found_fits_and_the_next_one_does_not(
    needs, first, expected
):
    measured = []

    def measure(rows):
        measured.append(rows)
        return needs(rows)

    found = batch_search.find_largest(measure, first, 8, available=16_000)
    assert found == expected
    assert len(measured) == len(set(measured)) <= 12
    assert needs(found + 8) > 16_000
    assert not found or needs(found) <= 16_000
    assert all(rows % 8 == 0 for rows in measured)


def test_four_measurements_are_enough_if_memory_grows_linearly():
    measured = []

    def measure(rows):
        measured.append(rows)
        return 1000 + 10 * rows

    batch_search.find_largest(measure, 512, 8, available=16_000)
    assert measured == [512, 1024, 1496, 1504]
