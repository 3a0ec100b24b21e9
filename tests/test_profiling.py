"""Tracing: which steps are traced, and where the loops of a run end."""

import pytest
import tensorflow as tf

from bert_pretrain import errors
from bert_pretrain.telemetry import profiling, telemetry_config


@pytest.mark.parametrize("value", ["5", "5:", "0:3", "7:6", "-1:4", "a:b"])
def test_impossible_steps_are_refused(value):
    with pytest.raises(errors.UserError, match="must be A:B with 1 <= A"):
        telemetry_config.ProfilingConfig(profile_steps=value)


@pytest.fixture
def calls(monkeypatch):
    calls = []
    for name in "start", "stop":
        monkeypatch.setattr(
            tf.profiler.experimental,
            name,
            lambda *folder, name=name: calls.append(name),
        )
    return calls


def profile(calls, steps, stops):
    """The events around the loops that end at `stops`."""
    profiler = profiling.Profiler(
        telemetry_config.ProfilingConfig(profile_steps=steps), "folder"
    )
    for step, until in zip(stops, stops[1:], strict=False):
        with profiler.tracing(step, until):
            calls.append(until)
    profiler.close()
    return profiler


def test_a_trace_holds_the_steps_and_no_others(calls):
    profiler = profile(calls, "5:12", [0, 4, 8, 12, 16])
    assert profiler.borders == (4, 12)
    assert calls == [4, "start", 8, 12, "stop", 16]


def test_a_run_that_resumes_in_the_middle_traces_the_rest(calls):
    profile(calls, "5:12", [8, 12, 16])
    assert calls == ["start", 12, "stop", 16]


def test_a_run_that_ends_in_the_middle_writes_its_trace(calls):
    profile(calls, "5:12", [4, 8])
    assert calls == ["start", 8, "stop"]


def test_a_run_without_the_option_traces_nothing(calls):
    profiler = profile(calls, "", [0, 4, 8])
    assert profiler.borders == ()
    assert calls == [4, 8]
