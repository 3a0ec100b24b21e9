"""Compiled loops are kept on disk, or compiled again if that is impossible."""

import os
import subprocess
import sys

SOURCE = """
from bert_pretrain import numba_jit

@numba_jit.compiled
def add(one, other):
    return one + other
"""
PROGRAM = """
import loop
print(loop.add(2, 3), sum(loop.add.stats.cache_hits.values()))
"""


def run(folder, **environment):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": f"{folder}:{os.getcwd()}"}
        | environment,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_later_processes_use_the_compiled_loops(tmp_path):
    (tmp_path / "loop.py").write_text(SOURCE)
    assert run(tmp_path) == ["5", "0"]
    assert run(tmp_path) == ["5", "1"]


def test_each_process_compiles_if_nothing_can_be_kept(tmp_path):
    (tmp_path / "loop.py").write_text(SOURCE)
    # Files in place of the folders: even root cannot write there.
    for name in ("__pycache__", "home"):
        (tmp_path / name).write_text("")
    nowhere = {
        "HOME": f"{tmp_path}/home",
        "XDG_CACHE_HOME": f"{tmp_path}/home",
    }
    for _ in range(2):
        assert run(tmp_path, **nowhere) == ["5", "0"]
