"""Pods: real workers on this machine, behind a grpc:// address.

What hosts do is real: variables, input, checkpoints, and losing a worker. The
steps are executed on CPUs, because the workers have no TPUs.
"""

import collections
import dataclasses
import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from bert_pretrain import errors, interruption
from bert_pretrain.compilation import isolation
from bert_pretrain.data import input_pipeline
from bert_pretrain.devices import distribution, pod, supervision
from bert_pretrain.pretraining import blueprint, pretraining
from bert_pretrain.tpu import absent_tpu, bridge, rehearsal
from helpers import pods, tpu_programs, training

ROOT = pathlib.Path(__file__).parent.parent
# A process that has no workers yet: TensorFlow connects to one cluster only.
ENVIRONMENT = {
    "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
# How long a worker may be silent, here and as the documents say.
SILENCE_SECONDS, STATED_SECONDS = 5, 90


def in_new_process(function, *args):
    return isolation.call(
        function, *args, title="a coordinator", environment=ENVIRONMENT
    )


@pytest.mark.parametrize(
    "tpu, wrong",
    [
        ("grpc://10.0.0.1", "10.0.0.1"),
        ("grpc://10.0.0.1:8470,", ""),
        ("grpc://10.0.0.1:8470, 10.0.0.2:8470", " 10.0.0.2:8470"),
    ],
)
def test_a_wrong_address_is_named(tpu, wrong):
    for use in (
        distribution.connect,
        lambda tpu: supervision.run(lambda: 0, tpu),
    ):
        with pytest.raises(errors.UserError, match=f"'{wrong}' is no address"):
            use(tpu)


def test_a_worker_that_does_not_answer_is_waited_for_and_named(capsys):
    (port,) = pods.free_ports(1)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": [f"127.0.0.1:{port}"]})
    )
    with pytest.raises(interruption.Interrupted) as raised:
        pod.connect(resolver, wait_seconds=1)
    assert raised.value.code == 75
    assert f"no worker answers at 127.0.0.1:{port}" in str(raised.value)
    assert f"waiting for the worker at 127.0.0.1:{port}" in (
        capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_port_in_use_is_told():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "bert_pretrain.worker", f"--port={port}"],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 2
    assert f"error: --port={port}: " in done.stderr


# ------------------------------------------------------------- four hosts


def facts(tpu, config):
    """What a coordinator sees of a pod of four hosts, with two TPUs each."""
    distribution.connect(tpu)
    strategy = absent_tpu.AbsentTPUStrategy(8, 4, on_workers=True)
    parts = tpu_programs.setup_of(config, strategy)
    trainer = parts.trainer
    batch = next(iter(trainer.train_dataset))
    loop = bridge.check(
        trainer.create_train_loop_fn().get_concrete_function(
            iter(trainer.train_dataset), tf.constant(3)
        )
    )
    phase = parts.phase
    num_examples = phase.manifest.splits["train"].num_examples
    epoch = input_pipeline.train_batches(
        strategy,
        phase.data_dir,
        phase.manifest,
        8,
        config.seed,
        range(num_examples),
        phase.masking,
    )
    rows = [
        row.tobytes()
        for one in epoch
        for replica in strategy.experimental_local_results(one["input_ids"])
        for row in replica.numpy()
    ]
    return {
        "variables": [v.device for v in trainer.state.variables[0].values],
        "rows": [
            ids.device
            for ids in strategy.experimental_local_results(batch["input_ids"])
        ],
        "fetches": loop.host["IteratorGetNext"],
        "sums": loop.device["CrossReplicaSum"],
        "num_weights": len(trainer.state.variables),
        "epoch": rows,
    }


@pytest.mark.slow
def test_four_hosts_hold_variables_and_read_each_example_once(
    make_dataset, tmp_path
):
    config = tpu_programs.config_of("lamb", make_dataset, tmp_path)
    # Distinct rows, as many as batches hold.
    data_dir = make_dataset("four", train=(8, 8, 8, 8))
    config = dataclasses.replace(config, data_dir=data_dir)
    with pods.Workers(4, tmp_path, num_cpus=2) as workers:
        found = in_new_process(facts, workers.tpu, config)
        loaded = [workers.loaded(task) for task in range(4)]
    expected = [
        f"/job:worker/replica:0/task:{host}/device:CPU:{cpu}"
        for host in range(4)
        for cpu in range(2)
    ]
    assert found["variables"] == expected
    # Batches are made where they are used.
    assert [tf.DeviceSpec.from_string(d).task for d in found["rows"]] == [
        *[0, 0, 1, 1, 2, 2, 3, 3]
    ]
    # The real step over four hosts: a batch for each replica, one sum for each
    # gradient and one for all else.
    assert found["fetches"] == 8
    assert found["sums"] == found["num_weights"] + 1
    (phase,) = blueprint.plan(config)
    batches = input_pipeline.train_batches(
        tf.distribute.get_strategy(),
        data_dir,
        phase.manifest,
        8,
        config.seed,
        range(32),
    )
    rows = [row.tobytes() for b in batches for row in b["input_ids"].numpy()]
    assert len(set(rows)) == 32
    assert collections.Counter(found["epoch"]) == collections.Counter(rows)
    # The input has operations of TensorFlow itself only.
    assert not any("tensorflow_text" in maps for maps in loaded)


