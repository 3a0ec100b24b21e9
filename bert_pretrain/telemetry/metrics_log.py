"""The log of a run: a JSON line for each loop, evaluation and rollback."""

import json
import math

import tensorflow as tf

from bert_pretrain import errors, files


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
                for record in read(self._path)
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


def read(path):
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
