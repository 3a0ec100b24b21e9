"""The progress of a run: its rates, and a line for each loop and evaluation."""

import dataclasses
from collections.abc import Mapping, Sequence

from bert_pretrain.telemetry import console

# A smaller share of time that is spent waiting for input is not printed.
_NOTABLE_WAIT = 0.05


@dataclasses.dataclass(frozen=True)
class Loop:
    """How much one loop of training did, and how long it took."""

    num_steps: int
    num_examples: int  # rows; one of fine-tuning holds several examples
    seconds: float
    longest_bad_row: int = 0  # steps in a row whose update was left out
    num_tokens: int = 0  # without padding
    input_seconds: float = 0.0  # in which the host waited for batches


@dataclasses.dataclass(frozen=True, kw_only=True)
class Totals:
    """The sums over the loops of a phase."""

    train_seconds: float
    # The other fields leave out the first loop, which compiles.
    seconds: float
    input_seconds: float
    num_examples: float
    num_tokens: int  # with padding
    num_unpadded_tokens: int


class TrainProgress:
    """Adds rates to the output of a loop, and prints a line of progress."""

    def __init__(
        self,
        total_steps: int,
        tokens_per_row: int,
        labels: Mapping[str, str],
        peak_rows_per_second: float | None = None,
        examples_per_row: float = 1.0,
    ) -> None:
        """Prepares it.

        Args:
          total_steps: of the run.
          tokens_per_row: with padding.
          labels: of the values that the line has, by their names.
          peak_rows_per_second: the rate at an MFU of 1; None if it is not
            known.
          examples_per_row: on average.
        """
        self._total_steps = total_steps
        self._tokens_per_row = tokens_per_row
        self._labels = labels
        self._peak = peak_rows_per_second
        self._examples_per_row = examples_per_row
        self._loops: list[Loop] = []

    def report(
        self,
        loop: Loop,
        step: int,
        seconds_left: float,
        output: dict[str, float],
    ) -> None:
        """Adds the rates of the newest loop to `output`, and prints a line.

        Args:
          loop: the newest loop.
          step: the last step of the loop.
          seconds_left: of the time budget; infinite without a budget.
          output: the values of the loop.
        """
        self._loops.append(loop)
        rate = loop.num_examples / loop.seconds
        output["examples_per_second"] = rate * self._examples_per_row
        output["tokens_per_second"] = rate * self._tokens_per_row
        output["tokens_per_second_without_padding"] = (
            loop.num_tokens / loop.seconds
        )
        if self._peak is not None:
            output["mfu"] = rate / self._peak
        output["input_wait_share"] = loop.input_seconds / loop.seconds
        # The first loop compiles, so its rate says nothing about the others.
        if len(self._loops) > 1:
            output["seconds_left"] = min(
                (self._total_steps - step) * loop.seconds / loop.num_steps,
                seconds_left,
            )
        print(self._line(step, output), flush=True)

    def totals(self) -> Totals:
        """The sums over the loops so far."""
        timed = self._loops[1:] or self._loops
        num_rows = sum(loop.num_examples for loop in timed)
        return Totals(
            train_seconds=sum(loop.seconds for loop in self._loops),
            seconds=sum(loop.seconds for loop in timed),
            input_seconds=sum(loop.input_seconds for loop in timed),
            num_examples=num_rows * self._examples_per_row,
            num_tokens=num_rows * self._tokens_per_row,
            num_unpadded_tokens=sum(loop.num_tokens for loop in timed),
        )

    def _line(self, step: int, output: Mapping[str, float]) -> str:
        values = " ".join(
            f"{label} {output[name]:.3f}"
            for name, label in self._labels.items()
        )
        rates = (
            f"{output['examples_per_second']:,.0f} examples/s "
            f"{output['tokens_per_second']:,.0f} tokens/s"
        )
        if "mfu" in output:
            rates += f" MFU {output['mfu']:.1%}"
        columns = [
            f"step {step}/{self._total_steps} {values} "
            f"lr {output['learning_rate']:.2e}",
            rates,
        ]
        if output["input_wait_share"] >= _NOTABLE_WAIT:
            columns.append(
                f"{output['input_wait_share']:.0%} waiting for input"
            )
        columns.append(
            f"{console.format_duration(output['seconds_left'])} left"
            if "seconds_left" in output
            else "compiled"
        )
        return " | ".join(columns)


def summarize(totals: Sequence[Totals]) -> dict[str, float]:
    """The rates of training, over all phases of this process."""

    def total(name: str) -> float:
        return sum(getattr(of_phase, name) for of_phase in totals)

    def rate(name: str) -> float:
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


def print_evaluation(step: int, evaluation: Mapping[str, float]) -> None:
    """Prints the line of an evaluation."""
    values = " ".join(
        f"{name} {value:.4f}" for name, value in evaluation.items()
    )
    print(f"eval at step {step}: {values}", flush=True)
