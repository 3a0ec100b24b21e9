"""The parent of a pod's run: signals, exit codes, and its own end."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

# A run that ends when it is asked to, or with the code of its second argument.
RUN = """
import os, sys, time
from bert_pretrain import interruption
from bert_pretrain.devices import supervision

def work():
    with interruption.watching() as raise_if_asked:
        print(os.getpid(), flush=True)
        while len(sys.argv) == 1:
            try:
                raise_if_asked()
            except interruption.Interrupted as interrupted:
                return interrupted.code
            time.sleep(0.01)
    return int(sys.argv[1])

sys.exit(supervision.run(work, "grpc://127.0.0.1:1"))
"""


@pytest.fixture
def start():
    """`start()` -> (the parent, the process id of the run)."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_parent_ends_with_the_code_of_the_run(start):
    process, _ = start("3")
    assert process.wait(10) == 3


@pytest.mark.parametrize(
    "number, code", [(signal.SIGTERM, 75), (signal.SIGINT, 130)]
)
def test_a_signal_to_the_parent_reaches_the_run_once(start, number, code):
    process, run = start()
    assert os.getpgid(run) != os.getpgid(process.pid)
    process.send_signal(number)
    assert process.wait(10) == code


def test_a_run_that_is_killed_gives_the_code_of_a_shell(start):
    process, run = start()
    os.kill(run, signal.SIGKILL)
    assert process.wait(10) == 128 + signal.SIGKILL


def test_a_run_does_not_outlive_its_parent(start):
    process, run = start()
    process.kill()
    process.wait()
    end = time.monotonic() + 10
    while is_running(run):
        assert time.monotonic() < end
        time.sleep(0.02)


def is_running(pid):
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    return "State:\tZ" not in status
