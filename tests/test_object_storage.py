"""Everything on gs://: TensorFlow's own file system before a real server.

The server is gcp-storage-emulator, not Google's; see helpers/object_storage.py.
"""

import json
import os
import signal
import time

import pytest

from helpers import metadata, object_storage

pytestmark = pytest.mark.slow

ACCOUNT = "trainer@project.iam.gserviceaccount.com"
# A build, a run that may be killed, an evaluation and an export, in a folder.
CHAIN = """
import json, os, pathlib, signal, time, types
import tensorflow as tf
from bert_pretrain import evaluate, export, files, train
from bert_pretrain.checkpoints import checkpoint_config
from bert_pretrain.evaluation import evaluation_config
from bert_pretrain.interchange import export_config
from bert_pretrain.pretraining import pretraining, pretraining_config
from helpers import builds, training
from tfrecord_builders import build

wait_for = None

def make_dataset(place):
    builds.write_vocabulary(f"{place}/vocab.txt")
    builds.write_news(f"{place}/news-1.jsonl", num_documents=60)
    build.main(builds.config_of(place, seq_length=32, test_fraction=0.1))

def is_named(path, checkpoint):
    return tf.io.gfile.exists(path) and checkpoint in files.read_text(path)

def run(place, data_dir, kill_at=None, steps=12, **values):
    folder = pathlib.Path(scratch)
    config = training.config(
        folder, data_dir, "unused", total_steps=steps,
        bert={"max_position_embeddings": 32},
        saving=checkpoint_config.CheckpointConfig(
            model_dir=f"{place}/model", checkpoint_every_steps=4
        ),
        **values,
    )
    def kill():
        while wait_for and not is_named(*wait_for):
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    if kill_at:
        patch = types.SimpleNamespace(setattr=setattr)
        training.disturb(patch, kill_at, kill)
    return pretraining.train(config)
"""
# What differs between two equal runs.
SPEED = ("second", "mfu", "memory", "wait")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="module")
def server(scratch):
    with object_storage.Storage(scratch) as storage:
        yield storage


@pytest.fixture(scope="module")
def client(server, scratch):
    with object_storage.Client(scratch, server.environment) as client:
        yield client


@pytest.fixture(autouse=True)
def storage(server):
    server.reset()
    yield server
    server.reset()


@pytest.fixture
def run(client, scratch):
    """Runs a program after `CHAIN`; it must end well, or with that code."""

    def run(program, code=0, **variables):
        done = client.run(
            f"scratch = {str(scratch)!r}\n{CHAIN}\n{program}", **variables
        )
        assert done.returncode == code, done.stderr + done.stdout
        return done

    return run


@pytest.fixture(scope="module")
def local(client, scratch):
    """The dataset and the undisturbed run on this machine's disk."""
    done = client.run(
        f"scratch = {str(scratch)!r}\n{CHAIN}\n"
        f"place = {str(scratch / 'local')!r}\n"
        "make_dataset(place)\n"
        "run(place, f'{place}/set')\n"
    )
    assert done.returncode == 0, done.stderr
    return scratch / "local"


def log_of(content):
    """The records of a log, without what depends on the machine's speed."""
    return [without_speed(json.loads(line)) for line in content.splitlines()]


def without_speed(record):
    return {
        name: value
        for name, value in record.items()
        if not any(part in name for part in SPEED)
    }


def values_of(folder):
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(folder))
    return {
        name: reader.get_tensor(name).tobytes()
        for name in reader.get_variable_to_shape_map()
        if not name.startswith(("seconds", "save_counter", "_CHECKPOINTABLE"))
        and reader.get_variable_to_dtype_map()[name] != tf.string
    }


def check_same_run(storage, place, local, scratch, step=12):
    """Compares a run on the server with the one on the disk, to the bit."""
    found = storage.objects(f"{place}/model/")
    copy = scratch / place.replace("/", "-")
    copy.mkdir(exist_ok=True)
    for name, content in found.items():
        if name.startswith(f"ckpt-{step}."):
            (copy / name).write_bytes(content)
    actual = values_of(copy / f"ckpt-{step}")
    assert len(actual) > 50
    assert actual == values_of(local / "model" / f"ckpt-{step}")
    assert log_of(found["metrics.jsonl"]) == log_of(
        (local / "model" / "metrics.jsonl").read_bytes()
    )
    assert not [name for name in found if ".tmp-" in name]


