"""Devices: strategies for CPUs, and messages where there is no TPU."""

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain import errors
from bert_pretrain.devices import (
    distribution,
    distribution_config,
    tpu_failures,
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


@pytest.mark.slow
def test_a_tpu_without_its_library_is_refused():
    with pytest.raises(errors.UserError, match="--tpu=local: .*libtpu"):
        distribution.build_strategy(
            distribution_config.DistributionConfig(tpu="local")
        )


@pytest.mark.slow
def test_a_wheel_without_tpu_support_is_recognized_by_a_trial(monkeypatch):
    # The words are those of the plain wheel, from a process that really tries.
    monkeypatch.setattr(tpu_failures, "_is_installed", lambda package: True)
    with pytest.raises(errors.UserError, match="plain tensorflow wheel"):
        distribution.build_strategy(
            distribution_config.DistributionConfig(tpu="local")
        )


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
