"""Saves the state of a run while it trains, and restores it."""

import dataclasses
import time

import tensorflow as tf

from bert_pretrain import errors, options
from bert_pretrain.checkpoints import checkpoint_files, model_directory


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig(options.Options):
    """Where the run lives, and how often it is saved."""

    model_dir: str = options.option(
        "Folder of the run; running the same command again resumes it.",
        changes_result=False,
    )
    checkpoint_every_steps: int = options.option(
        "Steps between checkpoints, each at the end of the loop that reaches "
        "it; one is always saved at the end.",
        1000,
        changes_result=False,
        at_least=1,
    )
    checkpoint_every_minutes: float = options.option(
        "Save also when so much time has passed since the last one; 0 to "
        "count steps only.",
        30.0,
        changes_result=False,
        at_least=0,
    )
    keep_checkpoints: int = options.option(
        "How many of the newest checkpoints are kept, beside the best.",
        3,
        changes_result=False,
        at_least=1,
    )
    allow_changed_options: bool = options.option(
        "Resume though options that change the result are not those that "
        "the run began with.",
        False,
        changes_result=False,
    )


class Saver:
    """Saves a `train_state.TrainState` while training goes on, and restores it.

    The values are copied before `save` returns, and written by a thread of
    TensorFlow's; only when all is written is the checkpoint's JSON file.
    """

    def __init__(self, config, state):
        """Call it in the strategy's scope."""
        self._config = config
        self._state = state
        self._folder = config.model_dir
        self._checkpoint = tf.train.Checkpoint(**state.saved)
        # Made when it is first read; writing in the background does, and
        # all checkpoints must hold the same.
        assert self._checkpoint.save_counter is not None
        self._in_flight = None  # path of what is being written
        self._last = None  # step of what was saved or restored
        self._last_time = time.monotonic()
        self._best_loss = self._best_since = None

    def save(self):
        """Saves the state as it is now, unless there is one of this step.

        After going back there is, and the examples passed over since are not
        in it: coming from it to the same failure passes over them again.
        """
        if self._state.step != self._last:
            self._write(self._folder, self._config.keep_checkpoints)
            self._last, self._last_time = self._state.step, time.monotonic()

    def save_if_due(self, earlier_step):
        """Saves if the steps since `earlier_step`, or the time, call for it.

        Not while updates fail: what is saved is what one can go back to.
        """
        if self._state.bad_steps_in_row.numpy():
            return
        every = self._config.checkpoint_every_steps
        seconds = 60 * self._config.checkpoint_every_minutes
        waited = time.monotonic() - self._last_time
        if self._state.step // every > earlier_step // every or (
            seconds and waited >= seconds
        ):
            self.save()

    def save_if_best(self, loss, since_step=0):
        """Keeps the state apart if no earlier one had so small a loss.

        Not while updates fail, as above.

        Args:
          since_step: only states after it compare; before, evaluations were
            on another set.
        """
        folder = f"{self._folder}/{model_directory.BEST}"
        if self._best_since != since_step:
            self._best_since = since_step
            self._best_loss = min(
                (
                    facts["held_out_loss"]
                    for _, facts in checkpoint_files.list_whole(folder)
                    if facts["step"] > since_step or not since_step
                ),
                default=float("inf"),
            )
        if loss < self._best_loss and not self._state.bad_steps_in_row.numpy():
            self._best_loss = loss
            self._write(folder, 1, held_out_loss=loss)

    def close(self):
        """Returns when what was saved last is whole.

        Raises:
          UserError: if it cannot be written.
        """
        if not self._wait():
            self._write(
                self._folder, self._config.keep_checkpoints, at_once=True
            )

    def restore(self):
        """Restores the newest checkpoint that is whole, warning of others.

        Returns:
          Whether there was one.

        Raises:
          UserError: if there are some, and none can be read.
        """
        if self._restore(checkpoint_files.list_whole(self._folder, warn=True)):
            return True
        # The first one, of step 0, may have been torn while it was written.
        if any(
            int(checkpoint_files.NAME.match(name)[1])
            for name in checkpoint_files.list_names(self._folder)
        ):
            raise errors.UserError(
                f"{self._folder} holds checkpoints, and none of them is "
                "whole: bring back the files that the warnings name, or give "
                "another --model_dir to begin anew."
            )
        return False

    def go_back(self):
        """Restores the newest checkpoint of a step whose update was applied.

        Raises:
          UserError: if there is none.
        """
        self._wait()
        found = list(checkpoint_files.list_whole(self._folder, warn=True))
        good = [pair for pair in found if not pair[1]["bad_steps_in_row"]]
        if not self._restore(good):
            raise errors.UserError(
                f"{self._folder} holds no checkpoint to go back to."
            )
        later = [f["step"] for _, f in found if f["step"] > self._state.step]
        checkpoint_files.remove(self._folder, later)

    def _write(self, folder, keep, at_once=False, **facts):
        # After a failure at once too, so that one that lasts ends the run.
        at_once |= not self._wait()
        step = self._state.step
        path = f"{folder}/ckpt-{step}"
        with errors.naming(folder):
            tf.io.gfile.makedirs(folder)
        # Of a torn checkpoint that is written again.
        checkpoint_files.remove(folder, [step])
        facts |= {
            "step": step,
            "num_examples": int(self._state.num_examples.numpy()),
            "bad_steps_in_row": int(self._state.bad_steps_in_row.numpy()),
        }
        if at_once:
            with errors.naming(path):
                self._checkpoint.write(path)
                checkpoint_files.finish(path, facts, keep)
        else:
            self._in_flight = path
            self._checkpoint.write(
                path,
                _in_background(
                    lambda: checkpoint_files.finish(path, facts, keep)
                ),
            )

    def _wait(self):
        """Waits for the thread that writes: whether it has succeeded."""
        path, self._in_flight = self._in_flight, None
        if path is None:
            return True
        self._checkpoint.sync()
        if tf.io.gfile.exists(f"{path}.json"):
            return True
        try:
            # The thread keeps its error until it is called again.
            self._checkpoint.write(path, _in_background(lambda: None))
            reason = "for an unknown reason"
        except (tf.errors.OpError, errors.UserError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
        self._checkpoint.sync()
        folder, _, name = path.rpartition("/")
        checkpoint_files.remove(
            folder, [int(checkpoint_files.NAME.match(f"{name}.")[1])]
        )
        errors.warn(f"{path} could not be written ({reason}).")
        return False

    def _restore(self, candidates):
        failures = []
        for path, _ in candidates:
            try:
                with checkpoint_files.naming_unreadable(path):
                    self._checkpoint.restore(
                        path
                    ).assert_existing_objects_matched()
            except errors.UserError as error:
                errors.warn(error)
                failures.append(error)
                continue
            self._last = self._state.step
            return True
        if failures:
            raise failures[0]
        return False


def _in_background(then):
    return tf.train.CheckpointOptions(
        enable_async=True, experimental_write_callbacks=[then]
    )
