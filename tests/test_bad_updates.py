"""Updates that are not finite change only the step."""

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain.training import optimizer, schedule, training_config
from helpers import strategies


@pytest.mark.parametrize("kind", ["adamw", "lamb"])
@pytest.mark.parametrize("num_replicas", [1, 2])
def test_a_bad_update_changes_the_step_only(num_replicas, kind):
    strategy = strategies.strategy_of(num_replicas)
    with strategy.scope():
        variables = [
            tf.Variable(tf.ones([2, 3]), name="kernel"),
            tf.Variable(tf.ones([3]), name="bias"),
        ]
        adam = optimizer.build(
            training_config.OptimizerConfig(optimizer=kind),
            schedule.Schedule(
                training_config.ScheduleConfig(
                    total_steps=10, warmup_steps=0, peak_learning_rate=1.0
                )
            ),
            variables,
        )

    @tf.function
    def step(gradients):
        def replica_step(gradients):
            optimizer.apply_if(
                optimizer.is_finite(tf.linalg.global_norm(gradients), []),
                adam,
                gradients,
                variables,
            )

        strategy.run(replica_step, args=(gradients,))

    def state():
        values = [*variables, *adam.variables()]
        return [v.numpy() for v in values if v is not adam.iterations]

    good = [tf.constant([[1.0, 2, 3], [4, 5, 6]]), tf.constant([1.0, 0, 1])]
    step(good)
    before = state()
    assert not np.array_equal(before[0], np.ones([2, 3]))
    for value in (np.nan, np.inf, -np.inf):
        step([good[0], good[1] * tf.constant([1, 1, value])])
        for ours, earlier in zip(state(), before, strict=True):
            np.testing.assert_array_equal(ours, earlier)
    assert adam.iterations.numpy() == 4
    # The log has the rate of the newest step, applied or not.
    assert optimizer.last_learning_rate(adam) == pytest.approx(0.7)
    step(good)
    assert adam.iterations.numpy() == 5
    assert not np.array_equal(state()[0], before[0])


def test_a_loss_may_be_bad_although_the_gradient_is_good():
    one = tf.constant(1.0)
    assert optimizer.is_finite(one, [one, one])
    assert not optimizer.is_finite(one, [one, tf.constant(np.inf)])
    assert not optimizer.is_finite(tf.constant(np.nan), [one])
