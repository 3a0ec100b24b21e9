"""AdamW, and the learning rate over training: linear warmup, linear decay."""

import dataclasses

from official.modeling import optimization

from bert_pretrain import errors, options

# Parts of variable names: decaying these gains nothing (Devlin et al. 2019).
_NOT_DECAYED = ("bias", "LayerNorm")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate: 0 to the peak over warmup, then linearly back to 0."""

    total_steps: int = options.option("Optimizer steps of the whole run.")
    peak_learning_rate: float = options.option(
        "Learning rate at the end of warmup.", 1e-4
    )
    warmup_steps: int | None = options.option(
        "Optimizer steps before the peak; a tenth of total_steps, at most "
        "10,000, if not given.",
        None,
    )

    def __post_init__(self):
        if self.total_steps < 1:
            raise errors.UserError(
                f"--total_steps={self.total_steps} must be at least 1."
            )
        if not 0 <= self.num_warmup_steps < self.total_steps:
            raise errors.UserError(
                f"--warmup_steps={self.warmup_steps} must be at least 0 and "
                f"below --total_steps={self.total_steps}."
            )
        if not self.peak_learning_rate > 0:
            raise errors.UserError(
                f"--peak_learning_rate={self.peak_learning_rate} must be "
                "positive."
            )

    @property
    def num_warmup_steps(self):
        if self.warmup_steps is None:
            return min(10_000, self.total_steps // 10)
        return self.warmup_steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW (Loshchilov and Hutter 2019), with BERT's values."""

    weight_decay: float = options.option(
        "Decoupled decay, of matrices and embeddings only.", 0.01
    )
    beta_1: float = options.option("Decay of the mean of gradients.", 0.9)
    beta_2: float = options.option("Decay of the mean of squares.", 0.999)
    epsilon: float = options.option("Added to the root of the squares.", 1e-6)
    max_gradient_norm: float = options.option(
        "Gradients are scaled down to this global norm; 0 leaves them.", 1.0
    )

    def __post_init__(self):
        for name in ("beta_1", "beta_2"):
            if not 0 <= getattr(self, name) < 1:
                raise errors.UserError(
                    f"--{name}={getattr(self, name)} must be at least 0 and "
                    "below 1."
                )
        for name in ("weight_decay", "epsilon", "max_gradient_norm"):
            if getattr(self, name) < 0:
                raise errors.UserError(
                    f"--{name}={getattr(self, name)} must not be negative."
                )


def build(config, schedule, variables):
    """Builds the optimizer with its state for `variables`.

    It does not clip: the trainer does, once, after reducing over replicas.
    """
    factory = optimization.OptimizerFactory(
        optimization.OptimizationConfig(_describe(config, schedule))
    )
    adam = factory.build_optimizer(
        factory.build_learning_rate(), use_legacy_optimizer=False
    )
    adam.exclude_from_weight_decay(var_names=list(_NOT_DECAYED))
    # The state must exist before a checkpoint is restored into it.
    adam.build(variables)
    return adam


def _describe(config, schedule):
    """The two configs in tf-models-official's terms."""
    description = {
        "optimizer": {
            "type": "adamw_experimental",
            "adamw_experimental": {
                "weight_decay": config.weight_decay,
                "beta_1": config.beta_1,
                "beta_2": config.beta_2,
                "epsilon": config.epsilon,
                "global_clipnorm": None,
            },
        },
        "learning_rate": {
            "type": "polynomial",
            "polynomial": {
                "initial_learning_rate": schedule.peak_learning_rate,
                "end_learning_rate": 0.0,
                "power": 1.0,
                "decay_steps": (
                    schedule.total_steps - schedule.num_warmup_steps
                ),
                # Counted from the end of warmup, so that the peak is reached.
                "offset": schedule.num_warmup_steps,
            },
        },
    }
    if schedule.num_warmup_steps:
        description["warmup"] = {
            "type": "linear",
            "linear": {
                "warmup_steps": schedule.num_warmup_steps,
                "warmup_learning_rate": 0.0,
            },
        }
    return description
