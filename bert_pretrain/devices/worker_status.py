"""Asks the workers of a pod whether they are alive.

TensorFlow's own `check_alive` waits for a worker that hangs without an end, and
no other Python thread can run meanwhile.
"""

import concurrent.futures
import re
from collections.abc import Sequence

from bert_pretrain import errors, interruption

_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[\w.-]+):\d+")


class WorkerLost(interruption.Interrupted):
    """The run can be started again."""

    def __init__(self, address: str | None, reason: str) -> None:
        """Takes the address of the worker, if it is known."""
        what = f"the worker at {address}" if address else "a worker"
        super().__init__(interruption.RESTART, f"{what} is lost ({reason})")


def addresses(tpu: str) -> list[str]:
    """The addresses in --tpu=grpc://….

    Raises:
      UserError: if an address has another form.
    """
    found = tpu.removeprefix("grpc://").split(",")
    for address in found:
        if not _ADDRESS.fullmatch(address):
            raise errors.UserError(
                f"--tpu={tpu}: {address!r} is no address of a worker; write "
                "--tpu=grpc://host0:8470,host1:8470, with the port of each."
            )
    return found


def ask(
    addresses: Sequence[str], limit_seconds: float
) -> dict[str, bytes | None]:
    """What each worker answers about its devices; None without an answer.

    Devices have a number that is drawn when the worker starts. So a worker that
    was started again gives another answer.
    """
    with concurrent.futures.ThreadPoolExecutor(len(addresses)) as pool:
        statuses = pool.map(lambda a: _ask(a, limit_seconds), addresses)
        return dict(zip(addresses, statuses, strict=True))


def _ask(address: str, limit_seconds: float) -> bytes | None:
    # Imported late: only a pod needs it.
    import grpc

    with grpc.insecure_channel(address) as channel:
        get_status = channel.unary_unary("/tensorflow.WorkerService/GetStatus")
        try:
            return get_status(b"", timeout=limit_seconds)
        except grpc.RpcError:
            return None
