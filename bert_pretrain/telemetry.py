"""What a run says about itself: a line after each loop, TensorBoard, memory."""

import dataclasses
import json
import math
import resource
import time

import psutil
import tensorflow as tf
import transformers
from absl import logging

from bert_pretrain import errors, files, hardware

# The final numbers, in the model directory. That of a training stands only
# when the run is complete.
LOG_NAME = "metrics.jsonl"
TRAIN_RESULTS_NAME = "train_results.json"
EVALUATE_RESULTS_NAME = "evaluate_results.json"

# For TensorBoard, which looks into all folders below logs.
TRAIN_SUMMARIES = "logs/train"

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


class Progress:
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
            f"{format_duration(output['seconds_left'])} left"
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


def add_memory(strategy, output):
    """Adds what this host and its fullest accelerator hold, in bytes."""
    output["host_memory_bytes"] = psutil.Process().memory_info().rss
    if counts := hardware.device_memory_bytes(strategy):
        (
            output["device_memory_bytes"],
            output["device_peak_memory_bytes"],
        ) = counts


class MetricsLog:
    """The log of a run: a line for each loop, evaluation and rollback.

    A line has the kind, the step, the number of examples that the run had
    consumed, and the values; what is not a number is null.
    """

    def __init__(self, path, state, follow=lambda record: None):
        """Prepares it.

        Args:
          follow: gets each line that is added.
        """
        self._path = path
        self._state = state
        self._follow = follow
        self._records = []

    def resume(self, is_restored):
        """Forgets what is logged of steps that have to be done again.

        Their examples tell: unlike the step, their number never goes back.
        """
        self._records = []
        num_examples = int(self._state.num_examples.numpy())
        if is_restored and tf.io.gfile.exists(self._path):
            self._records = [
                record
                for record in read_log(self._path)
                if record["num_examples"] <= num_examples
            ]
        files.write_text(self._path, "".join(map(_json_line, self._records)))

    def append(self, kind, values):
        """Adds a line, unless there is one of this kind and place."""
        record = {
            "kind": kind,
            "step": self._state.step,
            "num_examples": int(self._state.num_examples.numpy()),
        }
        if any(record.items() <= other.items() for other in self._records):
            return
        for name, value in values.items():
            value = float(value)
            record[name] = value if math.isfinite(value) else None
        self._records.append(record)
        with errors.naming(self._path):
            with tf.io.gfile.GFile(self._path, "a") as file:
                file.write(_json_line(record))
        self._follow(record)

    def action(self, kind):
        """An `orbit.Action` that adds a line of its output."""
        return lambda output: self.append(kind, output)

    @property
    def records(self):
        """What is logged, in order."""
        return tuple(self._records)

    def evaluations(self):
        """The records of evaluations that led to the present step.

        Those of steps that the run has gone back over are not among them.
        """
        found = []
        for record in self._records:
            if record["kind"] == "eval":
                found = [old for old in found if old["step"] < record["step"]]
                found.append(record)
        return [old for old in found if old["step"] <= self._state.step]


def read_log(path):
    """The records of a `MetricsLog`, up to the first line that is torn."""
    records = []
    for line in files.read_text(path).splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break  # Its writer was killed, or is writing.
    return records


def _json_line(record):
    return json.dumps(record) + "\n"


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


def quiet_libraries():
    """Keeps to ourselves what our own lines say, or what nobody can mend."""
    logging.set_verbosity(logging.WARNING)  # orbit's log
    transformers.logging.set_verbosity_error()  # "use PyTorch instead"


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self):
        self._start = time.perf_counter()

    @property
    def seconds(self):
        return time.perf_counter() - self._start


def peak_memory_bytes():
    """The most memory that this process has held at once."""
    # Linux counts in units of 1024 bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def format_duration(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours}:{minutes:02}:{seconds:02}"
        if hours
        else f"{minutes}:{seconds:02}"
    )


def print_table(title, rows, stream):
    """Prints names and values in two columns."""
    print(f"\n{title}", file=stream)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}", file=stream)
