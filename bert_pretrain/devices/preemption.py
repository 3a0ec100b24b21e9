"""Google's notice that this machine will be taken away.

A virtual machine asks its metadata server about itself. `preempted` becomes
TRUE about half a minute before a spot machine is shut down; `maintenance-event`
becomes TERMINATE_ON_HOST_MAINTENANCE before a machine with an accelerator is
stopped for maintenance (docs.cloud.google.com/compute/docs: "Create and use
Spot VMs", "Monitor and plan for a host maintenance event").
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

from bert_pretrain import metadata_server

_PAUSE_SECONDS = 2
# The value of each key that means the end of the machine, and what it means.
_ENDS = {
    "preempted": ("TRUE", "is being preempted"),
    "maintenance-event": (
        "TERMINATE_ON_HOST_MAINTENANCE",
        "will be stopped for maintenance",
    ),
}


@contextlib.contextmanager
def heeding() -> Iterator[None]:
    """Sends SIGTERM to this process when Google announces the machine's end.

    An announcement that is there at the beginning is ignored: it may be an hour
    old, and a run that was started again has that hour.
    """
    host = metadata_server.host()
    if host is None:
        yield
        return
    is_over = threading.Event()
    threading.Thread(target=_watch, args=[host, is_over], daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def _watch(host: str, is_over: threading.Event) -> None:
    earlier = {key: metadata_server.read(host, key) for key in _ENDS}
    while not is_over.wait(_PAUSE_SECONDS):
        for key, (end, meaning) in _ENDS.items():
            now = metadata_server.read(host, key)
            if now is None:
                continue  # No answer this time.
            if now == end and earlier[key] != end:
                print(
                    f"Google announces that this machine {meaning} ({key}).",
                    file=sys.stderr,
                    flush=True,
                )
                os.kill(os.getpid(), signal.SIGTERM)
                return
            earlier[key] = now
