"""The learning rate over a run, and the clock that may hurry it.

A schedule is a shape over the run's steps: a rise to the peak, then the way
down to zero. With a time budget (Izsak et al. 2021, section 3.2) the place in
the shape is the share of the steps that are done, or of the minutes that have
gone by, whichever is more; so it is always run through to its end.
"""

import dataclasses
import math
import time
from typing import Literal

import tensorflow as tf
import tf_keras

from bert_pretrain import errors, options

# Smith 2018 (arXiv 1803.09820), section 5: two equal sides that start and end
# at a tenth of the peak, then a last part of the run that falls to zero.
_CYCLE_RISE = 0.45
_CYCLE_BASE = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig(options.Options):
    """How long a run is, and its learning rate."""

    total_steps: int = options.option(
        "Optimizer steps of the whole run.", at_least=1
    )
    max_minutes: float = options.option(
        "Time budget: the run ends after so many minutes, and the schedule "
        "with it; 0 for none. What is resumed goes on at the time it had.",
        0.0,
        at_least=0,
    )
    schedule: Literal["linear", "cosine", "one_cycle", "constant"] = (
        options.option(
            "After warmup, the rate falls to zero in a line (linear) or in "
            "half a cosine wave (cosine), or stays until the cooldown "
            "(constant); one_cycle rises for 45 % of the run, falls as long, "
            "and ends at zero.",
            "linear",
        )
    )
    peak_learning_rate: float = options.option(
        "Learning rate at the end of warmup.", 1e-4, above=0
    )
    warmup_steps: int | None = options.option(
        "Optimizer steps before the peak; a tenth of total_steps, at most "
        "10,000, if not given. With a time budget, the same share of it.",
        None,
        at_least=0,
    )
    cooldown_fraction: float = options.option(
        "The last share of a constant schedule, in which it falls to zero.",
        0.2,
        above=0,
        at_most=1,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.num_warmup_steps >= self.total_steps:
            raise errors.UserError(
                f"--warmup_steps={self.warmup_steps} must be below "
                f"--total_steps={self.total_steps}."
            )
        if self.schedule == "one_cycle":
            if self.warmup_steps is not None:
                raise errors.UserError(
                    f"--warmup_steps={self.warmup_steps} and "
                    "--schedule=one_cycle both say when the peak is; leave "
                    "one out."
                )
        elif self.schedule == "constant" and (
            self.num_warmup_steps > self.total_steps - self.num_cooldown_steps
        ):
            raise errors.UserError(
                f"--cooldown_fraction={self.cooldown_fraction} of "
                f"{self.total_steps} steps begins before the "
                f"{self.num_warmup_steps} of warmup are done; make either "
                "smaller."
            )

    @property
    def num_warmup_steps(self):
        if self.schedule == "one_cycle":
            return int(_CYCLE_RISE * self.total_steps)
        if self.warmup_steps is None:
            return min(10_000, self.total_steps // 10)
        return self.warmup_steps

    @property
    def num_cooldown_steps(self):
        return max(1, round(self.cooldown_fraction * self.total_steps))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """From a step on, another peak, reached in a warmup of its own."""

    from_step: int
    peak_learning_rate: float
    warmup_steps: int = 0


class Clock:
    """Seconds that a run has been training, over all its processes.

    Evaluations and compilation are included, and what was lost by a crash is
    not. `seconds` belongs into the checkpoint; without a time budget it stays
    0, so that such runs can be compared bit for bit.
    """

    def __init__(self, max_minutes=0.0):
        self._max_seconds = 60 * max_minutes
        # float32 is what every device computes with; 8 ms at a day's end.
        self.seconds = tf.Variable(
            0.0,
            trainable=False,
            name="seconds",
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        self._origin = None

    def tick(self):
        """Sets `seconds`; the first time, it goes on from where it stands."""
        if not self._max_seconds:
            return
        now = time.monotonic()
        if self._origin is None:
            self._origin = now - float(self.seconds.numpy())
        self.seconds.assign(now - self._origin)

    @property
    def share(self):
        """Tensor []: the share of the time budget that is used up."""
        if not self._max_seconds:  # though the run may have had one
            return tf.zeros([])
        return self.seconds / self._max_seconds

    @property
    def is_over(self):
        return float(self.share.numpy()) >= 1

    @property
    def seconds_left(self):
        """Of the time budget; infinite where there is none."""
        if not self._max_seconds:
            return math.inf
        return max(0.0, self._max_seconds - float(self.seconds.numpy()))


class Schedule(tf_keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of a step."""

    def __init__(self, config, clock=None, changes=()):
        """Prepares it.

        Args:
          clock: the run's `Clock`; if not given, there is no time budget.
          changes: `Change`s, rising in their steps.
        """
        self._config = config
        self._clock = clock or Clock()
        self._changes = [
            Change(from_step=0, peak_learning_rate=config.peak_learning_rate),
            *changes,
        ]

    def __call__(self, step):
        done = tf.cast(step, tf.float32)
        total = float(self._config.total_steps)
        place = tf.minimum(tf.maximum(done, self._clock.share * total), total)
        return self._peak(done) * _SHAPES[self._config.schedule](
            place, self._config
        )

    def _peak(self, step):
        peak = tf.constant(0.0)
        for change in self._changes:
            since = step - change.from_step
            rise = tf.minimum(1.0, since / max(1, change.warmup_steps))
            own = change.peak_learning_rate * (
                rise if change.warmup_steps else 1.0
            )
            peak = tf.where(since >= 0, own, peak)
        return peak

    def get_config(self):
        return dataclasses.asdict(self._config)


def _linear(step, config):
    return _warm(step, config) * _left(step, config.num_warmup_steps, config)


def _cosine(step, config):
    left = _left(step, config.num_warmup_steps, config)
    # (1 - cos 2x) / 2, without the difference that cancels near the end.
    return _warm(step, config) * tf.sin(math.pi / 2 * left) ** 2


def _constant(step, config):
    start = config.total_steps - config.num_cooldown_steps
    return _warm(step, config) * _left(step, start, config)


def _one_cycle(step, config):
    side = max(1, config.num_warmup_steps)
    # 1 at the peak, 0 where the sides begin and end.
    height = 1 - tf.abs(step - side) / side
    cycle = _CYCLE_BASE + (1 - _CYCLE_BASE) * tf.maximum(height, 0.0)
    return cycle * _left(step, 2 * side, config)


def _warm(step, config):
    if not config.num_warmup_steps:
        return 1.0
    return tf.minimum(1.0, step / config.num_warmup_steps)


def _left(step, start, config):
    """1 until `start`, then in a line to 0 at the end."""
    left = (config.total_steps - step) / max(1, config.total_steps - start)
    return tf.minimum(1.0, left)


_SHAPES = {
    "linear": _linear,
    "cosine": _cosine,
    "constant": _constant,
    "one_cycle": _one_cycle,
}
