"""Running work units on a cluster, or by Apache Beam on this machine.

One pipeline a stage: the numbers of its units, spread over the workers, each
run as `engine.attempt` runs it anywhere. What goes through Beam is numbers
alone; the stage itself lies in the work folder, from which a worker reads it,
as the summaries and what failed do. So a worker that does not see the
folder says so, a pipeline is small whatever the number of units, and the next
run finds what an earlier one finished.
"""

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import io
import logging
import pickle
import re
import time

import apache_beam
import tensorflow as tf
from apache_beam.options import pipeline_options

from bert_pretrain import errors, files, locks
from tfrecord_builders.engines import engine

# They run where this process runs. DirectRunner means FnApiRunner here: it
# would first look on the network for a program to run pipelines with.
_LOCAL_RUNNERS = pipeline_options.StandardOptions.LOCAL_RUNNERS
_DIRECT_RUNNER = "FnApiRunner"
# Their workers have no folder in common with this machine.
_REMOTE_RUNNERS = ("DataflowRunner",)
_METRICS = "build"
_FAILURE_SUFFIX = ".failed.json"
_USER_ERROR = re.compile(rf"{errors.UserError.__name__}: (.*)")


class BeamEngine:
    """Runs stages as Beam pipelines; `LocalEngine` is the same elsewhere."""

    def __init__(self, work_dir, flags, inputs=()):
        """Checks what can be checked before anything runs.

        Args:
          flags: Beam's own, as given on the command line.
          inputs: paths that the units read.

        Raises:
          UserError: if Beam does not know a flag, or if the workers of its
            runner cannot reach a path.
        """
        self._work_dir = work_dir
        self._options = _parse(flags)
        self._runner = _runner(self._options)
        if self._runner in _REMOTE_RUNNERS:
            for path in (work_dir, *inputs):
                _refuse_local(path, self._runner)
        if self._runner in _LOCAL_RUNNERS:
            # Channels opened and closed; what fails arrives as an exception.
            logging.getLogger("apache_beam").setLevel(logging.WARNING)
        _pipeline(self._options)
        self.seconds = {}  # by stage

    def __enter__(self):
        # A unit that a killed run began may still be under way.
        locks.wait_until_left(self._work_dir)
        return self

    def __exit__(self, *exception):
        pass

    def run(self, stage):
        """Runs the units of a stage that are not done yet.

        Returns:
          The summaries of all units, in the units' order.

        Raises:
          UserError: naming the failed units' inputs, after all others ran.
          RuntimeError: likewise, if one failed by a defect of this program.
        """
        prefixes = engine.unit_prefixes(self._work_dir, stage)
        # Only here: once its units run, workers write there.
        files.remove_temporary_files(f"{self._work_dir}/{stage.name}")
        todo = engine.unfinished(prefixes)
        started = time.monotonic()
        if len(todo) == 1:
            # No cluster does it sooner, and starting one takes minutes.
            (i,) = todo
            failures = {i: engine.attempt(stage, i, prefixes[i], _ignore)}
        else:
            failures = self._run_units(stage, prefixes, todo)
        self.seconds[stage.name] = time.monotonic() - started
        return engine.summaries(stage, prefixes, failures)

    def _run_units(self, stage, prefixes, todo):
        if not todo:
            return {}
        print(
            f"{stage.name}: {len(todo):,} of {len(prefixes):,} units, "
            f"by {self._runner} …",
            flush=True,
        )
        _forget_failures(f"{self._work_dir}/{stage.name}")
        self._run_pipeline(stage, todo)
        return {
            i: _read_failure(prefixes[i], stage, i)
            for i in engine.unfinished(prefixes)
        }

    def _run_pipeline(self, stage, todo):
        path = f"{self._work_dir}/{stage.name}/stage.pickle"
        content = pickle.dumps(stage)
        files.write_bytes(path, content)
        digest = hashlib.sha256(content).hexdigest()
        pipeline = _pipeline(self._options)
        _ = (
            pipeline
            | "units" >> apache_beam.Create(todo)
            | "spread" >> apache_beam.Reshuffle()
            | stage.name
            >> apache_beam.Map(functools.partial(_run_unit, path, digest))
        )
        try:
            pipeline.run().wait_until_finish()
        # All errors: each runner has its own, with the worker's as text.
        except Exception as error:
            if found := _USER_ERROR.search(str(error)):
                raise errors.UserError(found[1]) from error
            raise


