"""The result of a check, and how a check that fails becomes a result."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Literal

from bert_pretrain import errors, interruption

Level = Literal["ok", "warning", "error"]


@dataclasses.dataclass(frozen=True)
class Result:
    """A line of the doctor."""

    name: str  # of what was examined
    level: Level
    text: str  # what was seen
    remedy: str = ""  # for a warning or an error

    def line(self) -> str:
        """The result for people."""
        text = f"{self.text}: {self.remedy}" if self.remedy else self.text
        return f"{self.level:8}{self.name:15}{text}"


def ok(name: str, text: str) -> Result:
    """Something is as it should be."""
    return Result(name, "ok", text)


def warning(name: str, text: str, remedy: str) -> Result:
    """The run can start, but will be worse than it could be."""
    return Result(name, "warning", text, remedy)


def error(name: str, text: str, remedy: str = "") -> Result:
    """The run cannot start, or would be lost."""
    return Result(name, "error", text, remedy)


def results_of(
    name: str, examine: Callable[[], Iterator[Result]]
) -> Iterator[Result]:
    """Yields the results of a check; an error for the user becomes one."""
    try:
        yield from examine()
    except (errors.UserError, interruption.Interrupted) as failure:
        # Its text has the remedy in it.
        yield error(name, " ".join(str(failure).split()).rstrip("."))
