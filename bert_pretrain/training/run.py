"""The loops of a run, and what happens between two of them.

Loops end at the same steps wherever a run was entered. After each one, in
this order: going back if its updates failed, evaluating and saving if due,
leaving if asked. So all that was logged of the steps that a checkpoint holds
was logged before, and nothing of them has to be logged again. Only who is
asked to leave before an evaluation leaves it to the process that resumes.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable

import orbit

from bert_pretrain.checkpoints import checkpoint_saver
from bert_pretrain.telemetry import profiling
from bert_pretrain.training import recovery, trainer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What takes part in the loops."""

    controller: orbit.Controller
    trainer: trainer.Trainer
    saver: checkpoint_saver.Saver
    recovery: recovery.Recovery
    batches_after_going_back: Callable  # -> those after state.num_examples
    raise_if_asked: Callable  # to end, see interruption.py
    profiler: profiling.Profiler
    num_eval_steps: int
    steps_per_loop: int
    eval_every_steps: int  # 0 for the end only
    from_step: int  # of the phase
    set_start_step: int  # from which on evaluations compare
    is_over: Callable  # whether the run has reached an end before its last step
    is_evaluated: Callable  # whether the present step's evaluation is logged

    def train(self, until):
        """Trains to the step `until`, and saves there.

        It ends before if the run is over, or has gone back to an earlier
        phase.

        Returns:
          What the last evaluation gave, which is always at the end.

        Raises:
          Interrupted, Diverged: see there.
        """
        with contextlib.closing(self.profiler):
            output = self._train(until)
        self.saver.save()
        return output

    def _train(self, until):
        state = self.trainer.state
        output = None
        if self._is_eval_due() and not self.is_evaluated():
            output = self._evaluate_and_keep()  # Left out at an interruption.
        while self.from_step <= state.step < until and not self.is_over():
            self.raise_if_asked()
            earlier = state.step
            stop = self._next_stop(earlier, until)
            with self.profiler.tracing(earlier, stop):
                self.controller.train(stop, checkpoint_at_completion=False)
            if self.recovery.go_back_if_needed(self.batches_after_going_back):
                output = None
                continue
            if state.step == until or self.is_over():
                output = self._evaluate_and_keep()
            elif self._is_eval_due():
                # Who is about to be killed has no time for it.
                self.raise_if_asked()
                output = self._evaluate_and_keep()
            self.saver.save_if_due(earlier)
        return output

    def _evaluate_and_keep(self):
        output = self.evaluate()
        self.saver.save_if_best(held_out_loss(output), self.set_start_step)
        return output

    def evaluate(self):
        """What the weights reach on the held-out split."""
        output = self.controller.evaluate(self.num_eval_steps)
        return {
            name: float(value)
            for name, value in output.items()
            if name != "steps_per_second"
        }

    def _next_stop(self, step, until):
        grids = self.steps_per_loop, self.eval_every_steps or until
        stops = [until, *((step // grid + 1) * grid for grid in grids)]
        # What is traced is in loops of its own.
        stops += [border for border in self.profiler.borders if border > step]
        return min(stops)

    def _is_eval_due(self):
        every = self.eval_every_steps
        return every and self.trainer.state.step % every == 0


def held_out_loss(output):
    """The loss that is trained, as an evaluation gives it: a sum."""
    losses = [v for name, v in output.items() if name.endswith("_loss")]
    # What is not a number is logged as None.
    return math.inf if None in losses else sum(losses)
