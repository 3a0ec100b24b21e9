"""Stages: each unit runs once for any workers, and never again."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import re
import signal
import time

import pytest
import tensorflow as tf

from bert_pretrain import errors, file_errors, files
from tfrecord_builders.engines import attempts, local, work_units


def square(unit, prefix, progress):
    """The work of a unit: adds a letter to a file each time it runs."""
    with open(prefix + ".ran", "a") as file:
        file.write("x")
    if unit < 0:
        raise errors.UserError(f"unit {unit} is negative.")
    progress.add(1, 1)
    return {"square": unit * unit}


def num_runs(prefix):
    return len(files.read_text(prefix + ".ran"))


def fail_once(unit, prefix, progress):
    summary = square(unit, prefix, progress)
    if unit == 2 and num_runs(prefix) == 1:
        with file_errors.naming("gs://bucket/file"):
            raise tf.errors.UnavailableError(None, None, "HTTP 503")
    return summary


def index_units(unit, prefix, progress):
    progress.place = f"file of {unit}"
    return {"square": {0: 0}[unit]}


def end_abruptly_once(unit, prefix, progress):
    summary = square(unit, prefix, progress)
    if unit == 2 and num_runs(prefix) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return summary


def end_abruptly(unit, prefix, progress):
    if unit == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(unit, prefix, progress)


def wait(unit, prefix, progress):
    """The work of a unit that takes long."""
    with open(prefix + ".ran", "a"):
        time.sleep(60)


def name_of(unit):
    return f"input {unit}"


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """Maps a number of workers to an engine; processes take long to start."""
    with contextlib.ExitStack() as stack:
        yield {
            num_workers: stack.enter_context(
                local.LocalEngine(
                    str(tmp_path_factory.mktemp("work")), num_workers
                )
            )
            for num_workers in (1, 2)
        }


@pytest.fixture
def squares(engines, request):
    """Runs a stage for one test: `squares(units, num_workers, function)`."""

    class Squares:
        def __call__(self, units, num_workers=1, function=square):
            self.folder = f"{engines[num_workers].work_dir}/{self.name}"
            summaries = engines[num_workers].run(
                work_units.Stage(
                    name=self.name,
                    item="numbers",
                    run=function,
                    units=units,
                    num_bytes=len(units),
                    describe=name_of,
                )
            )
            return [summary["square"] for summary in summaries]

        name = re.sub(r"\W", "_", request.node.name)

        def is_done(self, i):
            return os.path.exists(f"{self.folder}/{i:05d}.json")

        def num_runs(self, i):
            return num_runs(f"{self.folder}/{i:05d}")

    return Squares()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_summaries_come_in_the_order_of_the_units(squares, num_workers):
    assert squares([3, 1, 2], num_workers) == [9, 1, 4]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_failed_unit_is_named_while_the_others_finish(squares, num_workers):
    with pytest.raises(errors.UserError, match="input -1: unit -1 is negat"):
        squares([1, -1, 3], num_workers)
    assert [squares.is_done(i) for i in range(3)] == [True, False, True]
    # A mistake that the user has to correct is not tried again.
    assert squares.num_runs(1) == 1


def test_a_finished_unit_is_not_run_again(squares):
    with pytest.raises(errors.UserError):
        squares([1, -1, 3])
    assert squares([1, 2, 3]) == [1, 4, 9]
    assert [squares.num_runs(i) for i in range(3)] == [1, 2, 1]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_unit_with_a_transient_error_is_tried_again(squares, num_workers):
    assert squares([1, 2, 3], num_workers, fail_once) == [1, 4, 9]
    assert [squares.num_runs(i) for i in range(3)] == [1, 2, 1]


def test_an_error_that_stays_is_reported_with_the_input(squares, monkeypatch):
    monkeypatch.setattr(attempts, "NUM_ATTEMPTS", 1)
    with pytest.raises(errors.UserError, match="input 2: gs://.*HTTP 503"):
        squares([1, 2, 3], 1, fail_once)
    assert squares.is_done(2)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_unit_with_a_defect_is_named_while_the_others_finish(
    squares, num_workers
):
    with pytest.raises(RuntimeError) as told:
        squares([1, 0, 1], num_workers, index_units)
    message = str(told.value)
    assert "2 of 3 units" in message and "file of 1: KeyError: 1" in message
    assert message.count("Traceback") == 1 and "in index_units" in message
    assert squares.is_done(1)


@pytest.mark.slow
def test_another_worker_does_the_unit_of_a_killed_one(squares):
    assert squares([1, 2, 3], 2, end_abruptly_once) == [1, 4, 9]
    assert [squares.num_runs(i) for i in range(3)] == [1, 2, 1]


def test_a_worker_killed_while_it_starts_begins_no_unit(tmp_path):
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        reports, send = map(stack.enter_context, context.Pipe(duplex=False))
        worker = local._Worker(context, (str(tmp_path), send))
        stack.callback(worker.close)
        unit = work_units.Stage(
            name="squares", item="numbers", run=wait, units=[1], num_bytes=1
        )
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            done = thread.submit(worker.run, unit, f"{tmp_path}/00000")
            assert worker._pid is None
            worker.kill()
            assert "killed" in done.result().reason
        assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_a_worker_that_cannot_start_is_not_reported_as_out_of_memory(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(attempts, "NUM_ATTEMPTS", 1)
    (tmp_path / "file").touch()
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        _, send = map(stack.enter_context, context.Pipe(duplex=False))
        worker = local._Worker(context, (f"{tmp_path}/file/folder", send))
        stack.callback(worker.close)
        unit = work_units.Stage(
            name="squares", item="numbers", run=square, units=[1], num_bytes=1
        )
        reason = worker.run(unit, f"{tmp_path}/00000").reason
    assert "ended 1 times before it began" in reason
    assert "memory" not in reason


@pytest.mark.slow
def test_a_unit_that_kills_its_workers_is_named(squares):
    with pytest.raises(errors.UserError, match="input 2: its worker.*killed"):
        squares([1, 2, 3], 2, end_abruptly)
    assert [squares.is_done(i) for i in range(3)] == [True, False, True]
    assert squares([1, 2, 3], 2) == [1, 4, 9]
