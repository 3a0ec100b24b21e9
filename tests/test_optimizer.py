"""AdamW and LAMB against references in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain import errors
from bert_pretrain.training import optimizer, schedule, training_config

# The rates of a run of 20 steps with a peak of 0.05 after 3 steps.
SCHEDULE = training_config.ScheduleConfig(
    total_steps=20, warmup_steps=3, peak_learning_rate=0.05
)


def adamw(update, value, is_matrix):
    """Loshchilov and Hutter 2019, algorithm 2, with bias correction."""
    return update + 0.1 * value * is_matrix


def lamb(update, value, is_matrix):
    """You et al. 2020, algorithm 2."""
    if not is_matrix:
        return update
    update = update + 0.1 * value
    return update * np.linalg.norm(value) / np.linalg.norm(update)


@pytest.mark.parametrize("rule", [adamw, lamb])
def test_updates_equal_a_reference(rule):
    config = training_config.OptimizerConfig(
        optimizer=rule.__name__,
        weight_decay=0.1,
        beta_1=0.8,
        beta_2=0.95,
        epsilon=1e-6,
    )
    rng = np.random.default_rng(0)
    values = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in {
            "dense/kernel": (4, 3),
            "dense/bias": (3,),
            "LayerNorm/gamma": (3,),
            "LayerNorm/beta": (3,),
            "word_embeddings/weight": (7, 2),
        }.items()
    }
    variables = [
        tf.Variable(value, name=name) for name, value in values.items()
    ]
    adam = optimizer.build(config, schedule.Schedule(SCHEDULE), variables)
    expected = {
        name: value.astype(np.float64) for name, value in values.items()
    }
    means = {name: 0.0 for name in values}
    squares = {name: 0.0 for name in values}
    for step in range(8):
        gradients = {
            name: rng.normal(size=value.shape).astype(np.float32)
            for name, value in values.items()
        }
        optimizer.apply(
            adam,
            [tf.constant(gradients[name]) for name in values],
            variables,
        )
        rate = 0.05 * min(step / 3, (20 - step) / 17)
        assert optimizer.last_learning_rate(adam) == pytest.approx(rate)
        for name, gradient in gradients.items():
            means[name] = 0.8 * means[name] + 0.2 * gradient
            squares[name] = 0.95 * squares[name] + 0.05 * gradient**2
            update = (
                means[name]
                / (1 - 0.8 ** (step + 1))
                / (np.sqrt(squares[name] / (1 - 0.95 ** (step + 1))) + 1e-6)
            )
            update = rule(
                update,
                expected[name],
                name in ("dense/kernel", "word_embeddings/weight"),
            )
            expected[name] = expected[name] - rate * update
    for variable in variables:
        np.testing.assert_allclose(
            variable,
            expected[variable.name.removesuffix(":0")],
            rtol=1e-5,
            atol=1e-5,
            err_msg=variable.name,
        )


@pytest.mark.parametrize("kind", ["adamw", "lamb"])
def test_a_reset_sets_the_moments_to_zero_and_keeps_the_step(kind):
    weight = tf.Variable([[1.0, 2.0]], name="kernel")
    adam = optimizer.build(
        training_config.OptimizerConfig(optimizer=kind),
        schedule.Schedule(SCHEDULE),
        [weight],
    )
    optimizer.apply(adam, [tf.constant([[3.0, 4.0]])], [weight])
    moments = [v for v in adam.variables() if v.shape.rank]
    assert len(moments) == 2
    assert all(np.all(v.numpy() > 0) for v in moments)
    optimizer.reset(adam)
    assert all(np.all(v.numpy() == 0) for v in moments)
    assert int(adam.iterations) == 1


@pytest.mark.parametrize(
    "values, message",
    [
        ({"beta_2": 1.0}, "beta_2=1.0"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
    ],
)
def test_an_impossible_optimizer_is_refused(values, message):
    with pytest.raises(errors.UserError, match=message):
        training_config.OptimizerConfig(**values)
