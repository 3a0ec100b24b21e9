"""The engine that runs units in processes of this machine."""

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import process
from multiprocessing import connection, context
from typing import Any

import tensorflow as tf
import tqdm

from bert_pretrain import locks
from tfrecord_builders.engines import attempts, engine, work_units

_POLL_SECONDS = 0.05


class LocalEngine(engine.Engine):
    """Runs stages in worker processes, and shows a progress bar.

    With one worker the units run in this process, so that TensorFlow is not
    loaded a second time. With several workers, each one gets its units from a
    thread of its own, one at a time. If a worker is killed, its unit is known
    and the other workers continue.
    """

    def __init__(self, work_dir: str, num_workers: int) -> None:
        super().__init__(work_dir)
        self._num_workers = num_workers
        self._workers: list[_Worker] = []

    def __enter__(self) -> "LocalEngine":
        super().__enter__()
        # Not "fork": a forked copy of a process in which TensorFlow runs
        # threads hangs.
        spawn = multiprocessing.get_context("spawn")
        # A report is so short that the pipe takes it in one piece. So there is
        # no lock, which a killed worker would never release.
        self._reports, self._send = spawn.Pipe(duplex=False)
        if self._num_workers > 1:
            self._workers = [
                _Worker(spawn, (self.work_dir, self._send))
                for _ in range(self._num_workers)
            ]
            # A stack: the worker that was used last has already started.
            self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
            for worker in self._workers:
                self._idle.put(worker)
            self._threads = concurrent.futures.ThreadPoolExecutor(
                self._num_workers
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, *exception: object
    ) -> None:
        if self._workers:
            if kind is not None:
                for worker in self._workers:
                    worker.kill()
            self._threads.shutdown(cancel_futures=True)
            for worker in self._workers:
                worker.close()
        self._send.close()
        self._reports.close()

    def _run_units(
        self,
        stage: work_units.Stage[Any],
        prefixes: Sequence[str],
        todo: Sequence[int],
    ) -> dict[int, attempts.Failure | None]:
        with _progress_bar(stage, len(todo), self._reports):
            if self._workers:
                return self._run_in_workers(stage, prefixes, todo)
            return {
                i: attempts.attempt(stage, i, prefixes[i], self._send.send)
                for i in todo
            }

    def _run_in_workers(
        self,
        stage: work_units.Stage[Any],
        prefixes: Sequence[str],
        todo: Sequence[int],
    ) -> dict[int, attempts.Failure | None]:
        futures = {
            self._threads.submit(self._run_in_worker, stage, i, prefixes[i]): i
            for i in todo
        }
        return {
            futures[future]: future.result()
            for future in concurrent.futures.as_completed(futures)
        }

    def _run_in_worker(
        self, stage: work_units.Stage[Any], i: int, prefix: str
    ) -> attempts.Failure | None:
        # Only this unit: a long list would be sent to the worker each time.
        stage = dataclasses.replace(stage, units=[stage.units[i]])
        worker = self._idle.get()
        try:
            return worker.run(stage, prefix)
        finally:
            self._idle.put(worker)


def num_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Worker:
    """A process that runs one unit at a time; it is replaced if it dies."""

    def __init__(
        self,
        spawn: context.SpawnContext,
        arguments: tuple[str, connection.Connection],
    ) -> None:
        self._spawn, self._arguments = spawn, arguments
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None
        self._pid: int | None = None
        self._is_killed = False

    def run(
        self, stage: work_units.Stage[Any], prefix: str
    ) -> attempts.Failure | None:
        """Calls `attempts.attempt` in the process for the stage's only unit."""
        has_started = True
        for _ in range(attempts.NUM_ATTEMPTS):
            if self._is_killed:
                break
            try:
                pool = self._start()
                return pool.submit(_attempt_in_worker, stage, prefix).result()
            except process.BrokenProcessPool:
                has_started = self._pid is not None
                self.close()
        reason = (
            f"was killed {attempts.NUM_ATTEMPTS} times, most often because "
            "memory ran out: run the same command again with a smaller "
            "num_workers"
            if has_started
            else f"ended {attempts.NUM_ATTEMPTS} times before it began to "
            "work: correct the cause, which it printed above, and run the same "
            "command again"
        )
        return attempts.Failure(
            reason=f"{stage.name_of(0, prefix)}: its worker process {reason}; "
            "finished units are kept"
        )

    def _start(self) -> concurrent.futures.ProcessPoolExecutor:
        if self._pool is None:
            self._pool = concurrent.futures.ProcessPoolExecutor(
                1, self._spawn, _start_worker, self._arguments
            )
            self._pid = self._pool.submit(os.getpid).result()
            # `kill` may have been called before the process id was known.
            if self._is_killed:
                self.kill()
        return self._pool

    def kill(self) -> None:
        """Kills the process and starts no other."""
        self._is_killed = True
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def close(self) -> None:
        """Waits for the end of the process."""
        if self._pool:
            self._pool.shutdown()
        self._pool = self._pid = None


# In a worker process: sends a report to the parent.
_send: Callable[[work_units.Report], None]


def _start_worker(work_dir: str, reports: connection.Connection) -> None:
    global _send
    _send = reports.send
    # Ctrl-C reaches the parent too, which ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    locks.enter(work_dir)
    # This check must come after `enter`: a later build that found the folder
    # free must not meet work of this process.
    if not parent.is_alive():
        os._exit(1)
    # Each worker uses one core; the units run in parallel.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    """Ends this worker when its parent ends, even by SIGKILL."""
    parent.join()
    os._exit(1)


def _attempt_in_worker(
    stage: work_units.Stage[Any], prefix: str
) -> attempts.Failure | None:
    return attempts.attempt(stage, 0, prefix, _send)


@contextlib.contextmanager
def _progress_bar(
    stage: work_units.Stage[Any], num_todo: int, reports: connection.Connection
) -> Iterator[None]:
    # Units have about the same size.
    num_bytes_todo = int(stage.num_bytes * num_todo / len(stage.units))
    with tqdm.tqdm(
        total=num_bytes_todo, desc=stage.name, unit="B", unit_scale=True
    ) as bar:
        num_items_done = 0
        is_done = threading.Event()

        def show_reports() -> None:
            nonlocal num_items_done
            while True:
                if not reports.poll(_POLL_SECONDS):
                    if is_done.is_set():
                        return
                    continue
                num_bytes, num_items = reports.recv()
                num_items_done += num_items
                bar.set_postfix_str(
                    f"{num_items_done:,} {stage.item}", refresh=False
                )
                bar.update(num_bytes)

        thread = threading.Thread(target=show_reports, daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_done.set()
            thread.join()
        # The sizes in the reports are approximate.
        bar.update(max(0, num_bytes_todo - bar.n))
