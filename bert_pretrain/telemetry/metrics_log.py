"""The log of a run: a JSON line for each loop, evaluation and rollback.

A line has the kind, the step, the number of examples that the run had
consumed, and the values. A value that is not finite becomes null.

On this machine a line is in the file at once. An object store takes only whole
files, so there the lines are kept and written together.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import tensorflow as tf

from bert_pretrain import errors, file_errors, files, flush_timer


class State(Protocol):
    """The state of a run, see `train_state.TrainState`."""

    @property
    def step(self) -> int:
        """Number of updates so far."""

    @property
    def num_examples(self) -> tf.Variable:
        """Examples that the run has consumed."""


class MetricsLog:
    """Writes the log of a run, and keeps its records."""

    def __init__(
        self,
        path: str,
        state: State,
        follow: Callable[[dict[str, Any]], None] = lambda record: None,
    ) -> None:
        """Prepares it.

        Args:
          path: of the file.
          state: of the run.
          follow: is called with each record that is added.
        """
        self._path = path
        self._state = state
        self._follow = follow
        self._records: list[dict[str, Any]] = []
        self._timer = flush_timer.FlushTimer(path)
        self._num_written = 0  # of the records

    def resume(self, is_restored: bool) -> None:
        """Removes the records of steps that will be done again.

        These are the records with more examples than the state has consumed.
        The number of examples never decreases in a run, but the step does, in
        a rollback.

        Args:
          is_restored: whether the state comes from a checkpoint. If not, all
            records are removed.
        """
        self._records = []
        num_examples = int(self._state.num_examples.numpy())
        if is_restored and tf.io.gfile.exists(self._path):
            self._records = [
                record
                for record in read(self._path)
                if record["num_examples"] <= num_examples
            ]
        self._write_all()

    def append(self, kind: str, values: Mapping[str, Any]) -> None:
        """Adds a record, unless one of this kind, step and example exists."""
        record: dict[str, Any] = {
            "kind": kind,
            "step": self._state.step,
            "num_examples": int(self._state.num_examples.numpy()),
        }
        if any(record.items() <= other.items() for other in self._records):
            return
        for name, value in values.items():
            record[name] = files.finite_or_none(float(value))
        self._records.append(record)
        if self._timer.is_due():
            self.flush()
        self._follow(record)

    def flush(self) -> None:
        """Writes the records that are not in the file yet.

        Call it before a checkpoint is saved, and when the run ends.
        """
        new = self._records[self._num_written :]
        if not new:
            return
        if not files.is_local(self._path):
            self._write_all()
            return
        with file_errors.naming(self._path):
            with tf.io.gfile.GFile(self._path, "a") as file:
                file.write("".join(map(_json_line, new)))
        self._num_written = len(self._records)

    def _write_all(self) -> None:
        files.write_text(self._path, "".join(map(_json_line, self._records)))
        self._num_written = len(self._records)

    @property
    def records(self) -> tuple[dict[str, Any], ...]:
        """All records, in order."""
        return tuple(self._records)

    def evaluations(self) -> list[dict[str, Any]]:
        """The evaluations up to the present step, in order."""
        return evaluations(self._records, self._state.step)


def evaluations(
    records: Iterable[dict[str, Any]], step: int
) -> list[dict[str, Any]]:
    """The evaluations among records, up to a step, in order.

    Evaluations of steps that a rollback has undone are left out.
    """
    found: list[dict[str, Any]] = []
    for record in records:
        if record["kind"] == "eval":
            found = [old for old in found if old["step"] < record["step"]]
            found.append(record)
    return [old for old in found if old["step"] <= step]


def read(path: str) -> list[dict[str, Any]]:
    """Reads the records of a log.

    A last line without an end is left out: the writer was killed, or is still
    writing. Other lines that are no records are left out with a warning.
    """
    *lines, rest = files.read_text(path).split("\n")
    records, wrong = [], []
    for number, line in enumerate([*lines, rest] if rest else lines, 1):
        record = _parse(line)
        if record is not None:
            records.append(record)
        elif number <= len(lines):
            wrong.append(number)
    if wrong:
        errors.warn(
            f"{path}: {len(wrong):,} of {len(lines):,} lines are no records of "
            f"a run and are left out, the first of them in line {wrong[0]:,}."
        )
    return records


def _parse(line: str) -> dict[str, Any] | None:
    """The record in a line, or None if the line holds none."""
    try:
        record = json.loads(line)
        is_record = (
            isinstance(record["kind"], str)
            and type(record["step"]) is int
            and type(record["num_examples"]) is int
            and all(
                value is None or type(value) in (int, float)
                for name, value in record.items()
                if name != "kind"
            )
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return record if is_record else None


def _json_line(record: Mapping[str, Any]) -> str:
    return json.dumps(record) + "\n"