def _ignore(report):
    del report


def _pipeline(options):
    try:
        return apache_beam.Pipeline(options=options)
    except (ImportError, ValueError) as error:
        # Options that are missing, an unknown runner, one not installed.
        raise errors.UserError(f"Beam says: {error}") from error


def _parse(flags):
    """Beam's options, each of which it must know."""
    parsers = []
    # The parser of all options, without the warnings of one that is used.
    pipeline_options.PipelineOptions([]).get_all_options(
        add_extra_args_fn=parsers.append
    )
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            _, unknown = parsers[0].parse_known_args(list(flags))
    except (SystemExit, argparse.ArgumentError) as error:
        line = said.getvalue().strip().rpartition("\n")[2]
        raise errors.UserError(
            f"a flag for Beam: {line.partition('error: ')[2] or error}."
        ) from error
    options = pipeline_options.PipelineOptions(list(flags))
    runner = _runner(options)
    # Job servers, as Flink's and Spark's, have options that only they know.
    if unknown and runner in (*_LOCAL_RUNNERS, *_REMOTE_RUNNERS):
        raise errors.UserError(
            f"unknown flag {unknown[0].partition('=')[0]}: neither the "
            f"builder nor Beam's {runner} has it; --help lists the builder's."
        )
    if runner in ("DirectRunner", "SwitchingDirectRunner"):
        options.view_as(
            pipeline_options.StandardOptions
        ).runner = _DIRECT_RUNNER
    return options


def _runner(options):
    standard = options.view_as(pipeline_options.StandardOptions)
    return (standard.runner or standard.DEFAULT_RUNNER).rpartition(".")[2]


def _refuse_local(path, runner):
    if "://" not in path:
        raise errors.UserError(
            f"{path} is on this machine, where the workers of {runner} do "
            "not see it: give a gs:// path."
        )


# ----------------------------------------------------------------- on a worker


def _run_unit(path, digest, i):
    """Does unit `i` of the stage in the file `path`."""
    stage_dir = path.rpartition("/")[0]
    # Looked for first: entering a folder would make it.
    with errors.naming(path):
        if not tf.io.gfile.exists(path):
            raise errors.UserError(
                f"{path} does not exist on this worker: output_dir must be "
                "gs://, or a folder that all workers share."
            )
    stage = _read_stage(path, digest)
    work_dir = stage_dir.rpartition("/")[0]
    prefix = engine.unit_prefixes(work_dir, stage)[i]
    summary_path = engine.summary_path(prefix)
    handle = locks.enter(work_dir)
    try:
        # Runners repeat units, for instance if a worker died beside them.
        if tf.io.gfile.exists(summary_path):
            return
        failure = engine.attempt(stage, i, prefix, _count)
        if failure:
            files.write_json(_failure_path(prefix), dataclasses.asdict(failure))
    finally:
        locks.leave(handle)


@functools.lru_cache(maxsize=1)
def _read_stage(path, digest):
    content = files.read_bytes(path)
    if hashlib.sha256(content).hexdigest() != digest:
        raise errors.UserError(
            f"{path} is not the file that the builder wrote: let one build at "
            "a time work in this folder."
        )
    return pickle.loads(content)


def _count(report):
    """Shows in the runner's monitoring what a unit tells."""
    for name, number in zip(("bytes", "items"), report, strict=True):
        apache_beam.metrics.Metrics.counter(_METRICS, name).inc(number)


# ------------------------------------------------------------ units that failed


def _failure_path(prefix):
    return prefix + _FAILURE_SUFFIX


def _forget_failures(folder):
    # One listing: asking for each name takes long on object stores.
    with errors.naming(folder):
        for name in tf.io.gfile.listdir(folder):
            if name.endswith(_FAILURE_SUFFIX):
                tf.io.gfile.remove(f"{folder}/{name}")


def _read_failure(prefix, stage, i):
    path = _failure_path(prefix)
    with errors.naming(path):
        if tf.io.gfile.exists(path):
            return engine.Failure(**files.read_json(path))
    return engine.Failure(
        reason=f"{stage.name_of(i, prefix)}: the runner ended without "
        "having done it; see its log, and run the same command again"
    )
