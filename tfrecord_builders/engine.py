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
import contextlib
import dataclasses
import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from concurrent.futures import process

import tensorflow as tf
import tqdm

from bert_pretrain import errors, files

_REPORT_SECONDS = 0.5
_POLL_SECONDS = 0.05
_NUM_ATTEMPTS = 3
_WAIT_SECONDS = 2.0  # before the second attempt; twice that before the third
_NUM_FAILURES_TOLD = 3
_NUM_READERS = 16


@dataclasses.dataclass
class Progress:
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


class LocalEngine:
    """Runs stages in worker processes of this machine.

    With one worker the units run in this process: TensorFlow is not loaded a
    second time. Otherwise a thread for each worker hands it a unit at a time,
    so that it is known which unit a worker was at when it was killed, and the
    other workers go on.
    """

    def __init__(self, work_dir, num_workers):
        self.work_dir = work_dir
        self._num_workers = num_workers
        self._workers = []
        self.seconds = {}  # by stage

    def __enter__(self):
        # Workers of a run that was killed may need a moment to notice.
        files.wait_until_left(self.work_dir)
        # A forked copy of a process that runs TensorFlow's threads hangs.
        context = multiprocessing.get_context("spawn")
        # Messages are shorter than what a pipe takes at once, so that it needs
        # no lock, which a killed worker would leave locked.
        self._reports, self._send = context.Pipe(duplex=False)
        if self._num_workers > 1:
            self._workers = [
                _Worker(context, (self.work_dir, self._send))
                for _ in range(self._num_workers)
            ]
            # The last one that was used comes first: it has been started.
            self._idle = queue.LifoQueue()
            for worker in self._workers:
                self._idle.put(worker)
            self._threads = concurrent.futures.ThreadPoolExecutor(
                self._num_workers
            )
        return self

    def __exit__(self, kind, *exception):
        if self._workers:
            if kind is not None:
                for worker in self._workers:
                    worker.kill()
            self._threads.shutdown(cancel_futures=True)
            for worker in self._workers:
                worker.close()
        self._send.close()
        self._reports.close()

    def run(self, stage):
        """Runs the units of a stage that are not done yet.

        Returns:
          The summaries of all units, in the units' order.

        Raises:
          UserError: naming the failed units' inputs, after all others ran.
          RuntimeError: likewise, if one failed by a defect of this program.
        """
        prefixes = unit_prefixes(self.work_dir, stage)
        files.remove_asides(f"{self.work_dir}/{stage.name}")
        todo = unfinished(prefixes)
        started = time.monotonic()
        with _progress_bar(stage, len(todo), self._reports):
            if self._workers:
                failures = self._run_in_workers(stage, prefixes, todo)
            else:
                failures = {
                    i: attempt(stage, i, prefixes[i], self._send.send)
                    for i in todo
                }
        self.seconds[stage.name] = time.monotonic() - started
        return summaries(stage, prefixes, failures)

    def _run_in_workers(self, stage, prefixes, todo):
        futures = {
            self._threads.submit(self._run_in_worker, stage, i, prefixes[i]): i
            for i in todo
        }
        return {
            futures[future]: future.result()
            for future in concurrent.futures.as_completed(futures)
        }

    def _run_in_worker(self, stage, i, prefix):
        # Of the units only this one: a long list would be sent each time.
        unit = dataclasses.replace(stage, units=[stage.units[i]])
        worker = self._idle.get()
        try:
            return worker.run(unit, prefix)
        finally:
            self._idle.put(worker)


def num_cores():
    """The cores that this process may use."""
    return (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1
    )


# ---------------------------------------------------- what all engines share


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
    for number in range(_NUM_ATTEMPTS):
        if is_hiccup:
            time.sleep(_WAIT_SECONDS * number)
        progress = Progress(send)
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


# ---------------------------------------------------------- worker processes


class _Worker:
    """A process that runs one unit at a time; when killed, it is replaced."""

    def __init__(self, context, arguments):
        self._context, self._arguments = context, arguments
        self._pool = self._pid = None
        self._is_killed = False

    def run(self, stage, prefix):
        """`attempt` of the stage's only unit, in the process."""
        has_started = True
        for _ in range(_NUM_ATTEMPTS):
            if self._is_killed:
                break
            try:
                self._start()
                return self._pool.submit(
                    _attempt_in_worker, stage, prefix
                ).result()
            except process.BrokenProcessPool:
                has_started = self._pid is not None
                self.close()
        what = (
            f"was killed {_NUM_ATTEMPTS} times, most often because memory ran "
            "out: run the same command again with a smaller num_workers"
            if has_started
            else f"ended {_NUM_ATTEMPTS} times before it began with it: mend "
            "what it printed above, and run the same command again"
        )
        return Failure(
            reason=f"{stage.name_of(0, prefix)}: its worker process {what}; "
            "finished units are kept"
        )

    def _start(self):
        if self._pool is None:
            self._pool = concurrent.futures.ProcessPoolExecutor(
                1, self._context, _start_worker, self._arguments
            )
            self._pid = self._pool.submit(os.getpid).result()
            if self._is_killed:  # While it started, and was not known yet.
                self.kill()

    def kill(self):
        self._is_killed = True
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def close(self):
        if self._pool:
            self._pool.shutdown()
        self._pool = self._pid = None


_send = None


def _start_worker(work_dir, send):
    global _send
    _send = send.send
    # The parent hears of Ctrl-C too, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    files.enter(work_dir)
    # Only now: whoever found the folder left before finds no work done later.
    if not parent.is_alive():
        os._exit(1)
    # Parallelism is over units: one worker, one core.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _end_with(parent):
    """Ends this worker when its parent is gone, even by SIGKILL."""
    parent.join()
    os._exit(1)


def _attempt_in_worker(stage, prefix):
    return attempt(stage, 0, prefix, _send)


# --------------------------------------------------------- the progress bar


@contextlib.contextmanager
def _progress_bar(stage, num_todo, reports):
    if not num_todo:
        yield
        return
    share = num_todo / len(stage.units)  # units differ little in size
    with tqdm.tqdm(
        total=int(stage.num_bytes * share),
        desc=stage.name,
        unit="B",
        unit_scale=True,
    ) as bar:
        count = 0
        done = threading.Event()

        def drain():
            nonlocal count
            while True:
                if not reports.poll(_POLL_SECONDS):
                    if done.is_set():
                        return
                    continue
                num_bytes, num_items = reports.recv()
                count += num_items
                bar.set_postfix_str(f"{count:,} {stage.item}", refresh=False)
                bar.update(num_bytes)

        thread = threading.Thread(target=drain, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        # What units tell is near their size, not equal to it.
        bar.update(max(0, bar.total - bar.n))