# -------------------------------------------- files of the coordinator only


def refusals(tpu, config):
    """Why runs are refused whose files are in the coordinator's memory."""
    for path in pathlib.Path(config.data_dir).iterdir():
        tf.io.gfile.copy(str(path), f"ram://set/{path.name}")
    saving = dataclasses.replace(config.saving, model_dir="ram://model")
    told = []
    with rehearsal.on_absent_tpus(2, 2, tpu):
        for run in (
            dataclasses.replace(config, data_dir="ram://set"),
            dataclasses.replace(config, saving=saving),
        ):
            try:
                pretraining.train(run)
            except errors.UserError as error:
                told.append(str(error))
    return told, tf.io.gfile.listdir("ram://model")


@pytest.mark.slow
def test_files_that_only_the_coordinator_sees_are_refused(
    make_config, tmp_path
):
    config = make_config()
    with pods.Workers(2, tmp_path) as workers:
        told, left = in_new_process(refusals, workers.tpu, config)
        address = f"127.0.0.1:{workers.ports[0]}"
    of_data, of_model = told
    assert of_data.startswith("ram://set: the worker at " + address)
    assert of_model.startswith("ram://model: the worker at " + address)
    assert "gs://" in of_data
    # Before the first step, and before a file is left behind.
    assert not pathlib.Path(config.saving.model_dir, "metrics.jsonl").exists()
    assert not [name for name in left if "seen" in name]


# ---------------------------------------------------------- lost workers


@dataclasses.dataclass
class Coordinator:
    """A run on a pod, in a process of its own."""

    process: subprocess.Popen
    log: pathlib.Path

    def wait_for(self, text):
        end = time.monotonic() + 120
        while text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)


@pytest.fixture
def start(make_dataset, tmp_path):
    """`start(workers)` starts a run of twelve steps, or goes on with it."""
    data_dir = make_dataset(train=(13, 7, 9, 11), pairing="nsp")
    training.write_small_bert(tmp_path / "bert.json")
    flags = [
        f"--data_dir={data_dir}",
        f"--bert_config={tmp_path / 'bert.json'}",
        f"--model_dir={tmp_path / 'model'}",
        "--global_batch_size=8",
        "--total_steps=12",
        "--peak_learning_rate=3e-3",
        "--steps_per_loop=2",
        "--checkpoint_every_steps=4",
    ]
    started = []

    def start(workers, num_hosts=2):
        log = tmp_path / f"run-{len(started)}.log"
        tpu = [f"--tpu={workers.tpu}"] if workers else []
        with log.open("wb") as file:
            process = subprocess.Popen(
                [
                    *[sys.executable, "-m", "helpers.coordinator"],
                    *["2", str(num_hosts), str(SILENCE_SECONDS)],
                    *tpu,
                    *flags,
                ],
                stdout=file,
                stderr=file,
                env={**os.environ, **ENVIRONMENT},
            )
        started.append(process)
        return Coordinator(process, log)

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_run_that_lost_workers_goes_on_when_they_are_back(start, tmp_path):
    def assert_lost(run, task):
        """Checks that the run ends in time, because of this worker."""
        assert run.process.wait(STATED_SECONDS) == 75, run.log.read_text()
        last_line = run.log.read_text().strip().splitlines()[-1]
        assert last_line.startswith(
            f"Interrupted: the worker at 127.0.0.1:{workers.ports[task]} is "
            "lost"
        )

    with pods.Workers(2, tmp_path) as workers:
        first = start(workers)
        first.wait_for("step 6/12")
        workers.kill(1)
        assert_lost(first, 1)

        second = start(workers)
        second.wait_for("waiting for the worker")
        workers.start(1)
        second.wait_for("step 8/12")
        assert "resuming at step 4" in second.log.read_text()
        # TensorFlow alone would wait for a worker that hangs without an end.
        workers.freeze(0)
        assert_lost(second, 0)
        workers.kill(0)
        workers.start(0)

        third = start(workers)
        assert third.process.wait(120) == 0, third.log.read_text()
        # Connected workers end when they are asked to.
        assert workers.end(0) == 0
    model_dir = tmp_path / "model"
    values = training.values_of(model_dir / "ckpt-12")
    model_dir.rename(tmp_path / "lost")
    # The same pod in one process, undisturbed.
    whole = start(None)
    assert whole.process.wait(120) == 0, whole.log.read_text()
    expected = training.values_of(model_dir / "ckpt-12")
    training.assert_same(values, expected, but=("seconds",))
