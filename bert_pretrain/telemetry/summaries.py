"""TensorBoard's files of a run, which may be interrupted and go on."""

import time
from collections.abc import Mapping

import tensorflow as tf
from tensorboard.compat.proto import event_pb2
from tensorboard.summary.writer import event_file_writer

from bert_pretrain import file_errors, files, flush_timer

# TensorFlow's writer flushes by itself after so many values, and after so many
# milliseconds; it must not, see flush_timer.py.
_NEVER = 2**31 - 1


class Summaries:
    """Writes scalars into the files of one folder."""

    def __init__(self, folder: str, step: tf.Variable) -> None:
        """Prepares it; the file is begun when there is a value.

        Args:
          folder: to write to.
          step: of the run, at which values are written.
        """
        self._folder = folder
        self._step = step
        self._timer = flush_timer.FlushTimer(folder)
        self._writer: tf.summary.SummaryWriter | None = None

    def write(self, values: Mapping[str, float]) -> None:
        """Writes values at the present step."""
        with file_errors.naming(self._folder):
            if self._writer is None:
                self._writer = tf.summary.create_file_writer(
                    self._folder, max_queue=_NEVER, flush_millis=_NEVER
                )
            with self._writer.as_default():
                for name, value in values.items():
                    tf.summary.scalar(name, value, step=self._step)
        if self._timer.is_due():
            self.flush()

    def flush(self) -> None:
        """Writes out what is not in the file yet."""
        if self._writer is not None:
            with file_errors.naming(self._folder):
                self._writer.flush()


def forget_from(folder: str, step: int) -> None:
    """Makes TensorBoard forget what is in a folder from a step on.

    A process that was killed may have written steps that its checkpoint does
    not have; the next process does them again. Call it before the files of
    the next process are begun, because TensorBoard reads files in the order of
    their names, which begin with a time.
    """
    if not files.list_names(folder):
        return
    with file_errors.naming(folder):
        start = event_pb2.Event(
            wall_time=time.time(),
            step=step,
            session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START),
        )
        writer = event_file_writer.EventFileWriter(folder)
        # TensorBoard takes the first start in a folder for the run's own.
        writer.add_event(start)
        writer.add_event(start)
        writer.close()
