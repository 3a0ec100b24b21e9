"""Stages: every unit once, whatever the workers; nothing done is redone."""

import os
import signal

import pytest

from bert_pretrain import errors, files
from tfrecord_builders import engine


def square(unit, prefix, progress):
    """A unit's work: leaves a file and a line for each time it ran."""
    with open(prefix + ".ran", "a") as file:
        file.write("x")
    if unit < 0:
        raise errors.UserError(f"unit {unit} is negative.")
    progress.add(1, 1)
    return {"square": unit * unit}


def end_abruptly(unit, prefix, progress):
    if unit == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(unit, prefix, progress)


def run(work_dir, units, num_workers, function=square):
    stage = engine.Stage(
        name="squares",
        item="numbers",
        run=function,
        units=units,
        num_bytes=len(units),
    )
    with engine.LocalEngine(str(work_dir), num_workers) as workers:
        return workers.run(stage)


def times_run(work_dir, i):
    path = f"{work_dir}/squares/{i:05d}.ran"
    return len(files.read_text(path)) if os.path.exists(path) else 0


@pytest.mark.parametrize("num_workers", [1, 2])
def test_summaries_come_in_the_order_of_the_units(tmp_path, num_workers):
    assert run(tmp_path, [3, 1, 2], num_workers) == [
        {"square": 9},
        {"square": 1},
        {"square": 4},
    ]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_failed_unit_is_named_while_the_others_finish(tmp_path, num_workers):
    with pytest.raises(errors.UserError, match="unit -1 is negative"):
        run(tmp_path, [1, -1, 3], num_workers)
    assert os.path.exists(f"{tmp_path}/squares/00002.json")
    assert not os.path.exists(f"{tmp_path}/squares/00001.json")


def test_a_finished_unit_is_not_run_again(tmp_path):
    with pytest.raises(errors.UserError):
        run(tmp_path, [1, -1, 3], 1)
    assert run(tmp_path, [1, 2, 3], 1) == [
        {"square": 1},
        {"square": 4},
        {"square": 9},
    ]
    assert [times_run(tmp_path, i) for i in range(3)] == [1, 2, 1]


def test_a_killed_worker_is_told_and_another_run_finishes(tmp_path):
    with pytest.raises(errors.UserError, match="worker process ended"):
        run(tmp_path, [1, 2, 3], 2, end_abruptly)
    assert [s["square"] for s in run(tmp_path, [1, 2, 3], 2)] == [1, 4, 9]
