"""Parses the text of a compiled program: optimized HLO, as XLA prints it."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

_BITS = {"pred": 8, "bf16": 16}  # Other types end in their bits, as s32 does.
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](?:\{([^{}]*)\})?")
_HEAD = re.compile(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*)")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(
    r"(body|condition|to_apply|calls|true_computation|false_computation)"
    r"=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_CALLERS = ("while", "conditional", "call", "fusion")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    shape: str
    operation: str
    operands: tuple[str, ...]  # names of instructions
    rest: str  # attributes; of a parameter or a constant also its value
    is_root: bool

    @property
    def number(self) -> int:
        """The number of a parameter, or the value of an integer constant."""
        return int(self.rest.partition(")")[0])

    @property
    def arrays(self) -> list[str]:
        """The shapes of its results; those of a tuple one by one."""
        return [match[0] for match in _ARRAY.finditer(self.shape)]

    def called(self) -> dict[str, str]:
        """Names of the computations that it calls, by attribute or branch."""
        if self.operation not in _CALLERS:
            return {}
        called = dict(_CALLED.findall(self.rest))
        if branches := _BRANCHES.search(self.rest):
            names = _NAME.findall(branches[1])
            called |= {f"branch {i}": name for i, name in enumerate(names)}
        return called


Computation = Mapping[str, Instruction]  # by name, in the order of the text


@dataclasses.dataclass(frozen=True)
class Loop:
    """A loop of a program, which may be inside of another loop."""

    body: str  # name of its computation
    num_bodies: int  # executions of the body, in total
    num_loops: int  # executions of the loop, in total


class Program:
    """The computations of a program."""

    def __init__(self, text: str) -> None:
        """Parses the text."""
        self._computations: dict[str, dict[str, Instruction]] = {}
        self._entry = ""
        for line in text.splitlines():
            if head := _HEAD.match(line):
                computation = self._computations[head[1]] = {}
                if line.startswith("ENTRY"):
                    self._entry = head[1]
            elif found := _LINE.match(line):
                computation[found[2]] = _parse(
                    found[2], found[3], bool(found[1])
                )

    def __getitem__(self, name: str) -> Computation:
        """The computation with this name."""
        return self._computations[name]

    @property
    def entry(self) -> str:
        """Name of the computation that the program executes."""
        return self._entry

    def loops(self) -> Iterator[Loop]:
        """All loops that the program executes."""
        yield from self._loops(self._entry, 1)

    def _loops(self, name: str, times: int) -> Iterator[Loop]:
        for instruction in self[name].values():
            called = instruction.called()
            if instruction.operation == "while":
                body = called["body"]
                num_bodies = times * self.num_trips(called["condition"])
                yield Loop(body, num_bodies, times)
                yield from self._loops(body, num_bodies)
            elif instruction.operation in ("conditional", "call"):
                for each in called.values():
                    yield from self._loops(each, times)

    def num_trips(self, condition: str) -> int:
        """The number of trips of a loop that counts from 0 to a constant.

        Args:
          condition: name of the loop's condition.
        """
        numbers = [
            instruction.number
            for instruction in self[condition].values()
            if instruction.operation == "constant"
            and re.match(r"[su]\d+\[\]", instruction.shape)
        ]
        return min((n for n in numbers if n > 0), default=1)


def num_bytes(shape: str, everywhere: bool = False) -> int:
    """The bytes of a shape, or of all shapes of a tuple, in main memory.

    Args:
      everywhere: counts arrays in other memories, too.
    """
    return sum(
        _array_bytes(kind, dimensions, layout)
        for kind, dimensions, layout in _ARRAY.findall(shape)
        if everywhere or not memory_space(layout)
    )


def memory_space(layout: str) -> str:
    """The memory in a layout, such as " S(1)"; "" for the main memory."""
    found = re.search(r"S\([1-9]\d*\)", layout)
    return f" {found[0]}" if found else ""


def _parse(name: str, definition: str, is_root: bool) -> Instruction:
    shape, rest = _split(definition, " ")
    operation, _, rest = rest.partition("(")
    operands, rest_after = _split(rest, ")")
    return Instruction(
        name=name,
        shape=shape,
        operation=operation,
        operands=tuple(_NAME.findall(operands)),
        # A parameter or a constant has a value in place of operands.
        rest=rest_after if _NAME.search(operands) else rest,
        is_root=is_root,
    )


def _split(text: str, end: str) -> tuple[str, str]:
    """Splits at the first `end` outside of brackets."""
    depth = 0
    for i, character in enumerate(text):
        if character == end and not depth:
            return text[:i], text[i + 1 :]
        depth += (character in "([{") - (character in ")]}")
    return text, ""


def _array_bytes(kind: str, dimensions: str, layout: str) -> int:
    bits = _BITS.get(kind) or int((re.search(r"\d+", kind) or "0")[0])
    sizes = [int(size) for size in dimensions.split(",") if size]
    order, _, tiling = layout.partition(":")
    if (tile := re.match(r"T\(([\d,]+)\)", tiling)) and order:
        # The last dimensions in memory are rounded up to whole tiles.
        minor_first = [int(axis) for axis in order.split(",")]
        widths = [int(width) for width in tile[1].split(",")][::-1]
        for axis, width in zip(minor_first, widths, strict=False):
            sizes[axis] = math.ceil(sizes[axis] / width) * width
    return math.prod(sizes) * bits // 8
