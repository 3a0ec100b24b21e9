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
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context

from bert_pretrain import errors, files, interruption

# A machine that comes back needs minutes to start its worker.
WAIT_SECONDS = 300
# A worker is lost if it does not answer for so long, or refuses to.
SILENCE_SECONDS = 60
_PAUSE_SECONDS = 5
_JOB = "worker"
_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[\w.-]+):\d+")
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

# The workers of this process. TensorFlow has one cluster in a process, too.
_connected: list[str] = []


def check_addresses(tpu: str) -> None:
    """Checks --tpu=grpc://….

    Raises:
      UserError: if an address has another form.
    """
    for address in tpu.removeprefix("grpc://").split(","):
        if not _ADDRESS.fullmatch(address):
            raise errors.UserError(
                f"--tpu={tpu}: {address!r} is no address of a worker; write "
                "--tpu=grpc://host0:8470,host1:8470, with the port of each."
            )


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
    _connected[:] = addresses


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
    task = tf.DeviceSpec.from_string(device).task
    return _connected[task] if task < len(_connected) else device


# ---------------------------------------------------------- lost workers


@contextlib.contextmanager
def naming_losses() -> Iterator[None]:
    """Translates TensorFlow's errors in a block if a worker is lost.

    Raises:
      Interrupted: the run can be started again.
    """
    try:
        yield
    except _OF_A_LOSS as error:
        if not _connected:
            raise
        lost = find_lost(SILENCE_SECONDS)
        if lost is None and not _OF_A_CONNECTION.search(str(error)):
            raise
        reason = (error.message or repr(error)).splitlines()[0]
        raise interruption.Interrupted(
            interruption.RESTART, _describe(lost, reason)
        ) from error


def find_lost(limit_seconds: float) -> str | None:
    """The address of the first worker that does not answer, if any."""
    answers: dict[int, bool] = {}

    def ask(task: int) -> None:
        answers[task] = context.context().check_alive(
            f"/job:{_JOB}/replica:0/task:{task}"
        )

    # A worker that hangs lets `check_alive` wait forever.
    threads = [
        threading.Thread(target=ask, args=[task], daemon=True)
        for task in range(len(_connected))
    ]
    deadline = time.monotonic() + limit_seconds
    for thread in threads:
        thread.start()
    for task, thread in enumerate(threads):
        thread.join(max(0, deadline - time.monotonic()))
        if not answers.get(task):
            return _connected[task]
    return None


@contextlib.contextmanager
def ending_when_lost() -> Iterator[None]:
    """Ends the process, with the code for a restart, if a worker hangs.

    Only a command may use it. TensorFlow waits for the worker without an end,
    and nothing can interrupt it.
    """
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_PAUSE_SECONDS):
            if not _connected or is_over.is_set():
                continue
            if (lost := find_lost(SILENCE_SECONDS)) is None:
                continue
            # The block usually gets an error too, and tells more.
            if not is_over.wait(2 * _PAUSE_SECONDS):
                print(
                    f"Interrupted: {_describe(lost, 'no answer')}; run the "
                    "same command again to resume.",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(interruption.RESTART)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def _describe(lost: str | None, reason: str) -> str:
    what = f"the worker at {lost}" if lost else "a worker of the pod"
    return f"{what} is lost ({reason})"
