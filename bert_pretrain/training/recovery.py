"""What a run does when its updates fail: go back, pass over data, or stop."""

import dataclasses

from bert_pretrain import errors, options
from bert_pretrain.training import optimizer

DIVERGED_CODE = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecoveryConfig(options.Options):
    """How much a run bears."""

    max_bad_steps: int = options.option(
        "Steps in a row with a loss or gradient that is not finite (their "
        "updates are left out) after which the run goes back to the last "
        "good checkpoint and passes over the examples since.",
        10,
        changes_result=False,
        at_least=1,
    )
    max_rollbacks: int = options.option(
        "How many times a run may do so; then it stops.",
        3,
        changes_result=False,
        at_least=0,
    )


class Diverged(Exception):
    """Going back has not helped."""


class Recovery:
    """Takes a run back to its last good checkpoint."""

    def __init__(self, config, bert_trainer, saver, log):
        self._config = config
        self._trainer = bert_trainer
        self._saver = saver
        self._log = log  # a `metrics_log.MetricsLog`

    def go_back_if_needed(self, batches_after_going_back):
        """Goes back if too many updates in a row failed in the last loop.

        What is passed over are the examples from those of the checkpoint to
        those of the loop's end.

        Args:
          batches_after_going_back: makes the batches that follow on the
            state's `num_examples`, once all else is as it was.

        Returns:
          Whether it went back.

        Raises:
          Diverged: if it has done so too often.
        """
        if self._trainer.last_loop.longest_bad_row < self._config.max_bad_steps:
            return False
        state = self._trainer.state
        failed_step, stop = state.step, int(state.num_examples.numpy())
        num_rollbacks = int(state.num_rollbacks.numpy())
        if num_rollbacks >= self._config.max_rollbacks:
            raise Diverged(self._advice(failed_step, num_rollbacks))
        self._log.append("rollback", {})
        self._saver.go_back()
        start = int(state.num_examples.numpy())
        state.num_examples.assign(stop)
        state.num_rollbacks.assign(num_rollbacks + 1)
        self._trainer.train_dataset = batches_after_going_back()
        errors.warn(
            f"{self._config.max_bad_steps} updates in a row were not "
            f"finite; back from step {failed_step:,} to {state.step:,}, "
            f"passing over the examples {start:,} to {stop - 1:,} (rollback "
            f"{num_rollbacks + 1} of {self._config.max_rollbacks})."
        )
        return True

    def _advice(self, step, num_rollbacks):
        state, loop = self._trainer.state, self._trainer.last_loop
        stop = int(state.num_examples.numpy())
        rate = optimizer.last_learning_rate(state.adam)
        return (
            f"stopped at step {step:,}: {self._config.max_bad_steps} updates "
            f"in a row were not finite, after {num_rollbacks} rollbacks. Look "
            f"at the learning rate (it was {rate:.2e}: a lower "
            "--peak_learning_rate, more --warmup_steps), at the data (the "
            f"loop read the training examples {stop - loop.num_examples:,} to "
            f"{stop - 1:,} of the run's order), and at the precision "
            "(--precision=float32). The last good checkpoint stands: the same "
            "command with --allow_changed_options and new values, or a larger "
            "--max_rollbacks, goes on from it."
        )