def refuse_the_bucket(request):
    """An account that has rights on objects, and none on the bucket."""
    if request.path.endswith(f"/b/{object_storage.BUCKET}"):
        return refusal("storage.buckets.get")
    return None


def refusal(right):
    """What Google's server answers to an account without a right."""
    text = (
        f"{ACCOUNT} does not have {right} access to the Google Cloud Storage "
        f"object. Permission '{right}' denied on resource (or it may not "
        "exist)."
    )
    error = {"code": 403, "message": text, "errors": [{"message": text}]}
    return object_storage.Fault(
        status=403, body=json.dumps({"error": error}, indent=2)
    )


def test_from_text_to_an_export_all_is_as_on_the_disk(
    run, storage, local, scratch
):
    storage.fault = refuse_the_bucket
    run("make_dataset('gs://bucket/chain')")
    run("run('gs://bucket/chain', 'gs://bucket/chain/set', kill_at=6)", -9)
    logged = storage.objects("chain/model/metrics.jsonl")[""]
    # The lines of all steps of the checkpoint, and the evaluation before it.
    assert [record["step"] for record in log_of(logged)] == [0, 2, 4]
    run("run('gs://bucket/chain', 'gs://bucket/chain/set')")
    check_same_run(storage, "chain", local, scratch)

    dataset = storage.objects("chain/set/")
    shards = {path.name for path in (local / "set").glob("*.tfrecord")}
    assert shards == {name for name in dataset if name.endswith(".tfrecord")}
    for name in (*shards, "vocab.txt"):
        assert dataset[name] == (local / "set" / name).read_bytes(), name
    assert not [name for name in dataset if "/" in name]  # of the stages

    finish = """
for place in ("gs://bucket/chain", f"{scratch}/local"):
    evaluate.main(evaluation_config.EvaluateConfig(
        data_dir=f"{place}/set", model_dir=f"{place}/model", split="test"))
    export.main(export_config.ExportConfig(
        model_dir=f"{place}/model", output_dir=f"{place}/export"))
"""
    run(finish)
    name = "export/model.safetensors"
    assert storage.read(f"chain/{name}") == (local / name).read_bytes()
    actual, expected = (
        json.loads(content)["test"]
        for content in (
            storage.read("chain/model/evaluate_results.json"),
            (local / "model" / "evaluate_results.json").read_bytes(),
        )
    )
    assert without_speed(actual) == without_speed(expected)


def test_a_run_survives_failures_of_every_kind(run, storage, local, scratch):
    kinds = [
        object_storage.Fault(status=503),
        object_storage.Fault(status=429),
        object_storage.Fault(cut_answer_after=0),
        object_storage.Fault(cut_after=1000),
    ]
    seen = {}

    def fault(request):
        """Each object's every third request of a kind fails."""
        kind = request.method, request.object
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] % 3 != 1:
            return None
        found = kinds[len(seen) % len(kinds)]
        if found.cut_after is not None and request.num_bytes < 2000:
            return kinds[0]
        return found

    storage.fault = fault
    run(f"run('gs://bucket/shaken', {str(local / 'set')!r})")
    check_same_run(storage, "shaken", local, scratch)
    assert len(seen) > 30


def test_a_server_that_fails_for_good_ends_the_run_with_one_line(run, storage):
    storage.fault = lambda request: object_storage.Fault(status=503)
    done = run("files.read_text('gs://bucket/x')", 1)
    assert (
        "UserError: gs://bucket/x: Google Cloud Storage failed again and again "
        "(HTTP 503); run the same command again later." in done.stderr
    )
    # TensorFlow's tries: nobody multiplies them.
    assert len(storage.requests) == 11


FLAGS = """
import sys
from bert_pretrain import command_line
from bert_pretrain.pretraining import pretraining_config
sys.argv = ["train", "--data_dir={data_dir}", "--model_dir={model_dir}",
    "--model_size=tiny", "--global_batch_size=8", "--total_steps=4"]
command_line.run(train.main, pretraining_config.TrainingConfig)
"""


def test_a_missing_right_is_named_with_the_account_and_the_remedy(
    run, storage, local
):
    grant = (
        "give it: gcloud storage buckets add-iam-policy-binding gs://bucket "
        f"--member=serviceAccount:{ACCOUNT} --role=roles/storage.objectAdmin."
    )
    for method, right in (
        ("GET", "storage.objects.list"),
        ("POST", "storage.objects.create"),
    ):
        storage.fault = lambda request, method=method, right=right: (
            refusal(right) if request.method == method else None
        )
        done = run(
            FLAGS.format(data_dir=local / "set", model_dir="gs://bucket/no"), 2
        )
        assert done.stderr.count("\n") == 1
        assert f"{ACCOUNT} has no right {right} on the bucket" in done.stderr
        assert done.stderr.endswith(f"{grant}\n")
        assert object_storage.TOKEN not in done.stderr + done.stdout


