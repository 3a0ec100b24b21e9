"""What Google Cloud Storage answers to TensorFlow, in words with a remedy."""

import re

from bert_pretrain import storage_account

_STATUS = re.compile(r"HTTP response code (\d+)")
_NO_ANSWER = re.compile(r"libcurl code \d+ meaning '([^']*)'")
# In JSON from most requests, in XML if a file was read.
_SAID = (
    re.compile(r'"message":\s*"((?:[^"\\]|\\.)*)"'),
    re.compile(r"<Details>(.*?)</Details>", re.DOTALL),
    re.compile(r"<Message>(.*?)</Message>", re.DOTALL),
)
_LACKS = re.compile(r"(\S+) does not have (storage\.[\w.]+) access")
_BUCKET = re.compile(r"gs://([^/\s]+)")
_ANONYMOUS = "Anonymous caller"
_CREDENTIALS = (
    "run gcloud auth application-default login, or set "
    "GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account, or "
    "give the machine a service account"
)


def explain(message: str, path: str) -> str | None:
    """The reason and the remedy for a failed request, in one line.

    Args:
      message: of TensorFlow's error.
      path: that the error is about.

    Returns:
      None if the message is of something else, or says enough.
    """
    status, silence = _STATUS.search(message), _NO_ANSWER.search(message)
    if status is None:
        if silence is None:
            return None
        return (
            f"Google Cloud Storage cannot be reached ({silence[1]}); check the "
            "network and run the same command again"
        )
    code, said = int(status[1]), _said(message)
    bucket = [*_BUCKET.findall(path), *_BUCKET.findall(message), "BUCKET"][0]
    if code == 401 or _ANONYMOUS in said:
        return (
            f"Google Cloud Storage does not know who asks ({said or code}); "
            f"{_CREDENTIALS}"
        )
    if code == 403:
        return _explain_refusal(said, bucket)
    if code == 404 and "bucket" in said.lower():
        return (
            f"there is no bucket {bucket}; check the name, or make it where "
            f"the TPU is: gcloud storage buckets create gs://{bucket} "
            "--location=REGION"
        )
    if code in (408, 409, 429) or code >= 500:
        return (
            "Google Cloud Storage failed again and again (HTTP "
            f"{code}{': ' * bool(said)}{said}); run the same command again "
            "later"
        )
    return None


def _explain_refusal(said: str, bucket: str) -> str:
    if "scope" in said or "Insufficient Permission" in said:
        return (
            "the access scopes of this machine leave out Cloud Storage "
            f"({said}); create the machine with --scopes=cloud-platform"
        )
    lacks = _LACKS.search(said)
    account = lacks[1] if lacks else storage_account.name() or "ACCOUNT"
    right = lacks[2] if lacks else "storage.objects.*"
    refusal = (
        f"{account} has no right {right} on the bucket {bucket}"
        if lacks
        else f"Google Cloud Storage refuses this to {account} ({said or 403})"
    )
    return f"{refusal}; give it: {grant(bucket, account, right)}"


def grant(bucket: str, account: str, right: str) -> str:
    """The command that gives an account a right on a bucket."""
    if "@" not in account:
        account = "ACCOUNT"  # It is not known by its name.
    kind = "serviceAccount" if "gserviceaccount" in account else "user"
    # A right on objects and one on the bucket itself come with two roles.
    is_of_objects = right.startswith("storage.objects.")
    role = "objectAdmin" if is_of_objects else "legacyBucketReader"
    return (
        f"gcloud storage buckets add-iam-policy-binding gs://{bucket} "
        f"--member={kind}:{account} --role=roles/storage.{role}"
    )


def _said(message: str) -> str:
    """The server's own words, in one line; empty if it has none."""
    for pattern in _SAID:
        if found := pattern.search(message):
            return " ".join(found[1].split()).rstrip(".")
    return ""
