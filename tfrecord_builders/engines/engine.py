"""Stages, their work units, and what every engine does with a unit.

A stage is one function and a list of units. A unit reads its own inputs,
writes its own output files, and returns a summary. The summary is written
last, to `<work_dir>/<stage>/<number>.json`. Therefore a unit that has a
summary is finished and does not run again, a build can be killed at any moment
and continued, and the output does not depend on the number of workers or on
the order in which they finish.

    attempt ── temporary error, defect ──▶ another attempt
        │ └─── mistake of the user, last attempt ──▶ Failure
        ▼
    summary
"""

import concurrent.futures
import dataclasses
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NoReturn, Protocol, TypeVar

import tensorflow as tf

from bert_pretrain import errors, file_errors, files

NUM_ATTEMPTS = 3
_REPORT_SECONDS = 0.5
_WAIT_SECONDS = 2.0  # before the second attempt; twice that before the third
_NUM_FAILURES_SHOWN = 3
_NUM_READERS = 16

Unit = TypeVar("Unit")
Summary = dict[str, Any]  # plain values that JSON can hold
Report = tuple[int, int]  # bytes of text and items since the last report


@dataclasses.dataclass
class UnitProgress:
    """The progress of a running unit.

    Attributes:
      send: gets a report from time to time.
      place: the file that the unit reads now, for error messages.
      num_bytes: text that was read since the last report.
      num_items: documents or rows that were done since the last report.
    """

    send: Callable[[Report], None]
    place: str = ""
    num_bytes: int = 0
    num_items: int = 0
    _last_sent: float = 0.0

    def add(self, num_bytes: int, num_items: int) -> None:
        """Counts work, and sends a report if the last one is old."""
        self.num_bytes += num_bytes
        self.num_items += num_items
        now = time.monotonic()
        if now - self._last_sent > _REPORT_SECONDS:
            self.flush()
            self._last_sent = now

    def flush(self) -> None:
        """Sends what was counted since the last report."""
        if self.num_bytes or self.num_items:
            self.send((self.num_bytes, self.num_items))
            self.num_bytes = self.num_items = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage(Generic[Unit]):
    """A function and the units to run it on.

    Attributes:
      name: also the name of the stage's folder.
      item: what the progress bar counts, such as "documents".
      run: called as `run(unit, prefix, progress)`. The path of each file that
        it writes must begin with `prefix`.
      num_bytes: text of all units, for the progress bar.
      describe: names the input of a unit in error messages. None: its path
        prefix is used.
    """

    name: str
    item: str
    run: Callable[[Unit, str, UnitProgress], Summary]
    units: Sequence[Unit]
    num_bytes: int
    describe: Callable[[Unit], str] | None = None

    def name_of(self, i: int, prefix: str) -> str:
        """Name of unit `i` in error messages."""
        return self.describe(self.units[i]) if self.describe else prefix


class Engine(Protocol):
    """Runs stages, one after another, in a `with` block."""

    def __enter__(self) -> "Engine":
        """Waits until no worker of an earlier run writes to the folder."""

    def __exit__(
        self, kind: type[BaseException] | None, /, *exception: object
    ) -> None:
        """Ends the workers."""

    def run(self, stage: Stage[Any]) -> list[Summary]:
        """Runs the units of a stage that are not finished.

        Returns:
          The summaries of all units, in the order of the units.

        Raises:
          UserError: if units failed. All other units run before it is raised,
            and the message names the inputs of the units that failed.
          RuntimeError: the same, if a unit failed by a defect of this program.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a unit failed.

    Attributes:
      traceback: empty unless the cause is a defect of this program.
    """

    reason: str
    traceback: str = ""


def unit_prefixes(work_dir: str, stage: Stage[Any]) -> list[str]:
    """Path prefixes of the units' files; makes the folder of the stage."""
    with file_errors.naming(work_dir):
        tf.io.gfile.makedirs(f"{work_dir}/{stage.name}")
    return [f"{work_dir}/{stage.name}/{i:05d}" for i in range(len(stage.units))]


def summary_path(prefix: str) -> str:
    """Path of the summary of the unit with this path prefix."""
    return prefix + ".json"


def unfinished(prefixes: Sequence[str]) -> list[int]:
    """Numbers of the units that have no summary yet."""
    # One listing: a request for each file takes long on object stores.
    folders = {os.path.dirname(prefix) for prefix in prefixes}
    found: set[str] = set()
    for folder in folders:
        with file_errors.naming(folder):
            found.update(
                f"{folder}/{name}" for name in tf.io.gfile.listdir(folder)
            )
    return [
        i
        for i, prefix in enumerate(prefixes)
        if summary_path(prefix) not in found
    ]


def attempt(
    stage: Stage[Any], i: int, prefix: str, send: Callable[[Report], None]
) -> Failure | None:
    """Runs unit `i`, and again if another attempt may succeed.

    Returns:
      None if the unit is finished; its summary is written then.
    """
    failure = None
    is_temporary = False
    for number in range(NUM_ATTEMPTS):
        if is_temporary:
            time.sleep(_WAIT_SECONDS * number)
        progress = UnitProgress(send)
        try:
            summary = stage.run(stage.units[i], prefix, progress)
            progress.flush()
            files.write_json(summary_path(prefix), summary)
            return None
        # All errors: one failed unit must not stop the others of a long build.
        except Exception as error:
            failure = _failure(
                error, progress.place or stage.name_of(i, prefix)
            )
            is_temporary = file_errors.is_transient(error)
            if isinstance(error, errors.UserError) and not is_temporary:
                break
    return failure


def summaries(
    stage: Stage[Any],
    prefixes: Sequence[str],
    failures: Mapping[int, Failure | None],
) -> list[Summary]:
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
        paths = [summary_path(prefix) for prefix in prefixes]
        return list(threads.map(files.read_json, paths))


def _failure(error: Exception, name: str) -> Failure:
    reason, trace = str(error), ""
    if not isinstance(error, errors.UserError):
        trace = traceback.format_exc()
        reason = f"{type(error).__name__}: {reason}"
    if name not in reason:
        reason = f"{name}: {reason}"
    return Failure(reason=reason, traceback=trace)


def _raise(stage: Stage[Any], failed: Sequence[Failure]) -> NoReturn:
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
