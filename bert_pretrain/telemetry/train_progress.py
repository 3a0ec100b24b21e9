"""The progress of a run: its rates, and a line for each loop and evaluation."""

import dataclasses

from bert_pretrain.telemetry import console

# Waiting for input that is less than this is no news.
_NOTABLE_WAIT = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Totals:
    """Of the loops of a phase: all of them, then without what compiled."""

    train_seconds: float
    seconds: float
    input_seconds: float
    num_examples: int
    num_tokens: int  # with padding
    num_unpadded_tokens: int


class TrainProgress:
    """Adds rates to a loop's output and prints a line of progress.

    An `orbit.Action`; orbit itself writes the output to TensorBoard after.
    """

    def __init__(
        self,
        trainer,
        total_steps,
        tokens_per_example,
        stream,
        peak_examples_per_second=None,
    ):
        """Prepares it.

        Args:
          tokens_per_example: with padding.
          peak_examples_per_second: what the accelerators could compute if
            they did nothing else; None if nobody knows.
        """
        self._trainer = trainer
        self._total_steps = total_steps
        self._tokens_per_example = tokens_per_example
        self._stream = stream
        self._peak = peak_examples_per_second
        self._loops = []

    def __call__(self, output):
        loop = self._trainer.last_loop
        self._loops.append(loop)
        rate = loop.num_examples / loop.seconds
        output["examples_per_second"] = rate
        output["tokens_per_second"] = rate * self._tokens_per_example
        output["tokens_per_second_without_padding"] = (
            loop.num_tokens / loop.seconds
        )
        if self._peak is not None:
            output["mfu"] = rate / self._peak
        output["input_wait_share"] = loop.input_seconds / loop.seconds
        # The first loop compiles, so its rate tells nothing.
        if len(self._loops) > 1:
            output["seconds_left"] = self._seconds_left()
        print(self._line(output), file=self._stream, flush=True)

    def _seconds_left(self):
        loop, state = self._loops[-1], self._trainer.state
        by_steps = (self._total_steps - state.step) * (
            loop.seconds / loop.num_steps
        )
        return min(by_steps, state.clock.seconds_left)

    def _line(self, output):
        values = " ".join(
            f"{short} {output[name]:.3f}"
            for name, short in (
                ("masked_lm_loss", "loss"),
                ("masked_lm_accuracy", "accuracy"),
                ("next_sentence_accuracy", "next sentence"),
            )
            if name in output
        )
        parts = [
            f"step {self._trainer.state.step}/{self._total_steps} {values} "
            f"lr {output['learning_rate']:.2e}",
            f"{output['examples_per_second']:,.0f} examples/s "
            f"{output['tokens_per_second']:,.0f} tokens/s",
        ]
        if "mfu" in output:
            parts[-1] += f" MFU {output['mfu']:.1%}"
        if output["input_wait_share"] >= _NOTABLE_WAIT:
            parts.append(f"{output['input_wait_share']:.0%} waiting for input")
        parts.append(
            f"{console.format_duration(output['seconds_left'])} left"
            if "seconds_left" in output
            else "compiled"
        )
        return " | ".join(parts)

    def totals(self):
        """The `Totals` of the loops."""
        timed = self._loops[1:] or self._loops
        num_examples = sum(loop.num_examples for loop in timed)
        return Totals(
            train_seconds=sum(loop.seconds for loop in self._loops),
            seconds=sum(loop.seconds for loop in timed),
            input_seconds=sum(loop.input_seconds for loop in timed),
            num_examples=num_examples,
            num_tokens=num_examples * self._tokens_per_example,
            num_unpadded_tokens=sum(loop.num_tokens for loop in timed),
        )


def summarize(totals):
    """Rates of this process's training.

    Args:
      totals: the `Totals` of each of its phases.
    """

    def total(name):
        return sum(getattr(part, name) for part in totals)

    def rate(name):
        return total(name) / (total("seconds") or 1)

    return {
        "train_seconds": round(total("train_seconds"), 3),
        "examples_per_second": round(rate("num_examples"), 2),
        "tokens_per_second": round(rate("num_tokens"), 1),
        "tokens_per_second_without_padding": round(
            rate("num_unpadded_tokens"), 1
        ),
        "input_wait_share": round(rate("input_seconds"), 4),
    }


class EvalLine:
    """Prints a line for each evaluation; an `orbit.Action`."""

    def __init__(self, state, stream):
        self._state = state
        self._stream = stream

    def __call__(self, output):
        values = " ".join(
            f"{name} {value:.4f}" for name, value in output.items()
        )
        print(
            f"eval at step {self._state.step}: {values}",
            file=self._stream,
            flush=True,
        )
