"""Stages and their work units.

A stage is one function and a list of units. A unit reads its own inputs,
writes its own output files, and returns a summary. The summary is written
last, to `<work_dir>/<stage>/<number>.json`. Therefore a unit that has a
summary is finished and does not run again, a build can be killed at any moment
and continued, and the output does not depend on the number of workers or on
the order in which they finish.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from bert_pretrain import files

_REPORT_SECONDS = 0.5

Unit = TypeVar("Unit")
Summary = dict[str, Any]  # plain values that JSON can hold
Report = tuple[int, int]  # bytes of text and items since the last report


@dataclasses.dataclass
class UnitProgress:
    """The progress of a running unit.

    Attributes:
      send: gets a report from time to time.
      place: the file that the unit reads now, for error messages.
      num_bytes: text that was read since the last report.
      num_items: documents or rows that were done since the last report.
    """

    send: Callable[[Report], None]
    place: str = ""
    num_bytes: int = 0
    num_items: int = 0
    _last_sent: float = 0.0

    def add(self, num_bytes: int, num_items: int) -> None:
        """Counts work, and sends a report if the last one is old."""
        self.num_bytes += num_bytes
        self.num_items += num_items
        now = time.monotonic()
        if now - self._last_sent > _REPORT_SECONDS:
            self.flush()
            self._last_sent = now

    def flush(self) -> None:
        """Sends what was counted since the last report."""
        if self.num_bytes or self.num_items:
            self.send((self.num_bytes, self.num_items))
            self.num_bytes = self.num_items = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage(Generic[Unit]):
    """A function and the units to run it on.

    Attributes:
      name: also the name of the stage's folder.
      item: what the progress bar counts, such as "documents".
      run: called as `run(unit, prefix, progress)`. The path of each file that
        it writes must begin with `prefix`.
      num_bytes: text of all units, for the progress bar.
      describe: names the input of a unit in error messages. None: its path
        prefix is used.
    """

    name: str
    item: str
    run: Callable[[Unit, str, UnitProgress], Summary]
    units: Sequence[Unit]
    num_bytes: int
    describe: Callable[[Unit], str] | None = None

    def name_of(self, i: int, prefix: str) -> str:
        """Name of unit `i` in error messages."""
        return self.describe(self.units[i]) if self.describe else prefix


def unit_prefixes(work_dir: str, stage: Stage[Any]) -> list[str]:
    """Path prefixes of the units' files; makes the folder of the stage."""
    files.make_directory(f"{work_dir}/{stage.name}")
    return [f"{work_dir}/{stage.name}/{i:05d}" for i in range(len(stage.units))]


def summary_path(prefix: str) -> str:
    """Path of the summary of the unit with this path prefix."""
    return prefix + ".json"


def unfinished(prefixes: Sequence[str]) -> list[int]:
    """Numbers of the units that have no summary yet."""
    # One listing: a request for each file takes long on object stores.
    folders = {os.path.dirname(prefix) for prefix in prefixes}
    found: set[str] = set()
    for folder in folders:
        found.update(f"{folder}/{name}" for name in files.list_names(folder))
    return [
        i
        for i, prefix in enumerate(prefixes)
        if summary_path(prefix) not in found
    ]
