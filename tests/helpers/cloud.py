"""The commands of `launch/`, run against a stand-in for Google Cloud."""

import contextlib
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parent.parent.parent
COMMANDS = [
    "create",
    "install",
    "start",
    "watch",
    "status",
    "logs",
    "delete",
    "cost",
]
WHERE = ["--name=my-tpu", "--zone=us-west4-a"]
TYPE = "--accelerator_type=v5litepod-8"


class Cloud:
    """A world of its own; see gcloud_stand_in.py for what it does."""

    def __init__(self, folder, **scenario):
        """Makes the world in a folder; `play` takes the scenario."""
        self.world = folder / "world"
        self.state = folder / "state"
        self._bin = folder / "bin"
        for path in (self.world, self.state, self._bin):
            path.mkdir(parents=True)
        gcloud = self._bin / "gcloud"
        stand_in = ROOT / "tests" / "helpers" / "gcloud_stand_in.py"
        gcloud.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" -S "{stand_in}" "$@"\n'
        )
        gcloud.chmod(0o755)
        self.play(**scenario)

    def play(self, **scenario):
        """Takes another scenario: `events`, `programs`, `real`, `hosts`."""
        path = self.world / "scenario.json"
        path.with_suffix(".new").write_text(json.dumps(scenario))
        path.with_suffix(".new").rename(path)

    def let_happen(self, event):
        """Lets `preempt` or `vanish` happen at the next call of gcloud."""
        (self.world / "now").write_text(event)

    @property
    def environment(self):
        return {
            **os.environ,
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "STAND_IN_WORLD": str(self.world),
            "XDG_STATE_HOME": str(self.state),
        }

    def run(self, command, *arguments, where=WHERE):
        """Runs a command of `launch/` to its end."""
        return subprocess.run(
            [ROOT / "launch" / command, *where, *of_tree(command), *arguments],
            capture_output=True,
            text=True,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )

    def begin(self, command, *arguments):
        """Starts a command in a process group of its own."""
        return subprocess.Popen(
            [ROOT / "launch" / command, *WHERE, *of_tree(command), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def calls(self, *verb):
        """The arguments of the calls of gcloud, or of those of a verb."""
        path = self.world / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        calls = [json.loads(line)[2:] for line in lines]
        return [call for call in calls if call[: len(verb)] == list(verb)]

    def verbs(self, but=("describe", "ssh", "scp")):
        """What was done, in order, as `tpu-vm create`."""
        return [
            " ".join(call[:2]) for call in self.calls() if call[1] not in but
        ]

    def commands(self, text=""):
        """The programs that ran on hosts, with their TPU variables."""
        path = self.world / "commands.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        entries = [json.loads(line) for line in lines]
        return [e for e in entries if text in " ".join(e["command"])]

    def home(self, host=0):
        """The home folder of a host."""
        return self.world / "vms" / "my-tpu" / str(host)

    def close(self):
        """Ends what still runs on the hosts."""
        self.send(signal.SIGKILL)

    def send(self, number):
        """Sends a signal to every process of every host."""
        mark = f"STAND_IN_VM={self.world}/".encode()
        for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes():
                    os.kill(int(path.parent.name), number)


def of_tree(command):
    """The flag by which a command installs the working tree, not HEAD."""
    installs = command in ("install", "watch")
    return [f"--commit={commit_of_tree()}"] if installs else []


@functools.cache
def commit_of_tree():
    """A commit of the working tree, which no branch has."""
    names = {f"GIT_{role}_NAME": "tests" for role in ("AUTHOR", "COMMITTER")}
    emails = {name.replace("NAME", "EMAIL"): "tests" for name in names}
    dates = {name.replace("NAME", "DATE"): "@1 +0000" for name in names}

    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            **names,
            **emails,
            **dates,
            "GIT_INDEX_FILE": f"{folder}/index",
        }

        def git(*arguments):
            return subprocess.check_output(
                ["git", *arguments], cwd=ROOT, env=environment, text=True
            ).strip()

        git("add", "--all")
        return git("commit-tree", git("write-tree"), "-m", "The working tree")


def wait_until(is_true, seconds=20):
    """Waits until a condition holds; fails if it does not in time."""
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
