"""Google's notice that this machine will be taken away.

A virtual machine asks its metadata server about itself. `preempted` becomes
TRUE about half a minute before a spot machine is shut down; `maintenance-event`
becomes TERMINATE_ON_HOST_MAINTENANCE before a machine with an accelerator is
stopped for maintenance (docs.cloud.google.com/compute/docs: "Create and use
Spot VMs", "Monitor and plan for a host maintenance event").
"""

import contextlib
import http.client
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Iterator

_PRODUCT_NAME = pathlib.Path("/sys/class/dmi/id/product_name")
# The variables that Google's own libraries read.
_HOST_VARIABLE, _NEVER_VARIABLE = "GCE_METADATA_HOST", "NO_GCE_CHECK"
_HOST = "metadata.google.internal"
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
    host = _metadata_host()
    if host is None:
        yield
        return
    is_over = threading.Event()
    threading.Thread(target=_watch, args=[host, is_over], daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def _metadata_host() -> str | None:
    """The metadata server; None if this is no machine of Google's."""
    if os.environ.get(_NEVER_VARIABLE, "").lower() in ("1", "true"):
        return None
    if host := os.environ.get(_HOST_VARIABLE):
        return host
    try:
        is_google = "Google" in _PRODUCT_NAME.read_text()
    except OSError:
        is_google = False
    return _HOST if is_google else None


def _watch(host: str, is_over: threading.Event) -> None:
    earlier = {key: read(host, key) for key in _ENDS}
    while not is_over.wait(_PAUSE_SECONDS):
        for key, (end, meaning) in _ENDS.items():
            now = read(host, key)
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


def read(host: str, key: str) -> str | None:
    """A value of this machine at the metadata server; None without an answer.

    Args:
      host: of the server, with a port if that is not 80.
      key: below instance/.
    """
    connection = http.client.HTTPConnection(host, timeout=5)
    try:
        connection.request(
            "GET",
            f"/computeMetadata/v1/instance/{key}",
            headers={"Metadata-Flavor": "Google"},
        )
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace").strip()
        return text if answer.status == http.HTTPStatus.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
