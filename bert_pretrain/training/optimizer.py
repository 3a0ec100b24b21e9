"""AdamW or LAMB, and its update, left out where it would spoil the weights.

A step whose loss or gradient is not finite counts as a step, and its examples
as consumed, but weights and the optimizer's moments stay as they were.
"""

import dataclasses
from typing import Literal

import tensorflow as tf
import tf_keras
from official.modeling import optimization

from bert_pretrain import options

# Parts of variable names: decaying these gains nothing (Devlin et al. 2019),
# and LAMB does not scale their updates (You et al. 2020, section 3).
_NOT_DECAYED = ("bias", "LayerNorm")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig(options.Options):
    """AdamW (Loshchilov and Hutter 2019) or LAMB (You et al. 2020)."""

    optimizer: Literal["adamw", "lamb"] = options.option(
        "adamw, or lamb for batches of many thousands.", "adamw"
    )
    weight_decay: float = options.option(
        "Decoupled decay, of matrices and embeddings only.", 0.01, at_least=0
    )
    beta_1: float = options.option(
        "Decay of the mean of gradients.", 0.9, at_least=0, below=1
    )
    beta_2: float = options.option(
        "Decay of the mean of squares.", 0.999, at_least=0, below=1
    )
    epsilon: float = options.option(
        "Added to the root of the squares.", 1e-6, at_least=0
    )
    max_gradient_norm: float = options.option(
        "Gradients are scaled down to this global norm; 0 leaves them.",
        1.0,
        at_least=0,
    )


def build(config, learning_rate, variables):
    """Builds the optimizer with its state for `variables`.

    It does not clip: the trainer does, once, after reducing over replicas.

    Args:
      learning_rate: a function of the step, see `schedule.Schedule`.
    """
    factory = optimization.OptimizerFactory(
        optimization.OptimizationConfig(_describe(config))
    )
    adam = factory.build_optimizer(
        learning_rate, use_legacy_optimizer=config.optimizer == "lamb"
    )
    # The state must exist before a checkpoint is restored into it.
    if _is_legacy(adam):
        adam._create_all_weights(variables)
    else:
        adam.exclude_from_weight_decay(var_names=list(_NOT_DECAYED))
        adam.build(variables)
    return adam


def apply(adam, gradients, variables):
    """Updates the variables, on gradients that are already reduced."""
    pairs = zip(gradients, variables, strict=True)
    if _is_legacy(adam):
        adam.apply_gradients(pairs, experimental_aggregate_gradients=False)
    else:
        adam.apply_gradients(pairs, skip_gradients_aggregation=True)


def count(adam):
    """Counts a step that has no update."""
    if not _is_legacy(adam):
        adam._compute_current_learning_rate()
    adam.iterations.assign_add(1)


def last_learning_rate(adam):
    """The rate of the newest step."""
    rate = adam.learning_rate
    if callable(rate):  # LAMB's gives the schedule itself.
        rate = rate(adam.iterations.numpy() - 1)
    return float(rate.numpy())


def reset(adam):
    """Forgets the means of gradients and squares; the step stays."""
    for variable in adam.variables():
        if variable.shape.rank:
            variable.assign(tf.zeros_like(variable))


def _is_legacy(adam):
    return isinstance(adam, tf_keras.optimizers.legacy.Optimizer)


def _describe(config):
    """The config in tf-models-official's terms."""
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
        # The factory wants one; what is used is given to it as an object.
        "learning_rate": {"type": "constant"},
    }


def is_finite(norm, losses):
    """Whether the gradients' global norm and all the losses are numbers.

    A gradient may be finite where the loss is not, hence both.
    """
    return tf.reduce_all(tf.math.is_finite(tf.stack([norm, *losses])))


def apply_if(is_good, adam, gradients, variables):
    """Updates the variables if `is_good`; call it in a replica's context.

    Args:
      is_good: bool [], the same on every replica.
      gradients: already reduced over the replicas.
    """

    def update():
        apply(adam, gradients, variables)

    if isinstance(tf.distribute.get_strategy(), tf.distribute.MirroredStrategy):
        _apply_and_undo(is_good, adam, variables, update)
    else:
        tf.cond(is_good, update, lambda: count(adam))


def _apply_and_undo(is_good, adam, variables, update):
    """Its replicas meet in the update, which they cannot in a branch."""
    changed = [
        *variables,
        *(v for v in adam.variables() if v is not adam.iterations),
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
