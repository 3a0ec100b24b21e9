"""What all engines do: they run the units of a stage that are not finished."""

import abc
import concurrent.futures
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from bert_pretrain import errors, files, locks
from tfrecord_builders.engines import attempts, work_units

_NUM_FAILURES_SHOWN = 3
_NUM_READERS = 16


class Engine(abc.ABC):
    """Runs stages, one after another, in a `with` block."""

    def __init__(self, work_dir: str) -> None:
        """Takes the folder in which each stage has a folder of its own."""
        self.work_dir = work_dir

    def __enter__(self) -> "Engine":
        """Waits until no worker of an earlier run writes to the folder."""
        # A unit that a killed build began may still run for a moment.
        locks.wait_until_left(self.work_dir)
        return self

    @abc.abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, /, *exception: object
    ) -> None:
        """Ends the workers."""

    def run(self, stage: work_units.Stage[Any]) -> list[work_units.Summary]:
        """Runs the units of a stage that are not finished.

        Returns:
          The summaries of all units, in the order of the units.

        Raises:
          UserError: if units failed. All other units run before it is raised,
            and the message names the inputs of the units that failed.
          RuntimeError: the same, if a unit failed by a defect of this program.
        """
        prefixes = work_units.unit_prefixes(self.work_dir, stage)
        # Now, because workers write to the folder as soon as a unit runs.
        files.remove_temporary_files(f"{self.work_dir}/{stage.name}")
        todo = work_units.unfinished(prefixes)
        failures = self._run_units(stage, prefixes, todo) if todo else {}
        return _summaries(stage, prefixes, failures)

    @abc.abstractmethod
    def _run_units(
        self,
        stage: work_units.Stage[Any],
        prefixes: Sequence[str],
        todo: Sequence[int],
    ) -> dict[int, attempts.Failure | None]:
        """Runs some units.

        Args:
          prefixes: path prefixes of all units of the stage.
          todo: numbers of the units to run, at least one.

        Returns:
          For each unit that ran: why it failed, or None.
        """


def _summaries(
    stage: work_units.Stage[Any],
    prefixes: Sequence[str],
    failures: Mapping[int, attempts.Failure | None],
) -> list[work_units.Summary]:
    """Reads the summaries of all units of a stage that has run.

    Args:
      failures: for each unit that ran: why it failed, or None.

    Raises:
      UserError: if units failed; the message names their inputs.
      RuntimeError: the same, if a unit failed by a defect of this program.
    """
    failed = [
        failure
        for i in sorted(failures)
        if (failure := failures[i]) is not None
    ]
    if failed:
        _raise(stage, failed)
    # Requests to an object store mostly wait, so many run at a time.
    with concurrent.futures.ThreadPoolExecutor(_NUM_READERS) as threads:
        paths = [work_units.summary_path(prefix) for prefix in prefixes]
        return list(threads.map(files.read_json, paths))


def _raise(
    stage: work_units.Stage[Any], failed: Sequence[attempts.Failure]
) -> NoReturn:
    # Many units may fail for one reason, for example a full disk.
    reasons = list(
        dict.fromkeys(failure.reason.rstrip(".") for failure in failed)
    )
    message = "; ".join(reasons[:_NUM_FAILURES_SHOWN])
    if len(reasons) > _NUM_FAILURES_SHOWN:
        message += f"; and {len(reasons) - _NUM_FAILURES_SHOWN} more"
    message += "."
    if len(stage.units) > 1:
        message = (
            f"{len(failed)} of {len(stage.units)} units of {stage.name!r} "
            f"failed: {message}"
        )
    for failure in failed:
        if failure.traceback:
            raise RuntimeError(f"{message}\n\n{failure.traceback}")
    raise errors.UserError(message)
