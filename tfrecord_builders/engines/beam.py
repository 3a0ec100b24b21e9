"""The engine that runs units by Apache Beam, on a cluster or this machine.

Each stage is one pipeline. Its elements are only the numbers of the units, so
that a pipeline is small for any number of units. Workers read the stage itself
from the work folder and write summaries and failures to the same folder.
Therefore a worker that cannot reach the folder can report it, and a later run
finds what an earlier run finished.
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
import sys
from collections.abc import Sequence
from typing import Any

import apache_beam
import tensorflow as tf
from apache_beam.options import pipeline_options

from bert_pretrain import errors, file_errors, files, locks
from tfrecord_builders.engines import attempts, engine, work_units

# These run on the machine of this process. FnApiRunner replaces DirectRunner,
# which would first search the network for a program that runs pipelines.
_LOCAL_RUNNERS = pipeline_options.StandardOptions.LOCAL_RUNNERS
_DIRECT_RUNNER = "FnApiRunner"
# The workers of these share no folder with this machine.
_REMOTE_RUNNERS = ("DataflowRunner",)
_METRICS = "build"
_FAILURE_SUFFIX = ".failed.json"
_USER_ERROR = re.compile(rf"{errors.UserError.__name__}: (.*)")


class BeamEngine(engine.Engine):
    """Runs stages as Beam pipelines."""

    def __init__(
        self, work_dir: str, flags: Sequence[str], inputs: Sequence[str] = ()
    ) -> None:
        """Checks as much as possible before anything runs.

        Args:
          flags: Beam's own flags, as given on the command line.
          inputs: paths that the units read.

        Raises:
          UserError: if Beam does not know a flag, or if the workers of its
            runner cannot reach a path.
        """
        super().__init__(work_dir)
        self._options = _parse(flags)
        self._runner = _runner(self._options)
        if self._runner in _REMOTE_RUNNERS:
            for path in (work_dir, *inputs):
                _refuse_local(path, self._runner)
        if self._runner in _LOCAL_RUNNERS:
            # Hides messages about channels. Failures arrive as exceptions.
            logging.getLogger("apache_beam").setLevel(logging.WARNING)
        _pipeline(self._options)

    def __exit__(self, *exception: object) -> None:
        """Does nothing, since no worker lives longer than its pipeline."""

    def _run_units(
        self,
        stage: work_units.Stage[Any],
        prefixes: Sequence[str],
        todo: Sequence[int],
    ) -> dict[int, attempts.Failure | None]:
        if len(todo) == 1:
            # A cluster would not be faster and takes minutes to start.
            (i,) = todo
            return {i: attempts.attempt(stage, i, prefixes[i], _ignore)}
        print(
            f"{stage.name}: {len(todo):,} of {len(prefixes):,} units, "
            f"by {self._runner} …",
            file=sys.stderr,
            flush=True,
        )
        _remove_failures(f"{self.work_dir}/{stage.name}")
        self._run_pipeline(stage, todo)
        return {
            i: _read_failure(prefixes[i], stage, i)
            for i in work_units.unfinished(prefixes)
        }

    def _run_pipeline(
        self, stage: work_units.Stage[Any], todo: Sequence[int]
    ) -> None:
        path = f"{self.work_dir}/{stage.name}/stage.pickle"
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
        # All errors: each runner has its own type, and the text of the
        # worker's error in its message.
        except Exception as error:
            if found := _USER_ERROR.search(str(error)):
                raise errors.UserError(found[1]) from error
            raise


def _ignore(report: work_units.Report) -> None:
    del report


def _pipeline(
    options: pipeline_options.PipelineOptions,
) -> apache_beam.Pipeline:
    try:
        return apache_beam.Pipeline(options=options)
    except (ImportError, ValueError) as error:
        # A missing option, or a runner that is unknown or not installed.
        raise errors.UserError(f"Beam says: {error}") from error


def _parse(flags: Sequence[str]) -> pipeline_options.PipelineOptions:
    """Parses Beam's flags.

    Raises:
      UserError: if a flag is unknown or has a wrong value.
    """
    parsers: list[argparse.ArgumentParser] = []
    # Gets the parser of all options. `PipelineOptions` only logs a warning
    # about unknown flags.
    pipeline_options.PipelineOptions([]).get_all_options(
        add_extra_args_fn=parsers.append
    )
    usage = io.StringIO()
    try:
        with contextlib.redirect_stderr(usage):
            _, unknown = parsers[0].parse_known_args(list(flags))
    except (SystemExit, argparse.ArgumentError) as error:
        line = usage.getvalue().strip().rpartition("\n")[2]
        raise errors.UserError(
            f"a flag for Beam: {line.partition('error: ')[2] or error}."
        ) from error
    options = pipeline_options.PipelineOptions(list(flags))
    runner = _runner(options)
    # Other runners, such as Flink's, may have options of their own that this
    # parser does not know.
    if unknown and runner in (*_LOCAL_RUNNERS, *_REMOTE_RUNNERS):
        raise errors.UserError(
            f"unknown flag {unknown[0].partition('=')[0]}: neither the "
            f"builder nor Beam's {runner} has it; --help lists the flags of "
            "the builder."
        )
    if runner in ("DirectRunner", "SwitchingDirectRunner"):
        options.view_as(
            pipeline_options.StandardOptions
        ).runner = _DIRECT_RUNNER
    return options


def _runner(options: pipeline_options.PipelineOptions) -> str:
    standard = options.view_as(pipeline_options.StandardOptions)
    return (standard.runner or standard.DEFAULT_RUNNER).rpartition(".")[2]


def _refuse_local(path: str, runner: str) -> None:
    if "://" not in path:
        raise errors.UserError(
            f"{path} is on this machine, and the workers of {runner} cannot "
            "read it; give a gs:// path."
        )


# ----------------------------------------------------------------- on a worker


def _run_unit(path: str, digest: str, i: int) -> None:
    """Runs unit `i` of the stage that is pickled in the file `path`."""
    stage_dir = path.rpartition("/")[0]
    # This check must come before `locks.enter`, which makes the folder.
    with file_errors.naming(path):
        if not tf.io.gfile.exists(path):
            raise errors.UserError(
                f"{path} does not exist on this worker: output_dir must be "
                "gs://, or a folder that all workers share."
            )
    stage = _read_stage(path, digest)
    work_dir = stage_dir.rpartition("/")[0]
    prefix = work_units.unit_prefixes(work_dir, stage)[i]
    summary_path = work_units.summary_path(prefix)
    handle = locks.enter(work_dir)
    try:
        # Runners repeat units, for example after another worker died.
        if tf.io.gfile.exists(summary_path):
            return
        failure = attempts.attempt(stage, i, prefix, _count)
        if failure:
            files.write_json(_failure_path(prefix), dataclasses.asdict(failure))
    finally:
        locks.leave(handle)


@functools.lru_cache(maxsize=1)
def _read_stage(path: str, digest: str) -> work_units.Stage[Any]:
    content = files.read_bytes(path)
    if hashlib.sha256(content).hexdigest() != digest:
        raise errors.UserError(
            f"{path} is not the file that this build wrote: run only one "
            "build at a time in this folder."
        )
    return pickle.loads(content)


def _count(report: work_units.Report) -> None:
    """Adds a report to the counters in the runner's monitoring."""
    for name, number in zip(("bytes", "items"), report, strict=True):
        apache_beam.metrics.Metrics.counter(_METRICS, name).inc(number)


# ------------------------------------------------------------ units that failed


def _failure_path(prefix: str) -> str:
    return prefix + _FAILURE_SUFFIX


def _remove_failures(folder: str) -> None:
    # One listing: a request for each file takes long on object stores.
    for name in files.list_names(folder):
        if name.endswith(_FAILURE_SUFFIX):
            files.remove(f"{folder}/{name}")


def _read_failure(
    prefix: str, stage: work_units.Stage[Any], i: int
) -> attempts.Failure:
    path = _failure_path(prefix)
    with file_errors.naming(path):
        if tf.io.gfile.exists(path):
            return attempts.Failure(**files.read_json(path))
    return attempts.Failure(
        reason=f"{stage.name_of(i, prefix)}: the runner ended without a "
        "result for it; see the log of the runner, and run the same command "
        "again"
    )