def test_a_shard_that_may_not_be_read_is_named_with_the_account(
    run, storage, local
):
    for path in (local / "set").iterdir():
        storage.write(f"set/{path.name}", path.read_bytes())
    xml = (
        "<?xml version='1.0' encoding='UTF-8'?><Error><Code>AccessDenied"
        "</Code><Message>Access denied.</Message><Details>"
        f"{ACCOUNT} does not have storage.objects.get access to the Google "
        "Cloud Storage object.</Details></Error>"
    )

    def fault(request):
        is_read = request.path.startswith(f"/{object_storage.BUCKET}/")
        if is_read and "train-" in request.path:
            return object_storage.Fault(status=403, body=xml)
        return None

    storage.fault = fault
    done = run(
        FLAGS.format(data_dir="gs://bucket/set", model_dir="gs://bucket/no"), 2
    )
    assert done.stderr.count("\n") == 1
    assert (
        f"error: gs://bucket/set: {ACCOUNT} has no right storage.objects.get "
        "on the bucket bucket; give it: gcloud" in done.stderr
    )


def test_a_request_without_credentials_says_how_to_log_in(run, storage):
    body = json.dumps(
        {
            "error": {
                "code": 401,
                "message": "Anonymous caller does not have "
                "storage.objects.create access to the Google Cloud Storage "
                "object.",
            }
        }
    )
    storage.fault = lambda request: object_storage.Fault(status=401, body=body)
    done = run("files.write_text('gs://bucket/x', 'text')", 1)
    line = done.stderr.splitlines()[-1]
    assert "gs://bucket/x: Google Cloud Storage does not know who asks" in line
    assert "run gcloud auth application-default login" in line


def test_a_read_that_hangs_is_begun_again(run, storage):
    storage.write("x", b"content")
    hung = []

    def fault(request):
        if request.path == "/bucket/x" and not hung:
            hung.append(request)
            return object_storage.Fault(seconds=20)
        return None

    storage.fault = fault
    started = time.monotonic()
    assert "content" in run("print(files.read_text('gs://bucket/x'))").stdout
    # A busy machine needs some seconds for the start of the program.
    assert time.monotonic() - started < 20
    assert [request.path for request in storage.requests].count("/bucket/x") > 1


def test_an_answer_that_is_cut_off_is_read_again(run, storage):
    content = bytes(range(256)) * 4000
    storage.write("x", content)
    cut = []

    def fault(request):
        if request.path == "/bucket/x" and len(cut) < 2:
            cut.append(request)
            return object_storage.Fault(cut_answer_after=100_000)
        return None

    storage.fault = fault
    run(
        "assert files.read_bytes('gs://bucket/x') == bytes(range(256)) * 4000\n"
        "assert files.sha256('gs://bucket/x')"
    )
    assert len(cut) == 2


def test_an_upload_that_is_cut_off_goes_on_where_it_was(run, storage):
    storage.write("x", b"old")
    cut, seen = [], []

    def fault(request):
        if request.method == "PUT" and request.num_bytes:
            seen.append(storage.read("x"))  # in the meantime
            if not cut:
                cut.append(request)
                return object_storage.Fault(cut_after=700_000)
        return None

    storage.fault = fault
    run("files.write_bytes('gs://bucket/x', b'n' * 1_000_000)")
    storage.fault = lambda request: None
    assert storage.objects("x") == {"": b"n" * 1_000_000}
    sizes = [r.num_bytes for r in storage.requests if r.method == "PUT"]
    # The first part, the question how much has arrived, and the rest.
    assert sizes == [1_000_000, 0, 300_000]
    assert seen == [b"old"] * 2


def test_a_writer_that_is_killed_leaves_the_old_file(run, storage, scratch):
    storage.write("y", b"old")

    def fault(request):
        if request.method == "PUT":
            pid = int((scratch / "pid").read_text())
            os.kill(pid, signal.SIGKILL)
            return object_storage.Fault(cut_after=700_000)
        return None

    storage.fault = fault
    run(
        "pathlib.Path(f'{scratch}/pid').write_text(str(os.getpid()))\n"
        "files.write_bytes('gs://bucket/y', b'n' * 1_000_000)",
        -9,
    )
    assert storage.objects("y") == {"": b"old"}


