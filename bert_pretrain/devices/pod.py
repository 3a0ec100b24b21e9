"""The workers of a pod: connects to them, and notices when one is lost.

One process, the coordinator, runs the training. Variables, input pipelines and
programs are on the workers, one for each host (worker.py). TensorFlow does not
continue when a worker is lost, nor does it always say so: a machine that hangs
lets the coordinator wait forever.
"""

import contextlib
import os
import re
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import tensorflow as tf

from bert_pretrain import errors, files, interruption
from bert_pretrain.devices import supervision, worker_status

# A machine that comes back needs minutes to start its worker.
WAIT_SECONDS = 300
_JOB = "worker"
# What TensorFlow raises when a worker is gone, or was started again and has
# forgotten the run.
_OF_A_LOSS = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.InvalidArgumentError,
    tf.errors.UnavailableError,
    tf.errors.UnknownError,
)
_OF_A_CONNECTION = re.compile(
    r"GRPC|grpc|Socket closed|[Cc]onnection re(?:set|fused)|context_id|"
    r"failed to connect|remote target"
)

# The workers of this process and their first answers, in the order of their
# tasks. TensorFlow has one cluster in a process, too.
_connected: dict[str, bytes | None] = {}


def connect(resolver: Any, wait_seconds: float = WAIT_SECONDS) -> None:
    """Connects this process to the workers that a cluster resolver names.

    Raises:
      Interrupted: if a worker does not answer.
    """
    addresses = resolver.cluster_spec().as_dict().get(_JOB, [])
    deadline = time.monotonic() + wait_seconds
    for address in addresses:
        _wait_for(address, deadline, wait_seconds)
    tf.config.experimental_connect_to_cluster(resolver)
    _connected.clear()
    _connected.update(worker_status.ask(addresses, wait_seconds))


def _wait_for(address: str, deadline: float, wait_seconds: float) -> None:
    """Waits until a worker accepts connections."""
    host, _, port = address.rpartition(":")
    is_told = False
    while True:
        try:
            with socket.create_connection((host.strip("[]"), int(port)), 5):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise interruption.Interrupted(
                    interruption.RESTART,
                    f"no worker answers at {address} "
                    f"({error.strerror or error}) after {wait_seconds:.0f} "
                    "seconds; start one there, python -m bert_pretrain.worker",
                ) from error
        if not is_told:
            errors.warn(f"waiting for the worker at {address}.")
            is_told = True
        time.sleep(1)


def check_files(
    strategy: tf.distribute.Strategy,
    data_dirs: Sequence[str],
    model_dir: str,
) -> None:
    """Checks that every worker sees the files of a run.

    Workers read the datasets and write the checkpoints.

    Args:
      data_dirs: each has a manifest.

    Raises:
      UserError: if a worker does not see a file as the coordinator does.
    """
    workers = _input_workers(strategy)
    if not workers:
        return
    for data_dir in dict.fromkeys(data_dirs):
        _check_seen(workers, data_dir, f"{data_dir}/manifest.json")
    path = f"{model_dir}/seen_by_workers"
    files.write_bytes(path, os.urandom(16))
    try:
        _check_seen(workers, model_dir, path)
    finally:
        files.remove(path)


def _check_seen(workers: Sequence[str], folder: str, path: str) -> None:
    ours = files.read_bytes(path)
    for device in workers:
        with tf.device(device):
            try:
                is_same = tf.io.read_file(path).numpy() == ours
            except (tf.errors.OpError, UnicodeDecodeError):
                is_same = False
        if not is_same:
            raise errors.UserError(
                f"{folder}: the worker at {_address(device)} does not see the "
                "files that the coordinator sees there; use gs://, or a file "
                "system that all hosts of the pod share."
            )


def _input_workers(strategy: tf.distribute.Strategy) -> list[str]:
    """The host devices of other processes that feed the replicas."""
    extended: Any = strategy.extended
    devices = getattr(extended, "_device_input_worker_devices", {})
    return [device for device in devices if f"/job:{_JOB}/" in device]


def _address(device: str) -> str:
    return list(_connected)[tf.DeviceSpec.from_string(device).task]


# ---------------------------------------------------------- lost workers


@contextlib.contextmanager
def naming_losses() -> Iterator[None]:
    """Translates TensorFlow's errors in a block if a worker is lost.

    Raises:
      WorkerLost: if so.
    """
    try:
        yield
    except _OF_A_LOSS as error:
        if not _connected:
            raise
        lost = _find_lost()
        if lost is None and not _OF_A_CONNECTION.search(str(error)):
            raise
        reason = (error.message or repr(error)).splitlines()[0]
        raise worker_status.WorkerLost(
            lost, reason.partition(" [Op:")[0]
        ) from error


def _find_lost() -> str | None:
    """The first worker that is gone or was started again."""
    statuses = worker_status.ask(list(_connected), supervision.SILENCE_SECONDS)
    for address, status in statuses.items():
        if status != _connected[address]:
            return address
    return None


def leave(lost: worker_status.WorkerLost) -> NoReturn:
    """Ends the process with the code for a restart; only for commands.

    TensorFlow would wait for the lost worker when Python ends.
    """
    code = interruption.report(lost)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
