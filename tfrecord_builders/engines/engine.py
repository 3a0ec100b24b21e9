"""Running work units: processes on this machine.

A stage is one function and a list of units. A unit reads its own inputs,
writes its own outputs, and returns a summary, which is written to
`<work_dir>/<stage>/<number>.json` when all else stands. From this follows
what a long build needs: a unit whose summary stands is not done again, a run
may be killed at any moment, and neither the number of workers nor the order
in which they finish changes a byte.

    attempt ×3 ── hiccup, defect ──▶ again
        │ └────── mistake of the user, last attempt ──▶ Failure
        ▼
    summary
"""

import concurrent.futures
import dataclasses
import os
import time
import traceback

import tensorflow as tf

from bert_pretrain import errors, files

_REPORT_SECONDS = 0.5
NUM_ATTEMPTS = 3
_WAIT_SECONDS = 2.0  # before the second attempt; twice that before the third
_NUM_FAILURES_TOLD = 3
_NUM_READERS = 16


@dataclasses.dataclass
class UnitProgress:
    """What a unit tells while it runs: text read, and documents or rows."""

    send: object
    place: str = ""  # what it is reading, where that is less than its input
    num_bytes: int = 0
    num_items: int = 0
    _last_sent: float = 0.0

    def add(self, num_bytes, num_items):
        self.num_bytes += num_bytes
        self.num_items += num_items
        now = time.monotonic()
        if now - self._last_sent > _REPORT_SECONDS:
            self.flush()
            self._last_sent = now

    def flush(self):
        if self.num_bytes or self.num_items:
            self.send((self.num_bytes, self.num_items))
            self.num_bytes = self.num_items = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """A function over units: `run(unit, outputs, progress) -> summary`.

    `outputs` is the path prefix that the unit's files must start with; a
    summary is a dict that JSON holds; `num_bytes` is the text of all units;
    `describe(unit)` names a unit's input, where its number does not tell.
    """

    name: str
    item: str  # what the progress bar counts: documents, rows
    run: object
    units: list
    num_bytes: int
    describe: object = None

    def name_of(self, i, prefix):
        """How who reads that unit `i` failed shall know it."""
        return self.describe(self.units[i]) if self.describe else prefix


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a unit could not be done; a traceback if that is our defect."""

    reason: str
    traceback: str = ""


def unit_prefixes(work_dir, stage):
    """What the names of each unit's files start with."""
    with errors.naming(work_dir):
        tf.io.gfile.makedirs(f"{work_dir}/{stage.name}")
    return [f"{work_dir}/{stage.name}/{i:05d}" for i in range(len(stage.units))]


def summary_path(prefix):
    return prefix + ".json"


def unfinished(prefixes):
    """The numbers of the units that left no summary yet."""
    # One listing: asking for each name takes long on object stores.
    folders = {os.path.dirname(prefix) for prefix in prefixes}
    found = set()
    for folder in folders:
        with errors.naming(folder):
            found.update(
                f"{folder}/{name}" for name in tf.io.gfile.listdir(folder)
            )
    return [
        i
        for i, prefix in enumerate(prefixes)
        if summary_path(prefix) not in found
    ]


def attempt(stage, i, prefix, send):
    """Runs a unit, again if it fails by what may pass.

    Returns:
      None, or a `Failure` that names the unit's input.
    """
    is_hiccup = False
    for number in range(NUM_ATTEMPTS):
        if is_hiccup:
            time.sleep(_WAIT_SECONDS * number)
        progress = UnitProgress(send)
        try:
            summary = stage.run(stage.units[i], prefix, progress)
            progress.flush()
            files.write_json(summary_path(prefix), summary)
            return None
        # All errors: the other units of a long build must not be lost to one.
        except Exception as error:
            failure = _failure(
                error, progress.place or stage.name_of(i, prefix)
            )
            is_hiccup = errors.is_transient(error)
            if isinstance(error, errors.UserError) and not is_hiccup:
                break
    return failure


def summaries(stage, prefixes, failures):
    """The summaries of all units, or the error that tells which ones failed.

    Args:
      failures: by the number of a unit, its `Failure` or None.
    """
    failed = [failures[i] for i in sorted(failures) if failures[i]]
    if not failed:
        # Many at a time, for those who wait for an object store.
        with concurrent.futures.ThreadPoolExecutor(_NUM_READERS) as threads:
            paths = [summary_path(prefix) for prefix in prefixes]
            return list(threads.map(files.read_json, paths))
    # A full disk, say, fails many units, with a name each.
    reasons = list(
        dict.fromkeys(failure.reason.rstrip(".") for failure in failed)
    )
    told = "; ".join(reasons[:_NUM_FAILURES_TOLD])
    if len(reasons) > _NUM_FAILURES_TOLD:
        told += f"; and {len(reasons) - _NUM_FAILURES_TOLD} more"
    told += "."
    if len(stage.units) > 1:
        told = (
            f"{len(failed)} of {len(stage.units)} units of {stage.name!r} "
            f"failed: {told}"
        )
    for failure in failed:
        if failure.traceback:
            raise RuntimeError(f"{told}\n\n{failure.traceback}")
    raise errors.UserError(told)


def _failure(error, name):
    reason, trace = str(error), ""
    if not isinstance(error, errors.UserError):
        trace = traceback.format_exc()
        reason = f"{type(error).__name__}: {reason}"
    if name not in reason:
        reason = f"{name}: {reason}"
    return Failure(reason=reason, traceback=trace)
