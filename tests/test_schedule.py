"""The schedules' exact values, and the clock that shortens them."""

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain import errors
from bert_pretrain.training import schedule, training_config


def rates(steps, clock=None, changes=(), **options):
    config = training_config.ScheduleConfig(**options)
    rate = schedule.Schedule(config, clock, changes)
    return [float(rate(step)) for step in steps]


def test_the_rate_rises_to_the_peak_and_falls_to_zero():
    np.testing.assert_allclose(
        rates(
            [0, 1, 5, 9, 10, 11, 60, 109, 110, 111],
            total_steps=110,
            warmup_steps=10,
            peak_learning_rate=2e-3,
        ),
        [0, 2e-4, 1e-3, 1.8e-3, 2e-3, 1.98e-3, 1e-3, 2e-5, 0, 0],
        rtol=1e-5,
        atol=1e-9,
    )


def test_without_warmup_the_first_rate_is_the_peak():
    np.testing.assert_allclose(
        rates(range(5), total_steps=4, warmup_steps=0, peak_learning_rate=1.0),
        [1, 0.75, 0.5, 0.25, 0],
    )


@pytest.mark.parametrize(
    "name, expected",
    [
        # cos 60° = 1/2 where a third of the way is gone.
        ("cosine", {0: 0, 5: 0.5, 10: 1, 40: 0.75, 55: 0.5, 70: 0.25, 100: 0}),
        ("constant", {0: 0, 5: 0.5, 10: 1, 80: 1, 85: 0.75, 95: 0.25, 100: 0}),
        (
            "one_cycle",
            {0: 0.1, 15: 0.4, 45: 1, 75: 0.4, 90: 0.1, 95: 0.05, 100: 0},
        ),
    ],
)
def test_each_schedule_has_its_shape(name, expected):
    warmup = {} if name == "one_cycle" else {"warmup_steps": 10}
    np.testing.assert_allclose(
        rates(
            expected,
            schedule=name,
            total_steps=100,
            peak_learning_rate=2.0,
            **warmup,
        ),
        2 * np.array(list(expected.values())),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("name", ["linear", "cosine", "constant", "one_cycle"])
def test_a_run_s_last_steps_are_exact_however_long_it_is(name):
    (rate,) = rates(
        [10**7 - 1], schedule=name, total_steps=10**7, peak_learning_rate=1.0
    )
    assert 0 < rate < 2e-6


def test_warmup_is_a_tenth_of_a_time_budget_if_not_given():
    config = training_config.ScheduleConfig(
        total_steps=10**6, max_minutes=60.0, peak_learning_rate=1.0
    )
    assert config.num_warmup_steps == 10**5
    # The clock runs ahead of the steps: a tenth of the hour is the peak.
    clock = schedule.Clock(60.0)
    rate = schedule.Schedule(config, clock)
    for minutes, expected in ((3, 0.5), (6, 1.0), (33, 0.5)):
        clock.seconds.assign(60.0 * minutes)
        assert float(rate(tf.constant(100))) == pytest.approx(expected)


def test_warmup_is_a_tenth_if_not_given():
    warmup = {
        total: training_config.ScheduleConfig(
            total_steps=total
        ).num_warmup_steps
        for total in (5, 300, 10**6)
    }
    assert warmup == {5: 0, 300: 30, 10**6: 10_000}


def test_the_clock_shortens_the_schedule_and_never_prolongs_it():
    clock = schedule.Clock(max_minutes=2.0)
    options = {
        "total_steps": 100,
        "warmup_steps": 0,
        "peak_learning_rate": 1.0,
    }
    for seconds, expected in (
        (0, {0: 1.0, 30: 0.7}),
        (60, {0: 0.5, 30: 0.5, 70: 0.3}),
        (120, {30: 0.0}),
        (500, {30: 0.0}),
    ):
        clock.seconds.assign(seconds)
        np.testing.assert_allclose(
            rates(expected, clock, **options),
            list(expected.values()),
            atol=1e-6,
        )
        assert clock.is_over == (seconds >= 120)
        assert clock.seconds_left == max(0, 120 - seconds)


def test_the_clock_goes_on_from_where_it_was_saved(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(schedule.time, "monotonic", lambda: now)
    clock = schedule.Clock(9.0)
    clock.tick()
    now += 7
    clock.tick()
    assert float(clock.seconds) == 7
    resumed = schedule.Clock(9.0)
    resumed.seconds.assign(clock.seconds)
    now += 1000  # No process is training in this time.
    resumed.tick()
    assert float(resumed.seconds) == 7
    now += 5
    resumed.tick()
    assert float(resumed.seconds) == 12


def test_without_a_budget_the_clock_stands_still():
    clock = schedule.Clock()
    clock.tick()
    clock.tick()
    assert float(clock.seconds) == 0
    assert not clock.is_over
    assert clock.seconds_left == np.inf
    # A run that had a budget continues without one.
    clock.seconds.assign(99.0)
    assert not clock.is_over
    assert rates([3], clock, total_steps=9) == rates([3], total_steps=9)


def test_a_change_has_its_own_peak_and_warmup():
    changes = [
        schedule.Change(from_step=20, peak_learning_rate=4.0),
        schedule.Change(from_step=50, peak_learning_rate=2.0, warmup_steps=10),
    ]
    np.testing.assert_allclose(
        rates(
            [0, 19, 20, 49, 50, 55, 60, 90],
            changes=changes,
            total_steps=100,
            warmup_steps=0,
            peak_learning_rate=1.0,
        ),
        [1, 0.81, 3.2, 2.04, 0, 0.45, 0.8, 0.2],
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    "values, message",
    [
        ({"total_steps": 0}, "total_steps=0"),
        ({"total_steps": 5, "warmup_steps": 5}, "warmup_steps=5"),
        ({"total_steps": 5, "max_minutes": -1.0}, "max_minutes=-1"),
        (
            {"total_steps": 5, "peak_learning_rate": 0.0},
            "peak_learning_rate=0.0",
        ),
        (
            {"total_steps": 5, "warmup_steps": 1, "schedule": "one_cycle"},
            "both say when the peak is",
        ),
        ({"total_steps": 5, "cooldown_fraction": 0.0}, "cooldown_fraction=0"),
        (
            {"total_steps": 9, "warmup_steps": 8, "schedule": "constant"},
            "begins before the 8 of warmup",
        ),
    ],
)
def test_an_impossible_schedule_is_refused(values, message):
    with pytest.raises(errors.UserError, match=message):
        training_config.ScheduleConfig(**values)
