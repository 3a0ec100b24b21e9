"""AdamW against a reference in NumPy, and the schedule's exact values."""

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain import errors, optimizer


def rates(schedule, steps):
    weight = tf.Variable([1.0])
    adam = optimizer.build(optimizer.OptimizerConfig(), schedule, [weight])
    return [float(adam._learning_rate(step)) for step in steps]


def test_the_rate_rises_to_the_peak_and_falls_to_zero():
    schedule = optimizer.ScheduleConfig(
        total_steps=110, warmup_steps=10, peak_learning_rate=2e-3
    )
    np.testing.assert_allclose(
        rates(schedule, [0, 1, 5, 9, 10, 11, 60, 109, 110, 111]),
        [0, 2e-4, 1e-3, 1.8e-3, 2e-3, 1.98e-3, 1e-3, 2e-5, 0, 0],
        rtol=1e-5,
        atol=1e-9,
    )


def test_without_warmup_the_first_rate_is_the_peak():
    schedule = optimizer.ScheduleConfig(
        total_steps=4, warmup_steps=0, peak_learning_rate=1.0
    )
    np.testing.assert_allclose(
        rates(schedule, range(5)), [1, 0.75, 0.5, 0.25, 0]
    )


def test_warmup_is_a_tenth_if_not_given():
    warmup = {
        total: optimizer.ScheduleConfig(total_steps=total).num_warmup_steps
        for total in (5, 300, 10**6)
    }
    assert warmup == {5: 0, 300: 30, 10**6: 10_000}


def test_updates_equal_a_reference_with_decoupled_decay():
    """Loshchilov and Hutter 2019, algorithm 2, with Adam's bias correction."""
    config = optimizer.OptimizerConfig(
        weight_decay=0.1, beta_1=0.8, beta_2=0.95, epsilon=1e-6
    )
    schedule = optimizer.ScheduleConfig(
        total_steps=20, warmup_steps=3, peak_learning_rate=0.05
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
    adam = optimizer.build(config, schedule, variables)
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
        adam.apply_gradients(
            [
                (tf.constant(gradients[v.name.removesuffix(":0")]), v)
                for v in variables
            ]
        )
        rate = 0.05 * min(step / 3, (20 - step) / 17)
        for name, gradient in gradients.items():
            means[name] = 0.8 * means[name] + 0.2 * gradient
            squares[name] = 0.95 * squares[name] + 0.05 * gradient**2
            update = (
                means[name]
                / (1 - 0.8 ** (step + 1))
                / (np.sqrt(squares[name] / (1 - 0.95 ** (step + 1))) + 1e-6)
            )
            if name in ("dense/kernel", "word_embeddings/weight"):
                update = update + 0.1 * expected[name]
            expected[name] = expected[name] - rate * update
    for variable in variables:
        np.testing.assert_allclose(
            variable,
            expected[variable.name.removesuffix(":0")],
            rtol=1e-5,
            atol=1e-5,
            err_msg=variable.name,
        )


@pytest.mark.parametrize(
    "values, message",
    [
        ({"total_steps": 0}, "total_steps=0"),
        ({"total_steps": 5, "warmup_steps": 5}, "warmup_steps=5"),
        (
            {"total_steps": 5, "peak_learning_rate": 0.0},
            "peak_learning_rate=0.0",
        ),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(values, message):
    with pytest.raises(errors.UserError, match=message):
        optimizer.ScheduleConfig(**values)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"beta_2": 1.0}, "beta_2=1.0"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
    ],
)
def test_an_optimizer_that_cannot_be_is_refused(values, message):
    with pytest.raises(errors.UserError, match=message):
        optimizer.OptimizerConfig(**values)
