"""The account under which TensorFlow uses Google Cloud Storage.

TensorFlow's gs:// looks for credentials in this order (see its source,
`google_auth_provider.cc`): a token in a variable, a file of credentials, the
metadata server of a machine of Google Cloud. Here the same places are asked for
the account's name alone.
"""

import json
import os

from bert_pretrain import metadata_server

_TOKEN = "GOOGLE_AUTH_TOKEN_FOR_TESTING"
_FILE = "GOOGLE_APPLICATION_CREDENTIALS"
_FILE_NAME = "application_default_credentials.json"


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
    host = metadata_server.host()
    if host is None:
        return None
    return metadata_server.read(host, "service-accounts/default/email") or None


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
