"""A function in a process of its own cannot harm its caller."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from bert_pretrain import errors
from bert_pretrain.compilation import isolation


@pytest.mark.slow
def test_the_result_is_returned_and_the_user_sees_the_title(capsys):
    answer = isolation.call(divmod, 7, 2, title="dividing 7 by 2")
    assert answer == (3, 1)
    assert capsys.readouterr().err.startswith("dividing 7 by 2 …")


def test_an_abort_is_an_error_with_title_and_signal(capsys):
    with pytest.raises(errors.UserError, match="trying: ended by SIGABRT"):
        isolation.call(os.abort, title="trying")


def test_a_killed_process_is_reported_as_out_of_memory():
    # The kernel sends SIGKILL if memory is used up.
    with pytest.raises(errors.UserError, match="memory is used up"):
        isolation.call(signal.raise_signal, signal.SIGKILL, title="trying")


@pytest.mark.slow
def test_a_defect_comes_with_its_traceback():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        isolation.call(divmod, 1, 0, title="dividing")


def test_the_process_ends_with_its_caller(tmp_path):
    caller = (
        "import os, time; from bert_pretrain.compilation import isolation; "
        f"isolation.call(os.system, 'echo $PPID > {tmp_path}/pid; sleep 60', "
        "title='sleeping')"
    )
    process = subprocess.Popen([sys.executable, "-c", caller])
    path = tmp_path / "pid"
    wait_until(lambda: path.exists() and path.read_text())
    pid = int(path.read_text())
    process.kill()
    process.wait()

    def has_ended():
        try:
            state = pathlib.Path(f"/proc/{pid}/stat").read_text()
        except FileNotFoundError:
            return True
        return state.rpartition(")")[2].split()[0] == "Z"

    wait_until(has_ended)


def wait_until(is_so):
    for _ in range(600):
        if is_so():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to be")
