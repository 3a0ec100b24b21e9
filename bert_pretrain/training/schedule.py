"""The learning rate over a run, and the clock of its time budget.

A schedule is a shape over the steps of a run: the rate rises to its peak, then
falls to zero. With a time budget (Izsak et al. 2021, section 3.2) the place in
the shape is the share of the steps that are done, or the share of the minutes
that have passed, whichever is larger. So a run always reaches the end of the
shape.
"""

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from bert_pretrain.training import training_config

_CYCLE_BASE = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """Another peak from a step on, with a warmup of its own."""

    from_step: int
    peak_learning_rate: float
    warmup_steps: int = 0


class Clock:
    """The seconds that a run has trained, over all its processes.

    Evaluations and compilation are included; work that a crash destroyed is
    not. A checkpoint holds `seconds`. Without a time budget it stays 0, so that
    such runs can be compared bit for bit.
    """

    def __init__(self, max_minutes: float = 0.0) -> None:
        """Takes the time budget; 0 for none."""
        self._max_seconds = 60 * max_minutes
        # float32, which every device has; after a day it resolves 8 ms.
        self.seconds = tf.Variable(
            0.0,
            trainable=False,
            name="seconds",
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        self._origin: float | None = None

    def tick(self) -> None:
        """Updates `seconds`; the first call continues from its value."""
        if not self._max_seconds:
            return
        now = time.monotonic()
        if self._origin is None:
            self._origin = now - float(self.seconds.numpy())
        self.seconds.assign(now - self._origin)

    @property
    def share(self) -> tf.Tensor:
        """float32 []: the share of the time budget that is used up."""
        # `seconds` is not 0 if an earlier process had a budget.
        if not self._max_seconds:
            return tf.zeros([])
        return self.seconds / self._max_seconds

    @property
    def is_over(self) -> bool:
        """Whether the time budget is used up."""
        return float(self.share.numpy()) >= 1

    @property
    def seconds_left(self) -> float:
        """What is left of the time budget; infinite without one."""
        if not self._max_seconds:
            return math.inf
        return max(0.0, self._max_seconds - float(self.seconds.numpy()))


class Schedule(tf_keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of a step."""

    def __init__(
        self,
        config: training_config.ScheduleConfig,
        clock: Clock | None = None,
        changes: Sequence[Change] = (),
    ) -> None:
        """Prepares it.

        Args:
          clock: of the run; without it there is no time budget.
          changes: in the order of their steps.
        """
        self._config = config
        self._clock = clock or Clock()
        self._changes = [
            Change(from_step=0, peak_learning_rate=config.peak_learning_rate),
            *changes,
        ]

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The learning rate of a step: float32 []."""
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

    def get_config(self) -> dict[str, Any]:
        """The options, as Keras asks for them."""
        return dataclasses.asdict(self._config)


def _linear(step, config):
    return _warm(step, config) * _left(step, config.num_warmup_steps, config)


def _cosine(step, config):
    left = _left(step, config.num_warmup_steps, config)
    # The same as (1 - cos 2x) / 2, which loses digits near the end.
    return _warm(step, config) * tf.sin(math.pi / 2 * left) ** 2


def _constant(step, config):
    start = config.total_steps - config.num_cooldown_steps
    return _warm(step, config) * _left(step, start, config)


def _one_cycle(step, config):
    side = max(1, config.num_warmup_steps)
    # 1 at the peak, 0 at the start and the end of the two sides.
    height = 1 - tf.abs(step - side) / side
    cycle = _CYCLE_BASE + (1 - _CYCLE_BASE) * tf.maximum(height, 0.0)
    return cycle * _left(step, 2 * side, config)


def _warm(step, config):
    if not config.num_warmup_steps:
        return 1.0
    return tf.minimum(1.0, step / config.num_warmup_steps)


def _left(step, start, config):
    """1 until `start`; then it falls in a line to 0 at the end."""
    left = (config.total_steps - step) / max(1, config.total_steps - start)
    return tf.minimum(1.0, left)


_SHAPES = {
    "linear": _linear,
    "cosine": _cosine,
    "constant": _constant,
    "one_cycle": _one_cycle,
}
