"""The commands of `launch/`, against a stand-in for Google Cloud.

Nothing here shows that they work on Google Cloud. Bash, git, ssh's command
lines, processes and files are real; gcloud, pip and TPUs are stand-ins.
"""

import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from helpers import cloud as clouds

ROOT = clouds.ROOT
FLAGS = ["--data_dir=gs://bucket/records", "--model_dir=gs://bucket/model"]
TRAIN = "bert_pretrain.train"
# Every look of a watch is at once, and so is every restart.
FAST = ["--poll_seconds=0.05", "--pause_seconds=0", clouds.TYPE]


@pytest.fixture
def cloud(tmp_path):
    cloud = clouds.Cloud(tmp_path)
    yield cloud
    cloud.close()


@pytest.fixture
def machine(cloud):
    """A cloud with a TPU on which the project is installed."""
    assert cloud.run("create", clouds.TYPE).returncode == 0
    assert cloud.run("install").returncode == 0
    return cloud


def training(code=0, seconds=0.0, **part):
    return {TRAIN: [{"code": code, "seconds": seconds, **part}]}


def start(cloud, *arguments):
    return cloud.run("start", *arguments, "--", *FLAGS)


def state(cloud):
    done = cloud.run("status")
    assert done.returncode == 0, done.stderr
    return re.search(r"^training  (.*)", done.stdout, re.M).group(1)


def watch(cloud, *arguments):
    return cloud.run("watch", *FAST, *arguments, "--", *FLAGS)


# ----------------------------------------------------------------- scripts


