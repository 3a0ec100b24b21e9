"""A device's program: its contents, and that it computes what a CPU does."""

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain.kernels import fused_operations
from bert_pretrain.tpu import absent_tpu, device_program, rehearsal
from helpers import strategies, tpu_programs

pytest.importorskip("jax")

pytestmark = pytest.mark.slow

# For float32 numbers up to 1 after four updates of 3e-3. Measured: 1.7e-7.
TOLERANCE = 2e-6


def test_a_step_with_the_kernel_computes_what_the_cpu_computes(
    make_dataset, tmp_path
):
    config = tpu_programs.config_of("packed", make_dataset, tmp_path)
    with rehearsal.on_absent_tpus(2) as tpus:
        on_tpu = tpu_programs.setup_of(config, tpus)
        told = learn(on_tpu)
    assert tpu_programs.num_sums(tpus) == {
        "Trainer._replica_step": [len(on_tpu.trainer.state.variables) + 1],
        "Trainer._replica_norm": [0],
        "Trainer._replica_begin": [0],
        "Evaluator._replica_step": [0],
        "RunningSums.reset": [0],
        "RunningSums._replica_gather": [1, 1],
    }
    on_cpu = tpu_programs.setup_of(config, strategies.strategy_of(2))
    expected = learn(on_cpu)
    for part, values in expected.items():
        assert told[part] == pytest.approx(values, rel=1e-6, abs=1e-6), part

    ours, theirs = (variables(p.trainer.state) for p in (on_tpu, on_cpu))
    assert len(ours) == len(theirs) > 60
    for one, other in zip(ours, theirs, strict=True):
        for replica in one.values:
            np.testing.assert_array_equal(replica, one.values[0], one.name)
        np.testing.assert_allclose(
            one, other, rtol=0, atol=TOLERANCE, err_msg=one.name
        )


def learn(parts):
    """The output of two loops and an evaluation."""
    return {
        "first": parts.trainer.train(tf.constant(2)),
        "second": parts.trainer.train(tf.constant(2)),
        "evaluation": parts.evaluator.evaluate(tf.constant(2)),
    }


def variables(state):
    """All values in a checkpoint."""
    counters = (state.num_examples, state.num_predictions)
    return [*state.bert.weights, *state.optimizer.variables(), *counters]


def test_dropout_makes_no_constant_as_large_as_a_tensor():
    strategy = absent_tpu.AbsentTPUStrategy(2)
    with strategy.scope():
        seed = tf.Variable([1, 2], dtype=tf.int32)

    def drop():
        return fused_operations.dropout(
            tf.ones([4, 512, 512]), 0.1, tf.convert_to_tensor(seed)
        )

    program = device_program.of_run(strategy, drop)
    assert len(program.hlo) < 100_000
