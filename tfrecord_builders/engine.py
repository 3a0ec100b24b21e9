"""Running work units: processes on this machine.

A stage is one function and a list of units. A unit reads its own inputs,
writes its own outputs, and returns a summary, which the engine writes to
`<work_dir>/<stage>/<number>.json` when all else stands. From this follows
what a long build needs: a unit whose summary stands is not done again, a run
may be killed at any moment, and neither the number of workers nor the order
in which they finish changes a byte.
"""

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import queue
import threading
import time

import tensorflow as tf
import tqdm

from bert_pretrain import errors, files

_REPORT_SECONDS = 0.5
_POLL_SECONDS = 0.05


@dataclasses.dataclass
class Progress:
    """What a unit tells while it runs: text read, and documents or rows."""

    send: object
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
    summary is a dict that JSON holds; `num_bytes` is the text of all units.
    """

    name: str
    item: str  # what the progress bar counts: documents, rows
    run: object
    units: list
    num_bytes: int


class LocalEngine:
    """Runs stages in worker processes of this machine.

    With one worker the units run in this process: TensorFlow is not loaded a
    second time.
    """

    def __init__(self, work_dir, num_workers):
        self._work_dir = work_dir
        self._num_workers = num_workers
        self._stack = contextlib.ExitStack()
        self._reports = None
        self._pool = None
        self.seconds = {}  # by stage

    def __enter__(self):
        if self._num_workers > 1:
            # A forked copy of a process that runs TensorFlow's threads hangs.
            context = multiprocessing.get_context("spawn")
            self._reports = context.Queue()
            self._pool = self._stack.enter_context(
                concurrent.futures.ProcessPoolExecutor(
                    self._num_workers,
                    context,
                    _start_worker,
                    (self._reports, os.getpid()),
                )
            )
        else:
            self._reports = queue.SimpleQueue()
        return self

    def __exit__(self, *exception):
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
        return self._stack.__exit__(*exception)

    def run(self, stage):
        """Runs the units of a stage that are not done yet.

        Returns:
          The summaries of all units, in the units' order.

        Raises:
          UserError: naming the failed units' errors, after all others ran.
        """
        prefixes = [
            f"{self._work_dir}/{stage.name}/{i:05d}"
            for i in range(len(stage.units))
        ]
        with errors.naming(self._work_dir):
            tf.io.gfile.makedirs(f"{self._work_dir}/{stage.name}")
        todo = [
            i
            for i, prefix in enumerate(prefixes)
            if not tf.io.gfile.exists(_summary_path(prefix))
        ]
        failures, started = [], time.monotonic()
        with _progress_bar(stage, len(todo), self._reports):
            for i, outcome in self._outcomes(stage, prefixes, todo):
                try:
                    outcome()
                except errors.UserError as error:
                    failures.append((i, error))
        self.seconds[stage.name] = time.monotonic() - started
        if failures:
            raise errors.UserError(_describe(failures, stage))
        return [files.read_json(_summary_path(prefix)) for prefix in prefixes]

    def _outcomes(self, stage, prefixes, todo):
        if self._pool is None:
            for i in todo:
                yield (
                    i,
                    lambda i=i: _run_unit(
                        stage.run,
                        stage.units[i],
                        prefixes[i],
                        self._reports.put,
                    ),
                )
            return
        futures = {
            self._pool.submit(
                _run_in_worker, stage.run, stage.units[i], prefixes[i]
            ): i
            for i in todo
        }
        for future in concurrent.futures.as_completed(futures):
            yield futures[future], lambda f=future: _result(f)


def num_cores():
    """The cores that this process may use."""
    return (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1
    )


def _summary_path(prefix):
    return prefix + ".json"


def _run_unit(run, unit, prefix, send):
    progress = Progress(send)
    summary = run(unit, prefix, progress)
    progress.flush()
    files.write_json(_summary_path(prefix), summary)


def _result(future):
    try:
        return future.result()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise errors.UserError(
            "a worker process ended abruptly, most often because the machine "
            "ran out of memory: run the same command again, with fewer "
            "workers; finished units are kept."
        ) from error


def _describe(failures, stage):
    failures.sort(key=lambda failure: failure[0])
    # One broken pool fails every unit that was waiting, for one reason.
    reasons = list(dict.fromkeys(str(error) for _, error in failures))
    if len(reasons) == 1:
        return reasons[0]
    return (
        f"{len(failures)} of {len(stage.units)} units of {stage.name!r} "
        f"failed: {'; '.join(reasons)}"
    )


# ------------------------------------------------------- in a worker process

_send = None


def _start_worker(reports, parent_pid):
    global _send
    _send = reports.put
    # Parallelism is over units: one worker, one core.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    threading.Thread(target=_end_with, args=(parent_pid,), daemon=True).start()


def _end_with(parent_pid):
    """Ends this worker when its parent is gone, even by SIGKILL."""
    while os.getppid() == parent_pid:
        time.sleep(1)
    os._exit(1)


def _run_in_worker(run, unit, prefix):
    _run_unit(run, unit, prefix, _send)


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
                try:
                    num_bytes, num_items = reports.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    if done.is_set():
                        return
                    continue
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
