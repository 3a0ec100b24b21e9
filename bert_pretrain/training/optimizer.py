"""AdamW or LAMB, and an update that is left out if it would spoil the weights.

A step with a loss or gradient that is not finite counts as a step, and its
examples count as consumed, but the weights and the optimizer's moments stay as
they were.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras
from official.modeling import optimization

from bert_pretrain.training import schedule, training_config

# Variables with these words in their names are not decayed (Devlin et al.
# 2019), and LAMB does not scale their updates (You et al. 2020, section 3).
_NOT_DECAYED = ("bias", "LayerNorm")


def build(
    config: training_config.OptimizerConfig,
    learning_rate: schedule.Schedule,
    variables: Sequence[tf.Variable],
    rate_factors: Sequence[float] | None = None,
) -> tf_keras.optimizers.Optimizer:
    """Builds the optimizer with its state for `variables`.

    The optimizer does not clip. The trainer does, once, after it has reduced
    the gradients over the replicas.

    Args:
      rate_factors: of each variable, for AdamW: its learning rate is so many
        times that of the schedule.
    """
    factory = optimization.OptimizerFactory(
        optimization.OptimizationConfig(_describe(config))
    )
    optimizer = factory.build_optimizer(
        learning_rate, use_legacy_optimizer=config.optimizer == "lamb"
    )
    if rate_factors is not None:
        assert isinstance(optimizer, tf_keras.optimizers.AdamW)
        optimizer = _ManyRates.from_optimizer(
            optimizer, learning_rate, variables, rate_factors
        )
    # The state must exist before a checkpoint is restored into it.
    if _is_legacy(optimizer):
        optimizer._create_all_weights(variables)
    else:
        optimizer.exclude_from_weight_decay(var_names=list(_NOT_DECAYED))
        optimizer.build(variables)
    return optimizer


class _ManyRates(tf_keras.optimizers.AdamW):
    """AdamW with a learning rate for each variable.

    The decay of weights is that of the schedule's own rate.
    """

    _factor = 1.0
    _factors: dict[Any, float] = {}

    @classmethod
    def from_optimizer(
        cls,
        optimizer: tf_keras.optimizers.AdamW,
        learning_rate: schedule.Schedule,
        variables: Sequence[tf.Variable],
        rate_factors: Sequence[float],
    ) -> "_ManyRates":
        """An optimizer with the same settings, and a factor for each rate."""
        made = cls.from_config(
            {**optimizer.get_config(), "learning_rate": learning_rate}
        )
        made._factors = {
            made._var_key(variable): factor
            for variable, factor in zip(variables, rate_factors, strict=True)
        }
        return made

    @property
    def learning_rate(self) -> tf.Tensor:
        """The rate of the variable that is updated now, else the schedule's."""
        rate = super().learning_rate
        return rate if self._factor == 1 else rate * self._factor

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        tf_keras.optimizers.AdamW.learning_rate.fset(self, rate)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Updates a variable with its own rate."""
        self._factor = self._factors[self._var_key(variable)]
        try:
            super().update_step(gradient, variable)
        finally:
            self._factor = 1.0


def _describe(config: training_config.OptimizerConfig) -> dict:
    """The config in the words of tf-models-official."""
    common = {
        "beta_1": config.beta_1,
        "beta_2": config.beta_2,
        "epsilon": config.epsilon,
        "global_clipnorm": None,
    }
    optimizers = {
        "adamw": {
            "type": "adamw_experimental",
            "adamw_experimental": {
                **common,
                "weight_decay": config.weight_decay,
            },
        },
        "lamb": {
            "type": "lamb",
            "lamb": {
                **common,
                "weight_decay_rate": config.weight_decay,
                "exclude_from_weight_decay": list(_NOT_DECAYED),
            },
        },
    }
    return {
        "optimizer": optimizers[config.optimizer],
        # The factory requires one. The real one is given to it as an object.
        "learning_rate": {"type": "constant"},
    }


def is_finite(norm: tf.Tensor, losses: Sequence[tf.Tensor]) -> tf.Tensor:
    """bool []: whether the gradients' global norm and all losses are finite.

    The gradient can be finite although the loss is not, so both are checked.
    """
    return tf.reduce_all(tf.math.is_finite(tf.stack([norm, *losses])))


def apply_if(
    is_good: tf.Tensor,
    optimizer: tf_keras.optimizers.Optimizer,
    gradients: Sequence[tf.Tensor],
    variables: Sequence[tf.Variable],
) -> None:
    """Updates the variables if `is_good`; call it in a replica's context.

    Args:
      is_good: bool [], the same on every replica.
      gradients: already reduced over the replicas.
    """

    def update() -> None:
        apply(optimizer, gradients, variables)

    if isinstance(tf.distribute.get_strategy(), tf.distribute.MirroredStrategy):
        _apply_and_undo(is_good, optimizer, variables, update)
    else:
        tf.cond(is_good, update, lambda: _count(optimizer))


def apply(
    optimizer: tf_keras.optimizers.Optimizer,
    gradients: Sequence[tf.Tensor],
    variables: Sequence[tf.Variable],
) -> None:
    """Updates the variables with gradients that are already reduced."""
    pairs = zip(gradients, variables, strict=True)
    if _is_legacy(optimizer):
        optimizer.apply_gradients(pairs, experimental_aggregate_gradients=False)
    else:
        optimizer.apply_gradients(pairs, skip_gradients_aggregation=True)


def _count(optimizer: tf_keras.optimizers.Optimizer) -> None:
    """Counts a step that has no update."""
    if not _is_legacy(optimizer):
        optimizer._compute_current_learning_rate()
    optimizer.iterations.assign_add(1)


def _apply_and_undo(
    is_good: tf.Tensor,
    optimizer: tf_keras.optimizers.Optimizer,
    variables: Sequence[tf.Variable],
    update: Callable[[], None],
) -> None:
    """Updates, then puts the old values back unless `is_good`.

    The replicas of a MirroredStrategy synchronize during the update, which
    TensorFlow does not allow inside a branch.
    """
    changed = [
        *variables,
        *(v for v in optimizer.variables() if v is not optimizer.iterations),
    ]
    before = [tf.identity(variable) for variable in changed]
    update()

    def undo(strategy, is_good, before):
        for variable, value in zip(changed, before, strict=True):
            strategy.extended.update(
                variable,
                lambda v, value, is_good: v.assign(tf.where(is_good, v, value)),
                args=(value, is_good),
                group=False,
            )

    tf.distribute.get_replica_context().merge_call(undo, args=(is_good, before))


def last_learning_rate(optimizer: tf_keras.optimizers.Optimizer) -> float:
    """The learning rate of the newest step."""
    rate = optimizer.learning_rate
    if callable(rate):  # LAMB gives the schedule itself.
        rate = rate(optimizer.iterations.numpy() - 1)
    return float(rate.numpy())


def reset(optimizer: tf_keras.optimizers.Optimizer) -> None:
    """Sets the means of gradients and squares to zero; the step stays."""
    for variable in optimizer.variables():
        if variable.shape.rank:
            variable.assign(tf.zeros_like(variable))


def _is_legacy(optimizer: tf_keras.optimizers.Optimizer) -> bool:
    return isinstance(optimizer, tf_keras.optimizers.legacy.Optimizer)
