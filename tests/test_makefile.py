"""What make would do, without doing it."""

import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).parent.parent


def would_run(target, **variables):
    done = subprocess.run(
        ["make", "-n", target, *(f"{k}={v}" for k, v in variables.items())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_vocabulary_of_one_s_own_is_not_learned_anew(tmp_path):
    mine, sample = tmp_path / "vocab.txt", tmp_path / "sample" / "README.md"
    variables = {"OUTPUT": tmp_path, "VENV": tmp_path / "venv", "VOCAB": mine}
    assert "learn_vocabulary" in would_run("vocabulary", **variables)
    sample.parent.mkdir()
    for path, seconds in ((mine, 1), (sample, 2)):
        path.write_text("")
        os.utime(path, (seconds, seconds))
    assert "learn_vocabulary" not in would_run("vocabulary", **variables)
    assert "tfrecord_builders.build" in would_run("tfrecords", **variables)
