"""Saves the state of a run while it trains, and restores it."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import absl.logging
import tensorflow as tf

from bert_pretrain import errors, file_errors, files
from bert_pretrain.checkpoints import (
    checkpoint_config,
    checkpoint_files,
    model_directory,
)


class State(Protocol):
    """The state of a run, see `train_state.TrainState`."""

    @property
    def step(self) -> int:
        """Number of updates so far."""

    @property
    def saved(self) -> Mapping[str, Any]:
        """The objects that a checkpoint holds, by their names there."""

    @property
    def num_examples(self) -> tf.Variable:
        """Examples that the run has consumed."""

    @property
    def bad_steps_in_row(self) -> tf.Variable:
        """Number of latest steps whose update was not applied."""


class Saver:
    """Saves the state of a run while training continues, and restores it.

    `save` copies the values before it returns. A thread of TensorFlow writes
    them. The checkpoint's JSON file is written after all other files.
    """

    def __init__(
        self, config: checkpoint_config.CheckpointConfig, state: State
    ) -> None:
        """Prepares it; call it in the strategy's scope."""
        self._config = config
        self._state = state
        self._folder = config.model_dir
        self._checkpoint = tf.train.Checkpoint(**state.saved)
        # TensorFlow creates this variable when it is first read. Writing in
        # the background reads it, writing at once does not, but all
        # checkpoints must hold the same variables.
        assert self._checkpoint.save_counter is not None
        # Path of the checkpoint that is being written.
        self._in_flight: str | None = None
        # Step of the checkpoint that was saved or restored last.
        self._last: int | None = None
        self._last_time = time.monotonic()
        self._is_good = True  # the state that was saved or restored last
        self._best_loss = math.inf
        self._best_since: int | None = None

    def save(self, is_good: bool) -> None:
        """Saves the present state, unless this step is saved already.

        It is after a rollback. The checkpoint does not count the examples
        that the rollback skipped. If the run resumes from it and fails again,
        it skips them again.

        Args:
          is_good: whether the weights, the moments and the last evaluation are
            finite. A run does not go back to other checkpoints.
        """
        if self._state.step != self._last:
            self._is_good = is_good
            self._write(self._folder, self._config.keep_checkpoints, is_good)
            self._last, self._last_time = self._state.step, time.monotonic()
        elif self._is_good and not is_good:
            # It was saved before its evaluation.
            self._is_good = False
            if self._wait():
                checkpoint_files.update(
                    f"{self._folder}/ckpt-{self._last}", is_good=False
                )

    def is_due(self, earlier_step: int) -> bool:
        """Whether a checkpoint is due, by steps or by time.

        None is due while updates fail, because a run goes back to saved
        states.

        Args:
          earlier_step: a checkpoint is due at a step after this one.
        """
        if self._state.bad_steps_in_row.numpy():
            return False
        every = self._config.checkpoint_every_steps
        seconds = 60 * self._config.checkpoint_every_minutes
        waited = time.monotonic() - self._last_time
        return self._state.step // every > earlier_step // every or bool(
            seconds and waited >= seconds
        )

    def save_if_best(
        self, loss: float, earlier_losses: Sequence[float], since_step: int = 0
    ) -> None:
        """Saves the state in a folder of its own if its loss is the least.

        Does not save while updates fail.

        Args:
          loss: of the present state, on the held-out split.
          earlier_losses: on the same split, as the run's log has them. So the
            least loss is known even if its checkpoint is torn.
          since_step: only the losses of later steps are compared. Earlier
            evaluations used another dataset.
        """
        folder = f"{self._folder}/{model_directory.BEST}"
        if self._best_since != since_step:
            self._best_since = since_step
            self._best_loss = min(
                *(loss for loss in earlier_losses if math.isfinite(loss)),
                _best_on_disk(folder, since_step),
                math.inf,
            )
        if loss < self._best_loss and not self._state.bad_steps_in_row.numpy():
            self._best_loss = loss
            # A loss that is the least is finite.
            self._write(folder, 1, True, held_out_loss=loss)

    def close(self) -> None:
        """Waits until the last checkpoint is whole.

        Raises:
          UserError: if the checkpoint cannot be written.
        """
        if not self._wait():
            self._write(
                self._folder,
                self._config.keep_checkpoints,
                self._is_good,
                at_once=True,
            )

    def abandon(self) -> None:
        """Waits for the thread that writes, when the run ends by an error.

        Otherwise TensorFlow would raise the thread's own error when Python
        ends.
        """
        with contextlib.suppress(errors.UserError):
            self._wait()

    def restore(self) -> bool:
        """Restores the newest whole checkpoint; warns of torn ones.

        Returns:
          Whether there was a whole checkpoint.

        Raises:
          UserError: if there are checkpoints, but none can be read.
        """
        if self._restore(checkpoint_files.list_whole(self._folder, warn=True)):
            return True
        # A torn checkpoint of step 0 is no loss: the run begins again.
        if checkpoint_files.list_steps(self._folder) - {0}:
            raise errors.UserError(
                f"{self._folder} holds checkpoints, but none of them is "
                "whole: restore the files that the warnings name, or give "
                "another --model_dir to start a new run."
            )
        return False

    def go_back(self, is_good: Callable[[], bool]) -> bool:
        """Restores the newest good checkpoint, and removes all later ones.

        Args:
          is_good: whether the state that was just restored is good; see
            `save`. The next older checkpoint is tried if it is not.

        Returns:
          Whether there was a good checkpoint. If not, nothing is removed.
        """
        self._wait()
        found = list(checkpoint_files.list_whole(self._folder, warn=True))
        for pair in found:
            path, facts = pair
            if not checkpoint_files.can_go_back_to(facts):
                continue
            try:
                self._restore([pair])
            except errors.UserError:
                continue  # A warning has named it.
            if is_good():
                later = [
                    f["step"] for _, f in found if f["step"] > facts["step"]
                ]
                checkpoint_files.remove(self._folder, later)
                return True
            errors.warn(
                f"{path}: this checkpoint's held-out loss, weights or moments "
                "are not finite; an earlier one is tried."
            )
        return False

    def _write(
        self,
        folder: str,
        keep: int,
        is_good: bool,
        at_once: bool = False,
        **facts: Any,
    ) -> None:
        """Writes a checkpoint, in the background unless `at_once`."""
        # After a failure the next checkpoint is written at once, so that a
        # lasting failure ends the run.
        at_once |= not self._wait()
        step = self._state.step
        path = f"{folder}/ckpt-{step}"
        files.make_directory(folder)
        # There may be files of a torn checkpoint of this step.
        checkpoint_files.remove(folder, [step])
        facts |= {
            "step": step,
            "num_examples": int(self._state.num_examples.numpy()),
            "bad_steps_in_row": int(self._state.bad_steps_in_row.numpy()),
            "is_good": is_good,
        }
        if at_once:
            try:
                with file_errors.naming(path):
                    self._checkpoint.write(path)
                    checkpoint_files.finish(path, facts, keep)
            except errors.UserError:
                checkpoint_files.remove(folder, [step])
                raise
        else:
            self._in_flight = path
            self._checkpoint.write(
                path,
                _in_background(
                    lambda: checkpoint_files.finish(path, facts, keep)
                ),
            )

    def _wait(self) -> bool:
        """Waits for the thread that writes; returns whether it succeeded."""
        path, self._in_flight = self._in_flight, None
        if path is None:
            return True
        self._checkpoint.sync()
        if tf.io.gfile.exists(f"{path}.json"):
            return True
        try:
            # The thread raises its error at the next call, and logs it.
            with _without_logs():
                self._checkpoint.write(path, _in_background(lambda: None))
            reason = "for an unknown reason"
        except (tf.errors.OpError, errors.UserError, OSError) as error:
            reason = file_errors.reason(error, path)
        self._checkpoint.sync()
        folder, _, name = path.rpartition("/")
        checkpoint_files.remove(folder, [int(name.removeprefix("ckpt-"))])
        errors.warn(f"{path} could not be written ({reason}).")
        return False

    def _restore(
        self, candidates: Iterable[tuple[str, Mapping[str, Any]]]
    ) -> bool:
        """Restores the first checkpoint that can be read.

        Returns:
          Whether there was a candidate.
        """
        failures = []
        for path, facts in candidates:
            try:
                with checkpoint_files.reading(path):
                    self._checkpoint.restore(
                        path
                    ).assert_existing_objects_matched()
            except errors.UserError as error:
                errors.warn(error)
                failures.append(error)
                continue
            self._last = self._state.step
            self._is_good = facts.get("is_good", True)
            return True
        if failures:
            raise failures[0]
        return False


@contextlib.contextmanager
def _without_logs() -> Iterator[None]:
    before = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.FATAL)
    try:
        yield
    finally:
        absl.logging.set_verbosity(before)


def _best_on_disk(folder: str, since_step: int) -> float:
    """The loss of the best checkpoint; warns if it is torn."""
    whole = [facts for _, facts in checkpoint_files.list_whole(folder)]
    steps = checkpoint_files.list_steps(folder)
    if steps and not whole:
        errors.warn(
            f"{folder}: the best checkpoint (step {max(steps):,}) is torn. The "
            "run's log has its loss; only a lower one takes its place."
        )
    return min(
        (
            facts["held_out_loss"]
            for facts in whole
            if facts["step"] > since_step or not since_step
        ),
        default=math.inf,
    )


def _in_background(then: Callable[[], None]) -> tf.train.CheckpointOptions:
    """Options that write in a thread, which calls `then` at the end."""
    return tf.train.CheckpointOptions(
        enable_async=True, experimental_write_callbacks=[then]
    )