def test_the_scripts_pass_shellcheck():
    paths = (ROOT / "launch").rglob("*")
    scripts = [p for p in paths if p.is_file() and p.suffix != ".ipynb"]
    assert len(scripts) >= 14
    shellcheck = pathlib.Path(sys.executable).with_name("shellcheck")
    done = subprocess.run(
        [shellcheck, "--external-sources", *scripts],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("command", clouds.COMMANDS)
def test_help_lists_every_flag(cloud, command):
    done = cloud.run(command, "--help", where=[])
    assert done.returncode == 0
    assert done.stdout.count("\n") >= 8
    source = (ROOT / "launch" / command).read_text()
    declared = re.search(r'parse_flags\s+(.*?)"\$@"', source, re.S).group(1)
    flags = set(re.findall(r"[a-z_]{4,}", declared))
    for flag in flags | {"name", "zone", "project", "dry_run"}:
        assert f"--{flag}" in done.stdout


@pytest.mark.parametrize(
    "command, arguments, words",
    [
        ("create", ["--accelerator_typ=v6e-8"], "unknown argument"),
        ("create", ["v6e-8"], "unknown argument"),
        ("create", [], "--accelerator_type must be given"),
        ("create", ["--accelerator_type"], "write --accelerator_type=VALUE"),
        ("create", ["--accelerator_type="], "write --accelerator_type=VALUE"),
        ("create", ["--accelerator_type=h100-8"], "is not known"),
        ("create", [clouds.TYPE, "--spot=yes"], "--spot takes no value"),
        ("create", [clouds.TYPE, "--valid_until_duration=6h"], "--queued"),
        ("create", [clouds.TYPE, "--", "--data_dir=x"], "unknown argument"),
        ("install", ["--commit=no-such"], "--commit=no-such"),
        ("start", [], "no arguments of the training"),
        ("start", ["--", "--tpu=local", *FLAGS], "launch/start adds --tpu"),
        ("logs", ["--lines=all"], "--lines=all"),
        ("cost", ["--price_per_chip_hour=1.2$"], "--price_per_chip_hour=1.2$"),
        ("cost", [], "no TPU my-tpu"),
        ("watch", [*FAST, "--max_restarts=-1", "--", *FLAGS], "max_restarts"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(cloud, command, arguments, words):
    done = cloud.run(command, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and words in done.stderr
    assert done.stderr.count("\n") == 1
    assert cloud.verbs() == []


@pytest.mark.parametrize(
    "where", [[], ["--zone=us-west4-a"], ["--name=../x", "--zone=us-west4-a"]]
)
def test_names_and_zones_are_checked(cloud, where):
    done = cloud.run("delete", where=where)
    assert (done.returncode, cloud.calls()) == (2, [])


@pytest.mark.parametrize(
    "command, arguments",
    [
        ("create", [clouds.TYPE, "--spot", "--service_account=a@b.c"]),
        (
            "create",
            [
                clouds.TYPE,
                "--queued",
                "--valid_until_duration=6h",
                "--poll_seconds=0.05",
            ],
        ),
        ("install", ["--commit=HEAD"]),
        ("start", ["--", "--data_dir=a b", "--model_dir=$(false)'\"`;&"]),
        ("status", []),
        ("logs", ["--lines=5"]),
        ("delete", []),
        ("cost", []),
        ("watch", [clouds.TYPE, "--spot", "--", *FLAGS]),
    ],
)
def test_a_dry_run_prints_what_would_run(cloud, command, arguments):
    """The printed lines, in a shell, make the calls that the command makes."""
    project = "--project=my-project"
    switch = arguments.index("--") if "--" in arguments else len(arguments)
    dry = [*arguments[:switch], "--dry_run", *arguments[switch:]]
    printed = cloud.run(command, project, *dry)
    assert printed.returncode == 0, printed.stderr
    assert cloud.calls() == [] and not any(cloud.state.iterdir())
    if command == "watch":
        # What a watch does depends on what it sees.
        assert "tpu-vm create" in printed.stdout
        assert "bert-pretrain/launch/vm/start" in printed.stdout
        return

    def calls_of(run):
        for name in ("calls.jsonl", "state.json"):
            (cloud.world / name).unlink(missing_ok=True)
        shutil.rmtree(cloud.world / "vms", ignore_errors=True)
        if command != "create":
            cloud.run("create", project, clouds.TYPE)
        if command not in ("create", "install"):
            cloud.run("install", project)
        before = len(cloud.calls())
        run()
        calls = cloud.calls()[before:]
        return [c for n, c in enumerate(calls) if c not in calls[:n]]

    pasted = calls_of(
        lambda: subprocess.run(
            ["bash", "-c", printed.stdout], env=cloud.environment, cwd="/"
        )
    )
    assert pasted == calls_of(lambda: cloud.run(command, project, *arguments))
    assert pasted


# ------------------------------------------------------- create and delete


@pytest.mark.parametrize(
    "accelerator_type, image",
    [
        ("v2-8", "tpu-ubuntu2204-base"),
        ("v4-32", "tpu-ubuntu2204-base"),
        ("v5litepod-8", "v2-alpha-tpuv5-lite"),
        ("v5p-8", "v2-alpha-tpuv5"),
        ("v6e-1", "v2-alpha-tpuv6e"),
    ],
)
def test_the_image_follows_the_type(cloud, accelerator_type, image):
    done = cloud.run("create", f"--accelerator_type={accelerator_type}")
    assert image in done.stdout
    assert f"--version={image}" in cloud.calls("tpu-vm", "create")[0]


def test_a_queued_tpu_is_waited_for(cloud):
    done = cloud.run("create", clouds.TYPE, "--queued", "--poll_seconds=0.05")
    assert done.returncode == 0, done.stderr
    assert "my-tpu: WAITING_FOR_RESOURCES, after 0 minutes" in done.stdout
    assert cloud.run("status").returncode == 0
    again = cloud.run("create", clouds.TYPE, "--queued")
    assert "requested before" in again.stdout
    assert cloud.verbs() == ["queued-resources create"]
    assert cloud.run("delete").returncode == 0
    assert cloud.run("create", clouds.TYPE, "--spot").returncode == 0


@pytest.mark.parametrize(
    "failure, code",
    [
        ("no_capacity", 75),
        ("internal", 75),
        ("unreachable", 75),
        ("quota", 2),
        ("permission", 2),
        ("invalid", 2),
    ],
)
def test_a_refusal_is_told_from_a_failure_that_passes(cloud, failure, code):
    cloud.play(events=[{"call": "tpu-vm create", "fail": failure}])
    done = cloud.run("create", clouds.TYPE)
    assert done.returncode == code
    assert done.stderr.startswith("ERROR: (gcloud.compute.tpus.tpu-vm.create)")


def test_delete_leaves_nothing(machine):
    assert machine.run("delete").returncode == 0
    assert machine.verbs()[-2:] == ["tpu-vm delete", "queued-resources delete"]
    assert machine.run("status").returncode == 44
    done = machine.run("delete")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_delete_that_fails_says_so(machine):
    machine.play(events=[{"call": "tpu-vm delete", "fail": "permission"}])
    done = machine.run("delete")
    assert done.returncode == 2 and "PERMISSION_DENIED" in done.stderr
    assert "Nothing is left" not in done.stdout


# ----------------------------------------------------------------- install


@pytest.mark.parametrize(
    "image, constraints, tensorflow, libtpu",
    [
        (None, "constraints.txt", "2.20.0", "/stand-in/libtpu.so"),
        (
            "tpu-vm-tf-2.18.0-pjrt",
            "constraints-tf218.txt",
            "2.18.0",
            "/lib/libtpu.so",
        ),
    ],
)
def test_the_set_of_the_image_is_installed(
    cloud, image, constraints, tensorflow, libtpu
):
    image = [f"--runtime_version={image}"] if image else []
    cloud.run("create", clouds.TYPE, *image)
    done = cloud.run("install")
    assert done.returncode == 0, done.stderr
    installs = [c["command"] for c in cloud.commands("pip install")]
    assert f"-c {constraints}" in " ".join(installs[1])
    # The TPU build comes over the plain one.
    assert installs[2][-3:] == [
        "--no-deps",
        "--force-reinstall",
        f"tensorflow-tpu=={tensorflow}",
    ]
    variables = (cloud.home() / "tpu.env").read_text()
    assert f"TPU_LIBRARY_PATH={libtpu}\n" in variables
    assert "TPU_ACCELERATOR_TYPE=v5litepod-8\n" in variables
    assert (cloud.home() / "bert-pretrain" / "setup.py").exists()


def test_an_image_without_a_set_is_refused(cloud):
    cloud.run("create", clouds.TYPE, "--runtime_version=tpu-vm-tf-2.17.0-pjrt")
    done = cloud.run("install")
    assert done.returncode == 2
    assert "tpu-vm-tf-2.17.0-pjrt" in done.stderr
    assert state(cloud) == "not installed"


# ------------------------------------------------- start, status and logs


def test_a_training_gets_its_arguments_and_goes_on_alone(machine):
    machine.play(programs=training(seconds=0.3, code=75, output="step 1"))
    odd = ["--data_dir=a b", "--model_dir=$(touch evil)'\"`*;&\\", "--seed=~"]
    assert machine.run("start", "--", *odd).returncode == 0
    assert state(machine) == "running"
    clouds.wait_until(lambda: state(machine) == "exited 75")
    (train,) = machine.commands(TRAIN)[:1]
    assert train["command"][3:] == [*odd, "--tpu=local"]
    logs = machine.run("logs").stdout
    assert "step 1\n" in logs and "exit code 75" in logs


def test_a_second_training_is_refused(machine):
    machine.play(programs=training(seconds=60))
    assert start(machine).returncode == 0
    done = start(machine)
    assert done.returncode == 2
    assert "a training runs already" in done.stderr
    assert len(machine.commands(TRAIN)) == 1
    # Nor are the packages replaced under it.
    assert machine.run("install").returncode == 2
    assert len(machine.commands("uv venv")) == 1


def test_the_doctor_comes_first(machine):
    doctor = {"bert_pretrain.doctor": [{"code": 1, "output": "no bucket"}]}
    machine.play(programs=doctor)
    done = start(machine)
    assert done.returncode == 2
    assert "no bucket" in done.stdout and "--skip_doctor" in done.stderr
    assert machine.commands(TRAIN) == []
    (checked,) = machine.commands("bert_pretrain.doctor")
    assert checked["command"][3:] == [*FLAGS, "--tpu=local"]
    assert start(machine, "--skip_doctor").returncode == 0
    clouds.wait_until(lambda: state(machine) == "exited 0")


def test_the_code_is_noted_when_the_machine_shuts_down(machine):
    machine.play(programs=training(seconds=60))
    start(machine)
    clouds.wait_until(lambda: machine.commands(TRAIN))
    machine.send(signal.SIGTERM)  # As systemd does: to every process.
    clouds.wait_until(lambda: state(machine) == "exited 143")


def test_a_training_without_a_code_is_lost(machine):
    machine.play(programs=training(seconds=60))
    start(machine)
    assert state(machine) == "running"
    machine.close()  # As a power cut, from which the machine comes back.
    assert state(machine) == "lost"


@pytest.mark.parametrize(
    "image, has_service",
    [("v2-alpha-tpuv5-lite", False), ("tpu-vm-tf-2.18.0-pod-pjrt", True)],
)
def test_a_pod_has_workers_and_one_coordinator(cloud, image, has_service):
    cloud.play(hosts=2, programs={"bert_pretrain.worker": [{"seconds": 60}]})
    cloud.run(
        "create",
        "--accelerator_type=v5litepod-16",
        f"--runtime_version={image}",
    )
    assert cloud.run("install").returncode == 0
    done = start(cloud)
    assert done.returncode == 0, done.stderr
    clouds.wait_until(lambda: cloud.commands(TRAIN))
    (train,) = cloud.commands(TRAIN)
    assert train["host"] == "0"
    assert train["command"][-1] == "--tpu=grpc://10.0.0.2:8470,10.0.0.3:8470"
    assert train["variables"] == {"TPU_LOAD_LIBRARY": "0"}
    workers = cloud.commands("bert_pretrain.worker --port=8470")
    services = cloud.commands("sudo systemctl restart tpu-runtime")
    found, others = (services, workers) if has_service else (workers, services)
    assert [w["host"] for w in found] == ["0", "1"] and others == []
    for worker in workers:
        assert "TPU_LIBRARY_PATH" in worker["variables"]
        assert "TPU_LOAD_LIBRARY" not in worker["variables"]


@pytest.mark.slow
def test_workers_are_started_again_with_the_training(cloud):
    cloud.play(hosts=2, programs={"bert_pretrain.worker": [{"seconds": 60}]})
    cloud.run("create", "--accelerator_type=v5litepod-16")
    cloud.run("install")

    def pid():
        return int((cloud.home(1) / "worker.pid").read_text())

    start(cloud)
    first = pid()
    clouds.wait_until(lambda: state(cloud) == "exited 0")
    start(cloud)
    assert pid() != first
    clouds.wait_until(lambda: not pathlib.Path(f"/proc/{first}").exists())


# ------------------------------------------------------------------- watch


def test_a_watch_brings_a_run_to_its_end(cloud):
    cloud.play(programs=training(output="all done"))
    done = watch(cloud, "--spot", "--delete_at_end")
    assert done.returncode == 0, done.stdout
    assert cloud.verbs() == [
        "tpu-vm create",
        "tpu-vm delete",
        "queued-resources delete",
    ]
    assert "--spot" in cloud.calls("tpu-vm", "create")[0]
    assert "all done" in done.stdout
    log = cloud.state / "bert_pretrain/my-tpu.us-west4-a/watch.log"
    assert log.read_text() == done.stdout
    for line in done.stdout.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line)


def test_a_training_that_may_go_on_is_started_again(cloud):
    cloud.play(programs={TRAIN: [{"code": c} for c in (75, 137, 1, 0)]})
    done = watch(cloud)
    assert done.returncode == 0, done.stdout
    assert cloud.verbs() == ["tpu-vm create"]
    assert len(cloud.commands(TRAIN)) == 4
    assert "The TPU still costs money" in done.stdout


@pytest.mark.parametrize("code", [2, 3, 4, 130])
def test_a_training_that_must_not_go_on_ends_the_watch(cloud, code):
    cloud.play(programs=training(code=code))
    assert watch(cloud).returncode == code
    assert len(cloud.commands(TRAIN)) == 1


def test_who_watches_again_wants_another_try(cloud):
    cloud.play(programs={TRAIN: [{"code": 2}, {"code": 0}]})
    assert [watch(cloud).returncode for _ in range(3)] == [2, 0, 0]
    assert len(cloud.commands(TRAIN)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("event", ["preempt", "vanish"])
@pytest.mark.parametrize("queued", [False, True])
def test_a_tpu_that_is_taken_away_is_created_anew(cloud, event, queued):
    parts = [{"seconds": 60}, {"code": 0}]
    # A look of the watch, some time after the training has started.
    preemption = {"call": "tpu-vm describe", "number": 9, "do": event}
    cloud.play(events=[preemption], programs={TRAIN: parts})
    done = watch(cloud, *["--queued"] * queued)
    assert done.returncode == 0, done.stdout
    group = "queued-resources" if queued else "tpu-vm"
    assert cloud.verbs().count(f"{group} create") == 2
    first, second = [c["command"] for c in cloud.commands(TRAIN)]
    assert first == second


def test_an_api_that_does_not_answer_is_no_lost_tpu(cloud):
    events = [
        {"call": "tpu-vm describe", "number": n, "times": 3, "fail": failure}
        for n, failure in [(1, "unreachable"), (10, "unreachable")]
    ] + [{"call": "tpu-vm ssh", "number": 6, "times": 2, "fail": "ssh"}]
    cloud.play(events=events, programs=training(seconds=2))
    done = watch(cloud)
    assert done.returncode == 0, done.stdout
    assert "unreachable" in done.stdout and "silent" in done.stdout
    assert cloud.verbs() == ["tpu-vm create"]
    assert len(cloud.commands(TRAIN)) == 1


@pytest.mark.slow
def test_a_machine_that_stays_silent_is_created_anew(cloud):
    silence = {"call": "tpu-vm ssh", "number": 5, "times": 5, "fail": "ssh"}
    parts = [{"seconds": 60}, {"code": 0}]
    cloud.play(events=[silence], programs={TRAIN: parts})
    done = watch(cloud, "--max_silent_looks=4")
    assert done.returncode == 0, done.stdout
    assert cloud.verbs().count("tpu-vm create") == 2


def test_a_key_that_is_refused_is_no_lost_tpu(cloud):
    refusal = {"call": "tpu-vm ssh", "number": 5, "times": 4, "fail": "key"}
    cloud.play(events=[refusal], programs=training(seconds=2))
    done = watch(cloud, "--max_silent_looks=1")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Permission denied (publickey)") == 4
    assert cloud.verbs() == ["tpu-vm create"]


def test_a_watch_waits_for_capacity(cloud):
    shortage = {"call": "tpu-vm create", "times": 8, "fail": "no_capacity"}
    cloud.play(events=[shortage])
    done = watch(cloud, "--max_restarts=0")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("There is no more capacity in the zone") == 8
    assert cloud.verbs() == ["tpu-vm create"] * 9


@pytest.mark.parametrize("call", ["tpu-vm create", "tpu-vm describe"])
def test_a_refusal_ends_the_watch(cloud, call):
    cloud.play(events=[{"call": call, "fail": "permission"}])
    done = watch(cloud)
    assert done.returncode == 2
    assert "PERMISSION_DENIED: Permission" in done.stdout


def test_what_the_doctor_finds_first_ends_the_watch(cloud):
    cloud.play(programs={"bert_pretrain.doctor": [{"code": 1}]})
    done = watch(cloud)
    assert done.returncode == 2
    assert "The TPU still costs money" in done.stdout
    assert watch(cloud, "--delete_at_end").returncode == 2
    assert cloud.verbs()[-2] == "tpu-vm delete"
    assert cloud.commands(TRAIN) == []


def test_what_the_doctor_finds_later_is_tried_again(cloud):
    doctor = [{}, {"code": 1, "output": "no answer"}, {}]
    parts = [{"code": 75}, {"code": 0}]
    cloud.play(programs={"bert_pretrain.doctor": doctor, TRAIN: parts})
    done = watch(cloud)
    assert done.returncode == 0, done.stdout
    assert "no answer" in done.stdout


def test_restarts_without_a_good_stretch_have_a_limit(cloud):
    cloud.play(programs=training(code=75))
    done = watch(cloud, "--max_restarts=3", "--delete_at_end")
    assert done.returncode == 1
    assert "Gave up after 3 restarts" in done.stdout
    assert len(cloud.commands(TRAIN)) == 4
    assert cloud.verbs()[-2] == "tpu-vm delete"


@pytest.mark.slow
def test_a_good_stretch_forgets_restarts(cloud):
    parts = [{"code": 75, "seconds": 1.1}] * 2 + [{"code": 0}]
    cloud.play(programs={TRAIN: parts})
    done = watch(cloud, "--max_restarts=1", "--good_seconds=1")
    assert done.returncode == 0, done.stdout
    assert len(cloud.commands(TRAIN)) == 3


def test_pauses_double_up_to_the_cap(cloud):
    shortage = {"call": "tpu-vm create", "times": 2, "fail": "no_capacity"}
    cloud.play(events=[shortage])
    pauses = ["--pause_seconds=1", "--max_pause_seconds=1"]
    done = watch(cloud, *pauses)
    assert re.findall(r"Waiting (\d+) seconds", done.stdout) == ["1"] * 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_watch_that_is_ended_can_be_started_again(cloud, number):
    cloud.play(programs=training(seconds=60))
    log = cloud.state / "bert_pretrain/my-tpu.us-west4-a/watch.log"
    arguments = [*FAST[1:], "--poll_seconds=30", "--", *FLAGS]

    def begin():
        process = cloud.begin("watch", *arguments)
        clouds.wait_until(
            lambda: (
                log.exists()
                and "running" in log.read_text().rpartition("Watching")[2]
            )
        )
        return process

    def end(process):
        begun = time.monotonic()
        process.send_signal(number)
        process.communicate()
        assert time.monotonic() - begun < 5  # It does not wait for a look.

    first = begin()
    assert "is watched already" in watch(cloud).stderr
    end(first)
    log.unlink()
    end(begin())
    assert cloud.verbs() == ["tpu-vm create"]
    assert len(cloud.commands(TRAIN)) == 1


@pytest.mark.parametrize("call", ["tpu-vm create", "tpu-vm scp"])
def test_a_watch_that_is_killed_in_the_middle_goes_on(cloud, call):
    first = cloud.begin("watch", *FAST, "--", *FLAGS)
    clouds.wait_until(lambda: cloud.calls(*call.split()))
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    done = watch(cloud)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(cloud.commands(TRAIN)) == 1


def test_a_watch_leaves_another_training_alone(machine):
    machine.play(programs=training(seconds=60))
    machine.run("start", "--", "--data_dir=other")
    done = watch(machine)
    assert done.returncode == 2 and "another training" in done.stdout
    assert state(machine) == "running"


# -------------------------------------------------------------------- cost


@pytest.mark.parametrize(
    "accelerator_type, chips",
    [
        ("v3-8", 4),
        ("v4-32", 16),
        ("v5p-8", 4),
        ("v5litepod-8", 8),
        ("v6e-1", 1),
    ],
)
def test_the_cost_is_the_sum_of_all_stretches(cloud, accelerator_type, chips):
    folder = cloud.state / "bert_pretrain/my-tpu.us-west4-a"
    folder.mkdir(parents=True)
    (folder / "ledger.tsv").write_text(
        f"1000\tcreated\t{accelerator_type}\n4600\tended\t\n"
        f"10000\tcreated\t{accelerator_type}\n11800\tended\t\n"
    )
    done = cloud.run("cost", "--price_per_chip_hour=2.5")
    assert done.returncode == 0, done.stderr
    assert f"{1.5 * chips:.2f} chip-hours" in done.stdout
    assert f"{1.5 * chips * 2.5:.2f} at 2.5 for a chip-hour" in done.stdout
    assert "the bill is Google's" in done.stdout


@pytest.mark.slow
def test_the_ledger_follows_a_watch(cloud):
    preempt = {"call": "tpu-vm describe", "number": 9, "do": "preempt"}
    parts = [{"seconds": 60}, {"seconds": 1}]
    cloud.play(events=[preempt], programs={TRAIN: parts})
    assert watch(cloud).returncode == 0
    folder = cloud.state / "bert_pretrain/my-tpu.us-west4-a"
    ledger = (folder / "ledger.tsv").read_text()
    assert re.findall(r"[a-z]{5,}", ledger.replace("v5litepod-8", "")) == [
        "created",
        "ended",
        "created",
    ]
    assert "costs money" in cloud.run("cost").stdout
    cloud.run("delete")
    assert "costs money" not in cloud.run("cost").stdout


# --------------------------------------------------------------------- page


def test_the_commands_of_the_page_are_right(cloud):
    page = (ROOT / "docs" / "cloud.md").read_text()
    blocks = re.findall(r"^```\n(.*?)^```", page, re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    commands = [line for line in lines if line.startswith("launch/")]
    words = [
        shlex.split(line.replace("$WHERE", ""), comments=True)
        for line in commands
    ]
    assert {w[0].removeprefix("launch/") for w in words} == set(clouds.COMMANDS)
    for command, *arguments in words:
        done = cloud.run(
            command.removeprefix("launch/"), "--dry_run", *arguments
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