def test_a_listing_that_comes_late_breaks_nothing(run, storage, local, scratch):
    listings = {}

    def hidden(name):
        """The first two listings leave a checkpoint's file out."""
        listings[name] = listings.get(name, 0) + 1
        return "/ckpt-" in name and listings[name] <= 2

    storage.hidden = hidden
    data_dir = str(local / "set")
    wait = "wait_for = 'gs://bucket/late/model/checkpoint', 'ckpt-8'"
    run(f"{wait}\nrun('gs://bucket/late', {data_dir!r}, kill_at=10)", -9)
    # The newest checkpoint, of step 8, is not listed yet.
    listings.clear()
    done = run(f"run('gs://bucket/late', {data_dir!r})")
    assert "resuming at step 8" in done.stdout
    check_same_run(storage, "late", local, scratch)


def test_a_build_whose_files_are_never_listed_is_the_same(run, storage, local):
    storage.hidden = lambda name: name.startswith("unlisted/set/")
    run("make_dataset('gs://bucket/unlisted')")
    storage.hidden = lambda name: False
    dataset = storage.objects("unlisted/set/")
    for path in (local / "set").glob("*.tfrecord"):
        assert dataset[path.name] == path.read_bytes()


def test_a_log_is_not_uploaded_with_each_line(run, storage, local):
    run(f"run('gs://bucket/log', {str(local / 'set')!r}, steps_per_loop=1)")
    # At the start, the checkpoints of the steps 0, 4, 8 and 12.
    assert storage.count("PUT", "log/model/metrics.jsonl") <= 5
    # Two files: of the training and of the evaluations.
    assert storage.count("PUT", "tfevents") <= 10
    content = storage.read("log/model/metrics.jsonl")
    assert storage.uploaded("log/model/metrics.jsonl") < 4 * len(content)
    assert len(content.splitlines()) == 12 + 2


# -------------------------------------------------------------------- a probe


PROBE = """
from bert_pretrain import storage_probe
found = storage_probe.probe({directory!r})
print(json.dumps([found.account, list(found.seconds), found.is_listed]))
"""


@pytest.fixture
def machine():
    """The variables of a machine of Google Cloud that has an account."""
    with metadata.MetadataServer() as server:
        server.values["service-accounts/default/email"] = ACCOUNT
        yield server.environment


def test_a_probe_tells_the_account_and_leaves_nothing(
    run, storage, scratch, machine
):
    key = scratch / "key.json"
    key.write_text(json.dumps({"client_email": ACCOUNT, "private_key": "no"}))
    none = str(scratch / "none")
    for variables in (
        {"GOOGLE_APPLICATION_CREDENTIALS": str(key)},
        machine,
    ):
        # TensorFlow has its token; the name is looked for without it.
        program = (
            "from bert_pretrain import storage_account\n"
            "storage_account._TOKEN = 'NONE'\n"
            + PROBE.format(directory="gs://bucket/probed")
        )
        done = run(
            program,
            GOOGLE_APPLICATION_CREDENTIALS=variables.get(
                "GOOGLE_APPLICATION_CREDENTIALS", none
            ),
            CLOUDSDK_CONFIG=none,
            **{
                name: value
                for name, value in variables.items()
                if name != "GOOGLE_APPLICATION_CREDENTIALS"
            },
        )
        account, operations, is_listed = json.loads(done.stdout)
        assert account == ACCOUNT and is_listed
        assert operations == ["write", "read", "list", "rename", "remove"]
    assert storage.objects("probed/") == {}


def test_a_probe_names_what_is_missing(run, storage):
    program = PROBE.format(directory="gs://bucket/probed")
    for method, right in (
        ("POST", "storage.objects.create"),
        ("DELETE", "storage.objects.delete"),
    ):
        storage.fault = lambda request, method=method, right=right: (
            refusal(right) if request.method == method else None
        )
        line = run(program, 1).stderr.splitlines()[-1]
        assert f"gs://bucket/probed: {ACCOUNT} has no right {right}" in line
    missing = json.dumps(
        {"error": {"code": 404, "message": "The specified bucket does not "
                   "exist."}}
    )  # fmt: skip
    storage.fault = lambda request: object_storage.Fault(404, missing)
    line = run(program, 1).stderr.splitlines()[-1]
    assert "there is no bucket bucket; check the name" in line
    assert "gcloud storage buckets create gs://bucket" in line
