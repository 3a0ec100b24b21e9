"""The account under which TensorFlow uses Google Cloud Storage.

TensorFlow's gs:// looks for credentials in this order (see its source,
`google_auth_provider.cc`): a token in a variable, a file of credentials, the
metadata server of a machine of Google Cloud. Here the same places are asked for
the account's name alone.
"""

import json
import os
import urllib.error
import urllib.request

_TOKEN = "GOOGLE_AUTH_TOKEN_FOR_TESTING"
_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
_FILE_NAME = "application_default_credentials.json"
_METADATA_HOST = "metadata.google.internal"
_METADATA_PATH = "instance/service-accounts/default/email"
_SECONDS = 2.0


def name() -> str | None:
    """The account's e-mail address, or where its credentials come from.

    Returns:
      None if there are no credentials: TensorFlow then asks without an account.
    """
    if os.environ.get(_TOKEN):
        return f"the token in ${_TOKEN}"
    for path in _credential_files():
        if os.path.isfile(path):
            return _name_in(path)
    if os.environ.get("NO_GCE_CHECK", "").lower() == "true":
        return None
    return _name_of_machine()


def _credential_files() -> list[str]:
    folder = os.environ.get("CLOUDSDK_CONFIG") or os.path.expanduser(
        "~/.config/gcloud"
    )
    return [os.environ.get(_FILE, ""), f"{folder}/{_FILE_NAME}"]


def _name_in(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            credentials = json.load(file)
        found = credentials.get("client_email") or credentials.get("account")
    except (OSError, ValueError, AttributeError):
        found = None
    return found or f"the login in {path}"


def _name_of_machine() -> str | None:
    """The service account of this machine, if it is one of Google Cloud."""
    host = os.environ.get("GCE_METADATA_HOST", _METADATA_HOST)
    request = urllib.request.Request(
        f"http://{host}/computeMetadata/v1/{_METADATA_PATH}",
        headers={"Metadata-Flavor": "Google"},
    )
    # The metadata server is on the machine itself, never behind a proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_SECONDS) as answer:
            return answer.read().decode("utf-8").strip() or None
    except (OSError, ValueError):
        return None
