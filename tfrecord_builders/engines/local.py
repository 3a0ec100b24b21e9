"""Running work units in processes of this machine, with a progress bar."""

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import queue
import signal
import threading
import time
from concurrent.futures import process

import tensorflow as tf
import tqdm

from bert_pretrain import files, locks
from tfrecord_builders.engines import engine

_POLL_SECONDS = 0.05


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
        locks.wait_until_left(self.work_dir)
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
        prefixes = engine.unit_prefixes(self.work_dir, stage)
        files.remove_temporary_files(f"{self.work_dir}/{stage.name}")
        todo = engine.unfinished(prefixes)
        started = time.monotonic()
        with _progress_bar(stage, len(todo), self._reports):
            if self._workers:
                failures = self._run_in_workers(stage, prefixes, todo)
            else:
                failures = {
                    i: engine.attempt(stage, i, prefixes[i], self._send.send)
                    for i in todo
                }
        self.seconds[stage.name] = time.monotonic() - started
        return engine.summaries(stage, prefixes, failures)

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


class _Worker:
    """A process that runs one unit at a time; when killed, it is replaced."""

    def __init__(self, context, arguments):
        self._context, self._arguments = context, arguments
        self._pool = self._pid = None
        self._is_killed = False

    def run(self, stage, prefix):
        """`attempt` of the stage's only unit, in the process."""
        has_started = True
        for _ in range(engine.NUM_ATTEMPTS):
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
            f"was killed {engine.NUM_ATTEMPTS} times, most often because "
            "memory ran out: run the same command again with a smaller "
            "num_workers"
            if has_started
            else f"ended {engine.NUM_ATTEMPTS} times before it began with it: "
            "mend what it printed above, and run the same command again"
        )
        return engine.Failure(
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
    locks.enter(work_dir)
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
    return engine.attempt(stage, 0, prefix, _send)


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
