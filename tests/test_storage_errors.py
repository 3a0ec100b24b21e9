"""Google Cloud Storage's refusals, as TensorFlow words them."""

import json

import pytest
import tensorflow as tf

from bert_pretrain import errors, file_errors, storage_account, storage_errors

# Google's own words, from public reports of users of TensorFlow.
SERVICE = "service-495@cloud-tpu.iam.gserviceaccount.com"


def told(status, said, kind=tf.errors.PermissionDeniedError):
    """The message of the UserError for an answer in JSON."""
    body = json.dumps({"error": {"code": status, "message": said}}, indent=2)
    message = (
        f"Error executing an HTTP request: HTTP response code {status} with "
        f"body '{body}'\n\t when reading gs://models/run"
    )
    with pytest.raises(errors.UserError) as raised:
        with file_errors.naming("gs://models/run/x"):
            raise kind(None, None, message)
    return str(raised.value)


@pytest.mark.parametrize(
    "said, account, right, role",
    [
        (
            f"{SERVICE} does not have storage.objects.list access to models.",
            f"serviceAccount:{SERVICE}",
            "storage.objects.list",
            "objectAdmin",
        ),
        (
            "me@example.com does not have storage.objects.create access to "
            "the Google Cloud Storage object. Permission "
            "'storage.objects.create' denied on resource (or it may not "
            "exist).",
            "user:me@example.com",
            "storage.objects.create",
            "objectAdmin",
        ),
        (
            "me@example.com does not have storage.buckets.get access to the "
            "Google Cloud Storage bucket.",
            "user:me@example.com",
            "storage.buckets.get",
            "legacyBucketReader",
        ),
    ],
)
def test_a_refusal_names_the_account_the_right_and_the_command(
    said, account, right, role
):
    line = told(403, said)
    assert line == (
        f"gs://models/run/x: {account.partition(':')[2]} has no right {right} "
        "on the bucket models; give it: gcloud storage buckets "
        f"add-iam-policy-binding gs://models --member={account} "
        f"--role=roles/storage.{role}."
    )


def test_a_refusal_without_a_name_is_completed_from_the_credentials(
    monkeypatch, tmp_path
):
    monkeypatch.delenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", raising=False)
    key = tmp_path / "key.json"
    key.write_text(json.dumps({"client_email": SERVICE, "private_key": "x"}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    line = told(403, "Forbidden")
    assert f"refuses this to {SERVICE} (Forbidden); give it:" in line
    assert f"--member=serviceAccount:{SERVICE} " in line


def test_nobody_is_named_where_there_are_no_credentials(monkeypatch, tmp_path):
    monkeypatch.delenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", raising=False)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    assert storage_account.name() is None
    # A login of a person, whose file does not tell the address.
    path = tmp_path / "application_default_credentials.json"
    path.write_text(json.dumps({"refresh_token": "secret", "account": ""}))
    assert storage_account.name() == f"the login in {path}"


@pytest.mark.parametrize(
    "status, said, part",
    [
        (401, "Invalid Credentials", "gcloud auth application-default login"),
        (
            403,
            "Provided scope(s) are not authorized",
            "create the machine with --scopes=cloud-platform",
        ),
        (
            404,
            "The specified bucket does not exist.",
            "there is no bucket models; check the name, or make it",
        ),
        (404, "No such object: models/run", "no such file: check the path"),
        (503, "Backend Error", "again (HTTP 503: Backend Error); run the same"),
    ],
)
def test_other_answers_have_a_remedy(status, said, part):
    kinds = {404: tf.errors.NotFoundError, 503: tf.errors.AbortedError}
    line = told(
        status, said, kinds.get(status, tf.errors.PermissionDeniedError)
    )
    assert part in line and "\n" not in line


def test_a_server_that_does_not_answer_points_to_the_network():
    said = storage_errors.explain(
        "All 10 retry attempts failed. The last failure: Error executing an "
        "HTTP request: libcurl code 6 meaning 'Couldn't resolve host name', "
        "error details: Could not resolve host: www.googleapis.com",
        "gs://models/x",
    )
    assert "cannot be reached (Couldn" in said and "network" in said


def test_other_errors_keep_their_words():
    assert storage_errors.explain("no space left on device", "/x") is None
