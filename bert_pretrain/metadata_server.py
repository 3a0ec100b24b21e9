"""What a machine of Google Cloud says about itself.

Each such machine has a metadata server, which answers without a password
(docs.cloud.google.com/compute/docs/metadata).
"""

import http.client
import os
import pathlib

_PRODUCT_NAME = pathlib.Path("/sys/class/dmi/id/product_name")
# The variables that Google's own libraries read.
_HOST_VARIABLE, _NEVER_VARIABLE = "GCE_METADATA_HOST", "NO_GCE_CHECK"
_HOST = "metadata.google.internal"
_SECONDS = 2.0


def host() -> str | None:
    """The server's name; None if this is no machine of Google Cloud."""
    if os.environ.get(_NEVER_VARIABLE, "").lower() in ("1", "true"):
        return None
    if given := os.environ.get(_HOST_VARIABLE):
        return given
    try:
        is_google = "Google" in _PRODUCT_NAME.read_text()
    except OSError:
        is_google = False
    return _HOST if is_google else None


def read(host: str, key: str) -> str | None:
    """A value of this machine; None without an answer.

    Args:
      host: of the server, with a port if that is not 80.
      key: below instance/.
    """
    connection = http.client.HTTPConnection(host, timeout=_SECONDS)
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
