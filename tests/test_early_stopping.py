"""Patience: how many evaluations without a lower loss end a run."""

import math

import pytest

from bert_pretrain.training import early_stopping


@pytest.mark.parametrize(
    "losses, patience, expected",
    [
        ([], 1, False),
        ([3.0], 1, False),
        ([3.0, 2.0], 1, False),
        ([3.0, 3.0], 1, True),
        ([3.0, 2.0, 2.5, 2.1], 2, True),
        ([3.0, 2.0, 2.5, 2.1], 3, False),
        ([3.0, 2.0, 2.5, 1.9], 2, False),
        ([3.0, 2.0, math.inf, math.inf], 2, True),
        ([3.0, 9.0, 9.0, 9.0], 0, False),
    ],
)
def test_a_run_ends_after_so_many_losses_that_are_no_lower(
    losses, patience, expected
):
    assert early_stopping.is_due(losses, patience) == expected
