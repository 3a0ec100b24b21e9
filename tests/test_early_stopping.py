"""Patience: how many evaluations without a lower loss end a run."""

import math

import pytest

from bert_pretrain.training import training_loop


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
def test_a_run_ends_after_so_many_evaluations_without_a_lower_loss(
    losses, patience, expected
):
    assert training_loop.is_stopping_early(losses, patience) == expected
