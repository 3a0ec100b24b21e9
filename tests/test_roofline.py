"""The bound of a step: the time of its slowest resource, and of its sums."""

import pytest

from bert_pretrain.assessment import roofline
from bert_pretrain.compilation import slices


def test_the_slower_of_arithmetic_and_memory_counts_and_then_the_sums():
    chips = slices.find("v5litepod-8")
    bound = roofline.of_step(chips, 197e12, 2 * 819e9, 200e9)
    assert bound.compute == pytest.approx(1)
    assert bound.memory == pytest.approx(2)
    # A ring of eight chips: seven eighths of the bytes, twice.
    assert bound.links == pytest.approx(2 * 7 / 8)
    assert bound.seconds == pytest.approx(2 + 2 * 7 / 8)
    bound = roofline.of_step(chips, 3 * 197e12, 0, 0)
    assert bound.seconds == pytest.approx(3)


def test_a_core_has_its_share_of_a_chip():
    bound = roofline.of_step(slices.find("v3-8"), 123e12, 900e9, 0)
    assert bound.compute == bound.memory == pytest.approx(2)


def test_one_chip_has_no_sums():
    chips = slices.find("v6e-1")
    assert roofline.of_step(chips, 0, 0, 1e9).seconds == 0
