"""Devices: strategies for CPUs, and messages where there is no TPU."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain import errors
from bert_pretrain.devices import (
    distribution,
    distribution_config,
    local_tpu,
    supervision,
    tpu_failures,
    versions,
)
from helpers import strategies


def test_without_accelerators_one_cpu_is_used():
    strategy = distribution.build_strategy(
        distribution_config.DistributionConfig()
    )
    assert strategy.num_replicas_in_sync == 1
    assert tf.config.list_physical_devices("GPU") == []


def test_an_impossible_number_of_replicas_is_refused():
    with pytest.raises(errors.UserError, match="num_cpu_replicas=0"):
        distribution_config.DistributionConfig(num_cpu_replicas=0)


def test_a_tpu_without_its_library_is_refused(monkeypatch):
    monkeypatch.setattr(versions, "installed", lambda package: None)
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    with pytest.raises(errors.UserError, match="--tpu=local: .*libtpu"):
        supervision.run(lambda: 0, "local")


def test_an_image_s_own_library_is_enough(monkeypatch, tmp_path):
    (tmp_path / "libtpu.so").write_bytes(b"")
    monkeypatch.setenv("TPU_LIBRARY_PATH", str(tmp_path / "libtpu.so"))
    monkeypatch.setattr(versions, "installed", lambda package: None)
    monkeypatch.setattr(local_tpu, "_TRIAL", "print('noise\\nCORES 8')")
    assert local_tpu.try_to_start() == 8


@pytest.mark.slow
def test_a_wheel_without_tpu_support_is_recognized_by_a_trial(monkeypatch):
    # The words are those of the plain wheel, from a process that really tries.
    monkeypatch.setattr(versions, "installed", lambda package: "2.20.0")
    with pytest.raises(errors.UserError, match="plain tensorflow wheel"):
        supervision.run(lambda: 0, "local")


# TensorFlow takes the TPU when it is imported; the trial could not get it.
TRIAL = """
import runpy, sys
from bert_pretrain.devices import local_tpu
from bert_pretrain.diagnosis import examination

def tell(*_):
    print("tensorflow" in sys.modules)
    sys.exit()

local_tpu.try_to_start = tell
examination._of_environment = lambda config: iter(())
module, *sys.argv = sys.argv[1:]
sys.argv.insert(0, module)
runpy.run_module(module, run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "evaluate", "doctor"])
def test_a_command_tries_the_tpu_before_it_loads_tensorflow(command, tmp_path):
    done = subprocess.run(
        [
            *[sys.executable, "-c", TRIAL, f"bert_pretrain.{command}"],
            *["--tpu=local", "--data_dir=none", f"--model_dir={tmp_path}"],
            *["--total_steps=9"] * (command != "evaluate"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize(
    "message, meaning",
    [
        (
            "F0000 ConfigureDistributedTpuOp_DoWork not available in this lib",
            "libtpu is too new",
        ),
        (
            "Could not satisfy device: No matching devices found for "
            "'/device:TPU_SYSTEM:0'",
            "did not load libtpu",
        ),
        ("Unknown backend XLA_TPU_JIT", "plain tensorflow wheel"),
        (
            "process_state.cc:808] RAW: Raising signal 11 with default behav",
            "without a TPU",
        ),
        (
            "ABORTED: The TPU is already in use by process 7; libtpu_lockfile",
            "another process uses",
        ),
        ("FAILED_PRECONDITION: TPU_LOAD_LIBRARY=0", "a pod's coordinator"),
        ("Please provide a TPU Name to connect to.", "no TPU is named"),
        ("first\n\nsomething that nobody has seen\n", "nobody has seen"),
    ],
)
def test_tensorflow_s_errors_are_explained(message, meaning):
    error = str(tpu_failures.translate("v5e", message))
    assert error.startswith("--tpu=v5e: ")
    assert meaning in error
    assert "\n" not in error


@pytest.mark.parametrize(
    "batch, is_whole",
    [(2, True), (6, True), (0, False), (-2, False), (7, False)],
)
def test_the_batch_is_a_multiple_of_the_replicas(batch, is_whole):
    if is_whole:
        distribution.check_batch(batch, 2)
    else:
        with pytest.raises(errors.UserError, match=f"{batch} .*2 replicas"):
            distribution.check_batch(batch, 2)


def test_precision_is_the_dtype_of_the_computation():
    for name, dtype in (("float32", tf.float32), ("bfloat16", tf.bfloat16)):
        assert (
            distribution.compute_dtype(
                distribution_config.DistributionConfig(precision=name)
            )
            == dtype
        )


def test_one_process_can_train_models_of_different_sizes():
    for size in (5, 7):
        strategy = strategies.strategy_of(2)

        @tf.function
        def add_up(strategy=strategy, size=size):
            return strategy.run(
                lambda: tf.distribute.get_replica_context().all_reduce(
                    tf.distribute.ReduceOp.SUM, tf.ones([size])
                )
            )

        for total in strategy.experimental_local_results(add_up()):
            np.testing.assert_array_equal(total, [2.0] * size)
