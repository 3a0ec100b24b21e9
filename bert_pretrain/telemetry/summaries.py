"""TensorBoard's files of a run, which may be interrupted and go on.

Such a file is a TFRecord of events. TensorFlow's own writer would write the
file out after each value; on an object store this uploads the whole file.
"""

import itertools
import os
import socket
import time
from collections.abc import Mapping

import tensorflow as tf
from tensorboard.compat.proto import event_pb2
from tensorboard.plugins.scalar import summary_v2

from bert_pretrain import file_errors, files, flush_timer

_NUMBERS = itertools.count()  # of the files of this process


class Summaries:
    """Writes scalars into a file of one folder."""

    def __init__(self, folder: str, step: tf.Variable) -> None:
        """Prepares it; the file is begun when there is a value.

        Args:
          folder: to write to.
          step: of the run, at which values are written.
        """
        self._folder = folder
        self._step = step
        self._timer = flush_timer.FlushTimer(folder)
        self._writer: tf.io.TFRecordWriter | None = None
        self._is_flushed = True

    def write(self, values: Mapping[str, float]) -> None:
        """Writes values at the present step."""
        event = event_pb2.Event(
            wall_time=time.time(), step=int(self._step.numpy())
        )
        for name, value in values.items():
            event.summary.MergeFrom(summary_v2.scalar_pb(name, value))
        with file_errors.naming(self._folder):
            self._writer = self._writer or _begin(self._folder)
            self._writer.write(event.SerializeToString())
        self._is_flushed = False
        if self._timer.is_due():
            self.flush()

    def flush(self) -> None:
        """Writes out what is not in the file yet."""
        if self._writer is not None and not self._is_flushed:
            with file_errors.naming(self._folder):
                self._writer.flush()
            self._is_flushed = True


def forget_from(folder: str, step: int) -> None:
    """Makes TensorBoard forget what is in a folder from a step on.

    A process that was killed may have written steps that its checkpoint does
    not have; the next process does them again. Call it before the files of
    the next process are begun, because TensorBoard reads files in the order of
    their names, which begin with a time.
    """
    if not files.list_names(folder):
        return
    start = event_pb2.Event(
        wall_time=time.time(),
        step=step,
        session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START),
    )
    with file_errors.naming(folder), _begin(folder) as writer:
        # TensorBoard takes the first start in a folder for the run's own.
        writer.write(start.SerializeToString())
        writer.write(start.SerializeToString())


def _begin(folder: str) -> tf.io.TFRecordWriter:
    """Begins a file under a name that TensorBoard looks for."""
    files.make_directory(folder)
    now = time.time()
    name = (
        f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}."
        f"{os.getpid()}.{next(_NUMBERS):04d}"
    )
    writer = tf.io.TFRecordWriter(f"{folder}/{name}")
    version = event_pb2.Event(wall_time=now, file_version="brain.Event:2")
    writer.write(version.SerializeToString())
    return writer
