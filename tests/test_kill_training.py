"""Runs that are killed at random moments end as undisturbed ones, to the bit.

`KILL_SEEDS=20 pytest tests/test_kill_training.py` tries that many seeds on each
kind of run.
"""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

pytestmark = pytest.mark.slow

NUM_SEEDS = int(os.environ.get("KILL_SEEDS", "1"))
NUM_KILLS = 1 if NUM_SEEDS == 1 else 2  # of each run
TOTAL_STEPS = 40
# The number of replicas, and whether there are phases, with other rows, dynamic
# masks, accumulation and LAMB.
KINDS = [(2, False), (1, True)] + [(1, False)] * (NUM_SEEDS > 1)
# Imports all that a run needs, which takes longer than the run, and forks. A
# line of flags on its input starts a run, and an empty line waits for its end.
SERVER = """
import json, os, sys
from bert_pretrain import command_line, train
from bert_pretrain.pretraining import pretraining_config
print("ready", flush=True)
for line in sys.stdin:
    if not line.strip():
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        continue
    sys.argv = ["train", *json.loads(line)]
    log = os.open(sys.argv.pop(), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(0)
    command_line.run(train.main, pretraining_config.TrainingConfig)
"""


class Server:
    """Runs of the training program, one at a time."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "ready"

    def start(self, flags, log):
        """Starts a run and returns its process id."""
        return int(self._ask(json.dumps([*flags, str(log)])))

    def wait(self):
        """Waits for the end of the run and returns its exit code."""
        return int(self._ask(""))

    def close(self):
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, line):
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self):
        return self._process.stdout.readline().strip()


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def make_flags(make_dataset, tmp_path):
    # Five shards in four streams. An epoch is not a whole number of batches.
    data_dir = make_dataset(train=(13, 7, 9, 11, 5), pairing="nsp")
    others = make_dataset("others", train=(9, 8), pairing="nsp", masking="none")
    phases = tmp_path / "phases.yaml"
    phases.write_text(
        f"""
        - from_step: 16
          data_dir: {others}
          global_batch_size: 4
          accumulation_steps: 2
        """
    )
    bert_config = tmp_path / "bert.json"
    bert_config.write_text(
        json.dumps(
            {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 32,
                "max_position_embeddings": 16,
                "hidden_dropout_prob": 0.1,
                "attention_probs_dropout_prob": 0.1,
            }
        )
    )

    def make(model_dir, num_replicas, has_phases):
        flags = [f"--phases={phases}", "--optimizer=lamb"] * has_phases
        return flags + [
            f"--data_dir={data_dir}",
            f"--model_dir={model_dir}",
            f"--bert_config={bert_config}",
            f"--num_cpu_replicas={num_replicas}",
            "--global_batch_size=6",
            f"--total_steps={TOTAL_STEPS}",
            "--peak_learning_rate=3e-3",
            "--steps_per_loop=3",
            "--checkpoint_every_steps=2",
            "--eval_every_steps=7",
        ]

    return make


@pytest.mark.parametrize("num_replicas, has_phases", KINDS)
def test_a_run_that_is_killed_ends_as_an_undisturbed_one(
    server, make_flags, tmp_path, num_replicas, has_phases
):
    kind = num_replicas, has_phases
    whole = tmp_path / "whole"
    server.start(make_flags(whole, *kind), tmp_path / "whole.log")
    assert server.wait() == 0, (tmp_path / "whole.log").read_text()
    assert len(log_of(whole)) >= 18 + 7  # loops and evaluations
    for seed in range(NUM_SEEDS):
        model_dir = tmp_path / f"killed-{seed}"
        rng = random.Random(seed)
        moments = []
        for _ in range(NUM_KILLS):
            flags = make_flags(model_dir, *kind)
            log = tmp_path / f"killed-{seed}.log"
            pid = server.start(flags, log)
            moments.append(wait_for_a_moment(rng, model_dir))
            os.kill(pid, signal.SIGKILL)
            assert server.wait() in (-signal.SIGKILL, 0)
        server.start(flags, log)
        assert server.wait() == 0, log.read_text()
        print(f"{kind}, seed {seed}: killed {moments}")
        check_same(model_dir, whole)


def wait_for_a_moment(rng, model_dir):
    """Waits for a random time, from the start or from a line of the log."""
    if rng.random() < 0.2:
        seconds = rng.uniform(0, 4)
        time.sleep(seconds)
        return f"{seconds:.2f} s after the start"
    num_lines = count_lines(model_dir)
    num_more = rng.randrange(1, 14)  # of some 25 lines
    end = time.monotonic() + 60
    while count_lines(model_dir) < num_lines + num_more:
        if time.monotonic() > end or is_done(model_dir):
            break
        time.sleep(0.001)
    # A loop with its evaluation and checkpoint takes about this long.
    seconds = rng.uniform(0, 0.2)
    time.sleep(seconds)
    return f"{1000 * seconds:.0f} ms after line {num_lines + num_more}"


def count_lines(model_dir):
    path = pathlib.Path(model_dir) / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def is_done(model_dir):
    return (pathlib.Path(model_dir) / "train_results.json").exists()


def check_same(actual_dir, expected_dir):
    actual, expected = map(values_of, (actual_dir, expected_dir))
    assert len(expected) > 50
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)
    assert log_of(actual_dir) == log_of(expected_dir)


def values_of(model_dir):
    reader = tf.train.load_checkpoint(f"{model_dir}/ckpt-{TOTAL_STEPS}")
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        # The time that a run took is no part of its result.
        if not name.startswith(("seconds", "save_counter", "_CHECKPOINTABLE"))
    }


def log_of(model_dir):
    """The log without the values that depend on the machine's speed."""
    names = "kind", "step", "num_", "loss", "accuracy", "norm", "rate", "bad"
    return [
        {
            name: value
            for name, value in json.loads(line).items()
            if any(part in name for part in names) and "second" not in name
        }
        for line in (model_dir / "metrics.jsonl").read_text().splitlines()
    ]
