"""Signals take effect between two loops."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from bert_pretrain import interruption


@pytest.mark.parametrize(
    "number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 75)]
)
def test_a_signal_takes_effect_when_the_run_looks_for_it(number, code):
    before = signal.getsignal(number)
    with interruption.watching() as raise_if_asked:
        raise_if_asked()
        os.kill(os.getpid(), number)
        with pytest.raises(interruption.Interrupted) as interrupted:
            raise_if_asked()
    assert interrupted.value.code == code
    assert signal.getsignal(number) == before


def test_a_second_sigint_takes_effect_at_once_and_a_second_sigterm_does_not():
    with pytest.raises(KeyboardInterrupt), interruption.watching():
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGINT)


def signals_that(pid):
    """The signals for which a process has handlers, as a set of bits."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("SigCgt:")[2].split()[0], 16)


@pytest.mark.slow
def test_a_signal_before_tensorflow_is_loaded_ends_the_run_as_any_other(
    make_dataset, tmp_path
):
    process = subprocess.Popen(
        [
            sys.executable,
            *("-m", "bert_pretrain.train", "--model_size=tiny"),
            f"--data_dir={make_dataset(train=(13,))}",
            f"--model_dir={tmp_path}/model",
            "--total_steps=5",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not signals_that(process.pid) & 1 << signal.SIGTERM - 1:
        assert process.poll() is None and time.monotonic() < deadline
    loaded = pathlib.Path(f"/proc/{process.pid}/maps").read_text()
    assert "libtensorflow" not in loaded
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 75, error
    assert "Interrupted: before the first step" in error


@pytest.mark.slow
def test_a_run_goes_on_when_nobody_reads_its_output(make_dataset, tmp_path):
    """As in `train … | head -1`, with stderr in the same pipe."""
    process = subprocess.Popen(
        [
            sys.executable,
            *("-m", "bert_pretrain.train", "--model_size=tiny"),
            f"--data_dir={make_dataset(train=(13,))}",
            f"--model_dir={tmp_path}/model",
            *("--total_steps=6", "--steps_per_loop=1"),
            *("--global_batch_size=4", "--eval_every_steps=1"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=200) == 0
    assert (tmp_path / "model" / "train_results.json").exists()


@pytest.mark.slow
def test_other_commands_end_quietly_when_nobody_reads_their_output(
    make_dataset,
):
    process = subprocess.Popen(
        [
            sys.executable,
            *("-m", "tfrecord_builders.show_records"),
            # More output than a pipe holds.
            f"--data_dir={make_dataset(train=(1000,))}",
            *("--split=train", "--num_examples=1000"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    process.stdout.close()
    error = process.stderr.read()
    assert process.wait(timeout=60) == 141
    assert "Error" not in error and "Traceback" not in error
