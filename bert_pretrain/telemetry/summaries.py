"""TensorBoard's files of a run that was interrupted and goes on."""

import time

import tensorflow as tf
from tensorboard.compat.proto import event_pb2
from tensorboard.summary.writer import event_file_writer

from bert_pretrain import file_errors


def forget_from(folder: str, step: int) -> None:
    """Makes TensorBoard forget what is in a folder from a step on.

    A process that was killed may have written steps that its checkpoint does
    not have; the next process does them again. Call it before the files of
    the next process are begun, because TensorBoard reads files in the order of
    their names, which begin with a time.
    """
    with file_errors.naming(folder):
        if not tf.io.gfile.exists(folder) or not tf.io.gfile.listdir(folder):
            return
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
