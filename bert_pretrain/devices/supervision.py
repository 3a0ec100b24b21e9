"""What a command does about the TPU before it loads TensorFlow.

The TPU of this machine is tried in another process first: a failure aborts the
process, and TensorFlow takes the TPU as soon as it is imported.

A run that waits for a lost worker of its pod is ended. TensorFlow may wait for
a machine that hangs in a step, in a copy or when Python ends, and no other
Python thread can run meanwhile. So the run is a child, and its parent asks the
workers whether they are alive.

This file imports nothing large: the process is divided before TensorFlow is
loaded.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
import types
from collections.abc import Callable

from bert_pretrain import interruption
from bert_pretrain.devices import local_tpu, worker_status

# A worker is lost if it does not answer for so long.
SILENCE_SECONDS = 60
_PAUSE_SECONDS = 5
# The run usually notices a lost worker itself, and says more about it.
_GRACE_SECONDS = 10
_FORWARDED = (signal.SIGTERM, signal.SIGINT)
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def run(work: Callable[[], int], tpu: str) -> int:
    """Calls `work`, in a child process if it is to use the workers of a pod.

    Args:
      tpu: the value of --tpu. Only grpc://… names workers.

    Returns:
      The exit code of `work`, or the code for a restart.

    Raises:
      UserError: if the TPU of this machine does not start, or an address is
        wrong.
    """
    if tpu == "local":
        local_tpu.try_to_start()
    if not tpu.startswith("grpc://"):
        return work()
    addresses = worker_status.addresses(tpu)
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    child = os.fork()
    if child:
        try:
            return _supervise(child, addresses)
        finally:
            _end(child)
    # Not in the parent's group: Ctrl-C would reach it twice.
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    return work()


def _supervise(child: int, addresses: list[str]) -> int:
    def forward(number: int, frame: types.FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in _FORWARDED:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    statuses: dict[str, bytes] = {}  # of the workers that have answered once
    while (code := _wait(child, _PAUSE_SECONDS)) is None:
        lost = _find_lost(addresses, statuses)
        if lost is None:
            continue
        if (code := _wait(child, _GRACE_SECONDS)) is not None:
            break
        return interruption.report(worker_status.WorkerLost(lost, "no answer"))
    return code


def _find_lost(addresses: list[str], statuses: dict[str, bytes]) -> str | None:
    """The first worker that answered once and is gone or started again."""
    for address, status in worker_status.ask(
        addresses, SILENCE_SECONDS
    ).items():
        if statuses.get(address, status) != status:
            return address
        if status is not None:
            statuses[address] = status
    return None


def _wait(child: int, seconds: float) -> int | None:
    """The exit code of the child; None if it is running after so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        time.sleep(0.1)
    return None


def _end(child: int) -> None:
    # It may have ended.
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
