"""Runs on machines that Google takes away, with stand-ins for Google.

The end-to-end test prints the log of the watch: `pytest -s -n 0 -k five`.
"""

import re
import signal
import subprocess
import sys
import time

import pytest

from bert_pretrain import interruption, metadata_server
from bert_pretrain.devices import preemption
from helpers import cloud as clouds
from helpers import metadata, training


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(preemption, "_PAUSE_SECONDS", 0.01)
    with metadata.MetadataServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def answers_twice(server):
    """Waits until the server was asked after this call."""
    for _ in range(4):
        server.asked.clear()
        assert server.asked.wait(10)


def wait_for_interruption(raise_if_asked):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        raise_if_asked()
        time.sleep(0.01)


@pytest.mark.parametrize(
    "key, value, meaning",
    [
        ("preempted", "TRUE", "is being preempted"),
        (
            "maintenance-event",
            "TERMINATE_ON_HOST_MAINTENANCE",
            "will be stopped for maintenance",
        ),
    ],
)
def test_a_notice_asks_the_run_to_save_and_end(
    server, capsys, key, value, meaning
):
    with interruption.watching() as raise_if_asked, preemption.heeding():
        answers_twice(server)
        raise_if_asked()
        server.values[key] = value
        with pytest.raises(interruption.Interrupted) as interrupted:
            wait_for_interruption(raise_if_asked)
    assert interrupted.value.code == 75
    assert f"this machine {meaning} ({key})" in capsys.readouterr().err


def test_a_notice_that_was_there_before_does_not_end_a_run_again(server):
    # Maintenance is announced an hour ahead, and the run is started again.
    server.values["maintenance-event"] = "TERMINATE_ON_HOST_MAINTENANCE"
    with interruption.watching() as raise_if_asked, preemption.heeding():
        answers_twice(server)
        raise_if_asked()
        server.values["preempted"] = "TRUE"
        with pytest.raises(interruption.Interrupted):
            wait_for_interruption(raise_if_asked)


@pytest.mark.parametrize("key", ["preempted", "maintenance-event"])
def test_a_move_or_a_server_without_an_answer_is_no_notice(server, key):
    with interruption.watching() as raise_if_asked, preemption.heeding():
        answers_twice(server)
        server.values["maintenance-event"] = "MIGRATE_ON_HOST_MAINTENANCE"
        answers_twice(server)
        del server.values[key]
        answers_twice(server)
        raise_if_asked()


def test_other_machines_are_not_asked(server, monkeypatch, tmp_path):
    monkeypatch.delenv("GCE_METADATA_HOST")
    product_name = tmp_path / "product_name"
    monkeypatch.setattr(metadata_server, "_PRODUCT_NAME", product_name)
    assert metadata_server.host() is None
    product_name.write_text("Google Compute Engine\n")
    assert metadata_server.host() == "metadata.google.internal"
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    assert metadata_server.host() is None


# ------------------------------------------------------- a whole run

# So many that a fast machine does not end between a notice and its answer.
TOTAL_STEPS = 2500
# What takes the machine away, in this order.
ENDS = ["notice", "vanish", "notice", "shutdown", "notice"]


@pytest.fixture
def flags(make_dataset, tmp_path):
    training.write_small_bert(tmp_path / "bert.json")
    return [
        f"--data_dir={make_dataset(train=(13, 7, 9, 11, 5), pairing='nsp')}",
        f"--bert_config={tmp_path / 'bert.json'}",
        "--global_batch_size=6",
        f"--total_steps={TOTAL_STEPS}",
        "--peak_learning_rate=3e-3",
        "--steps_per_loop=10",
        "--checkpoint_every_steps=20",
    ]


@pytest.mark.slow
def test_a_run_that_is_preempted_five_times_ends_as_an_undisturbed_one(
    flags, tmp_path
):
    whole, taken = tmp_path / "whole", tmp_path / "taken"
    subprocess.run(
        [
            *[sys.executable, "-m", "bert_pretrain.train"],
            *[*flags, f"--model_dir={whole}"],
        ],
        check=True,
        capture_output=True,
    )
    with metadata.MetadataServer() as server:
        cloud = clouds.Cloud(
            tmp_path / "cloud",
            real=["bert_pretrain.train"],
            variables=server.environment,
        )
        watch = cloud.begin(
            "watch",
            *["--poll_seconds=0.5", "--pause_seconds=0", clouds.TYPE],
            *["--max_restarts=20", "--skip_doctor", "--delete_at_end", "--"],
            *[*flags, f"--model_dir={taken}"],
        )
        try:
            for number, end in enumerate(ENDS, 1):
                take_away(cloud, server, watch, end, number, taken)
            log = watch.communicate(timeout=120)[0]
        finally:
            cloud.close()
            watch.kill()
    print(log)
    assert watch.returncode == 0, log
    assert len(cloud.calls("tpu-vm", "create")) == 1 + len(ENDS)
    # It never began anew, and went on further each time.
    resumed = [int(step) for step in re.findall(r"resuming at step (\d+)", log)]
    assert resumed == sorted(resumed)
    training.assert_same(
        *(
            training.values_of(f / f"ckpt-{TOTAL_STEPS}")
            for f in (taken, whole)
        ),
        but=("seconds",),
    )


def take_away(cloud, server, watch, end, number, model_dir):
    """Takes the TPU away after some progress, as Google does."""
    log = cloud.home() / "train.log"

    def wait_for(is_true):
        deadline = time.monotonic() + 90
        while not is_true():
            assert watch.poll() is None, watch.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    wait_for(lambda: len(cloud.calls("tpu-vm", "create")) == number)
    wait_for(lambda: log.exists() and "at step " in log.read_text())
    step = newest_step(model_dir)
    wait_for(lambda: newest_step(model_dir) > step)
    if end == "notice":
        server.values["preempted"] = "TRUE"
    elif end == "shutdown":
        cloud.send(signal.SIGTERM)
    if end != "vanish":
        # The watch may have started it again by now.
        wait_for(lambda: "exit code 75" in log.read_text())
    cloud.let_happen("vanish" if end == "vanish" else "preempt")
    wait_for(lambda: len(cloud.calls("tpu-vm", "create")) > number)
    server.values["preempted"] = "FALSE"


def newest_step(model_dir):
    steps = [
        int(path.stem.split("-")[1]) for path in model_dir.glob("ckpt-*.json")
    ]
    return max(steps, default=0)
