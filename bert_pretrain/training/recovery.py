"""What a run does if its updates fail: it goes back, skips data, or stops."""

from collections.abc import Callable

from bert_pretrain import errors
from bert_pretrain.checkpoints import checkpoint_saver
from bert_pretrain.telemetry import metrics_log, train_progress
from bert_pretrain.training import optimizer, train_state, training_config

DIVERGED_CODE = 3
SPOILT_CODE = 4


class Diverged(Exception):
    """Updates kept failing although the run went back."""


class Spoilt(Exception):
    """The run came to its end with weights that are of no use."""


class Recovery:
    """Takes a run back to its last good checkpoint."""

    def __init__(
        self,
        config: training_config.RecoveryConfig,
        state: train_state.TrainState,
        saver: checkpoint_saver.Saver,
        log: metrics_log.MetricsLog,
    ) -> None:
        self._config = config
        self._state = state
        self._saver = saver
        self._log = log

    def go_back_if_needed(
        self, loop: train_progress.Loop, is_good: Callable[[], bool]
    ) -> bool:
        """Goes back if too many updates in a row failed in the last loop.

        The examples from the checkpoint to the end of the loop are skipped:
        `num_examples` is where it was, all else is as the checkpoint has it.

        Args:
          is_good: see `checkpoint_saver.Saver.go_back`.

        Returns:
          Whether it went back; the trainer then needs batches from
          `num_examples` on.

        Raises:
          Diverged: if the run has gone back too often, or cannot go back.
        """
        if loop.longest_bad_row < self._config.max_bad_steps:
            return False
        state = self._state
        failed_step, stop = state.step, int(state.num_examples.numpy())
        num_rollbacks = int(state.num_rollbacks.numpy())
        if num_rollbacks >= self._config.max_rollbacks:
            raise Diverged(
                f"{self._advice(loop)} The last good checkpoint is kept: the "
                "same command with --allow_changed_options and new values, or "
                "a larger --max_rollbacks, continues from it."
            )
        advice = self._advice(loop)
        self._log.append("rollback", {})
        if not self._saver.go_back(is_good):
            raise Diverged(
                f"{advice} No checkpoint is good: start a new run in another "
                "--model_dir."
            )
        start = int(state.num_examples.numpy())
        state.num_examples.assign(stop)
        state.num_rollbacks.assign(num_rollbacks + 1)
        errors.warn(
            f"{self._config.max_bad_steps} updates in a row were not finite; "
            f"back from step {failed_step:,} to {state.step:,}, skipping the "
            f"examples {start:,} to {stop - 1:,} (rollback "
            f"{num_rollbacks + 1} of {self._config.max_rollbacks})."
        )
        return True

    def _advice(self, loop: train_progress.Loop) -> str:
        state = self._state
        stop = int(state.num_examples.numpy())
        rate = optimizer.last_learning_rate(state.optimizer)
        return (
            f"stopped at step {state.step:,}: {self._config.max_bad_steps} "
            "updates in a row were not finite, after "
            f"{int(state.num_rollbacks.numpy())} rollbacks. Check the learning "
            f"rate (it was {rate:.2e}; try a lower --peak_learning_rate or "
            "more --warmup_steps), the data (the loop read the training "
            f"examples {stop - loop.num_examples:,} to {stop - 1:,} of the "
            "run's order), and the precision (--precision=float32)."
        )
