"""A build on Beam writes the same bytes, and its errors are as clear."""

import os
import subprocess
import sys
import time

import psutil
import pytest
import tensorflow as tf

from bert_pretrain import errors, files
from helpers import builds
from tfrecord_builders import build
from tfrecord_builders.engines import work_units

pytest.importorskip("apache_beam")
from tfrecord_builders.engines import beam  # noqa: E402


@pytest.mark.slow
def test_beam_s_worker_processes_write_the_same_bytes(tmp_path):
    builds.write_vocabulary(f"{tmp_path}/vocab.txt")
    builds.write_news(f"{tmp_path}/news-1.jsonl", 60)
    builds.write_news(f"{tmp_path}/news-2.jsonl", 60, seed=1)
    config = builds.config_of(str(tmp_path), "local", num_shards=2)
    build.main(config)
    command = [sys.executable, "-m", "tfrecord_builders.build"]
    for name, value in (
        ("source", "jsonl"),
        ("input", f"{tmp_path}/news-*.jsonl"),
        ("vocab_file", f"{tmp_path}/vocab.txt"),
        ("output_dir", f"{tmp_path}/beam"),
        ("seq_length", 64),
        ("num_shards", 2),
        ("eval_fraction", 0.1),
        ("test_fraction", 0.05),
        ("unit_mb", 0.05),
        ("engine", "beam"),
        ("direct_num_workers", 2),
        ("direct_running_mode", "multi_processing"),
    ):
        command.append(f"--{name}={value}")
    with open(f"{tmp_path}/log", "w") as log:
        builder = subprocess.Popen(command, stdout=log, stderr=log)
        workers = set()
        while builder.poll() is None:
            workers |= workers_of(builder.pid)
            time.sleep(0.1)
    assert builder.returncode == 0, files.read_text(f"{tmp_path}/log")
    assert len(workers) >= 2
    local = builds.contents(f"{tmp_path}/local")
    assert builds.contents(f"{tmp_path}/beam") == local
    assert "manifest.json" in local


def workers_of(pid):
    try:
        return {
            child.pid
            for child in psutil.Process(pid).children(recursive=True)
            if "sdk_worker_main" in " ".join(child.cmdline()[:4])
        }
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return set()


def square(unit, prefix, progress):
    with open(prefix + ".ran", "a") as file:
        file.write("x")
    if unit < 0:
        raise errors.UserError(f"unit {unit} is negative.")
    progress.add(1, 1)
    return {"square": {1: 1, 2: 4, 3: 9}[unit]}


def name_of(unit):
    return f"input {unit}"


def run(work_dir, units):
    stage = work_units.Stage(
        name="squares",
        item="numbers",
        run=square,
        units=units,
        num_bytes=len(units),
        describe=name_of,
    )
    with beam.BeamEngine(str(work_dir), []) as workers:
        return [summary["square"] for summary in workers.run(stage)]


def test_a_failed_unit_is_named_and_only_this_unit_runs_again(tmp_path):
    with pytest.raises(errors.UserError, match="1 of 3.*input -1: unit -1 is"):
        run(tmp_path, [1, -1, 3])
    assert run(tmp_path, [1, 2, 3]) == [1, 4, 9]
    ran = [files.read_text(f"{tmp_path}/squares/0000{i}.ran") for i in range(3)]
    assert ran == ["x", "xx", "x"]


def test_earlier_failures_are_found_and_removed_with_one_listing(
    tmp_path, monkeypatch
):
    prefixes = [f"{tmp_path}/squares/{i:05d}" for i in range(9)]
    for prefix in prefixes[:2]:
        files.write_json(beam._failure_path(prefix), {"reason": "earlier"})
    asked = []
    exists, listdir = tf.io.gfile.exists, tf.io.gfile.listdir

    def run_pipeline(workers, stage, todo):
        assert todo == list(range(9))
        assert os.listdir(f"{tmp_path}/squares") == []
        for prefix in prefixes[1:]:
            files.write_json(work_units.summary_path(prefix), {"square": 1})
        monkeypatch.undo()

    monkeypatch.setattr(beam.BeamEngine, "_run_pipeline", run_pipeline)
    for name, function in (("exists", exists), ("listdir", listdir)):
        monkeypatch.setattr(
            tf.io.gfile,
            name,
            lambda path, function=function: (
                asked.append(path) or function(path)
            ),
        )
    with pytest.raises(errors.UserError, match="the runner ended without"):
        run(tmp_path, list(range(9)))
    # One listing each for temporary files, finished units and failed units, and
    # before it the question whether the folder is there.
    assert asked == [f"{tmp_path}/squares"] * 2 * 3


def test_temporary_files_of_killed_workers_are_removed(tmp_path):
    left = f"{tmp_path}/squares/00000.rows.tmp-0123456789abcdef"
    files.write_text(left, "half")
    assert run(tmp_path, [1, 2, 3]) == [1, 4, 9]
    assert not os.path.exists(left)


def test_a_unit_with_a_defect_is_named_while_the_others_finish(tmp_path):
    with pytest.raises(RuntimeError) as told:
        run(tmp_path, [1, 4, 3])
    assert "input 4: KeyError: 4" in str(told.value)
    assert str(told.value).count("Traceback") == 1
    assert os.path.exists(f"{tmp_path}/squares/00002.json")


def test_workers_that_do_not_see_the_folder_say_so(tmp_path, monkeypatch):
    write_bytes = files.write_bytes

    def write_elsewhere(path, content):
        write_bytes(path.replace("stage.pickle", "not_here"), content)

    monkeypatch.setattr(files, "write_bytes", write_elsewhere)
    with pytest.raises(errors.UserError, match="a folder that all workers sh"):
        run(tmp_path, [1, 2])


def test_options_that_beam_cannot_use_are_refused_before_anything_runs(
    tmp_path,
):
    dataflow = ["--runner=DataflowRunner", "--project=p", "--region=r"]
    for flags, expected in (
        (["--seq_lenght=64"], "unknown flag --seq_lenght"),
        (["--direct_num_workers=two"], "--direct_num_workers.*'two'"),
        (["--runner=NoRunner"], "NoRunner"),
        (dataflow, f"{tmp_path} is on this machine"),
    ):
        with pytest.raises(errors.UserError, match=expected) as told:
            beam.BeamEngine(str(tmp_path), flags)
        print(told.value)
    with pytest.raises(errors.UserError, match="news.jsonl is on this mach"):
        beam.BeamEngine("gs://bucket/work", dataflow, ["news.jsonl"])
    assert not os.listdir(tmp_path)
