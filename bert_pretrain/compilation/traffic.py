"""What crosses main memory and the links in a program, by its HLO text.

XLA's own count of bytes takes a value that is fetched ahead into fast memory
for two: the fetch, and the read of it there. Here only what lies in main
memory counts, in the tiles that it is stored in; of a conditional the branch
that moves more, which is the one that updates; and a loop as often as it
runs. A kernel of Pallas counts its operands and results once: if it reads one
again, it moves more.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

_BITS = {"pred": 8, "bf16": 16}  # Others end in theirs, as s32 does.
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](?:\{([^{}]*)\})?")
_HEAD = re.compile(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*)")
_NAME = re.compile(r"%([\w.\-]+)")
# They give names to what is there already.
_FREE = {
    "after-all",
    "bitcast",
    "constant",
    "get-tuple-element",
    "opt-barrier",
    "parameter",
    "partition-id",
    "replica-id",
    "tuple",
}
_FREE_CALLS = ('"AllocateBuffer"', '"ConcatBitcast"')
# They read of their first operand as much as they give.
_SLICES = {"dynamic-slice", "gather", "slice"}


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What one execution of a program moves."""

    main_memory_bytes: int
    all_reduce_bytes: int  # given to all-reduces


@dataclasses.dataclass(frozen=True)
class Loop:
    """A loop, where it stands in another or alone."""

    body: str  # the name of its computation
    num_bodies: int  # times that the body is executed, in all
    num_loops: int  # times that the loop is entered


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    operation: str
    operands: tuple[str, ...]
    rest: str
    is_root: bool


def measure(text: str) -> Traffic:
    """The traffic of a program.

    Args:
      text: optimized HLO, as XLA prints it.
    """
    return Traffic(*_Module(text).measure_entry())


def loops(text: str) -> list[Loop]:
    """The loops that a program runs."""
    return list(_Module(text).loops())


class _Module:
    """Computations, by name, each of which is a table of instructions."""

    def __init__(self, text):
        self._computations = {}
        for line in text.splitlines():
            if head := _HEAD.match(line):
                table = self._computations[head[1]] = {}
                if line.startswith("ENTRY"):
                    self._entry = head[1]
            elif found := _LINE.match(line):
                table[found[2]] = _parse(found[2], found[3], bool(found[1]))

    def measure_entry(self):
        return self._measure(self._entry)

    def loops(self) -> Iterator[Loop]:
        yield from self._loops(self._entry, 1)

    def _loops(self, name, times):
        for instruction in self._computations[name].values():
            called = self._called(instruction)
            if instruction.operation == "while":
                body = called["body"]
                trips = times * self._num_trips(called["condition"])
                yield Loop(body, trips, times)
                yield from self._loops(body, trips)
            elif instruction.operation in ("conditional", "call"):
                for each in called.values():
                    yield from self._loops(each, times)

    def _measure(self, name):
        """(Bytes of main memory, bytes given to all-reduces)."""
        table = self._computations[name]
        counts = [self._measure_one(each, table) for each in table.values()]
        return tuple(map(sum, zip(*counts, strict=True)))

    def _measure_one(self, instruction, table):
        operation = instruction.operation
        called = self._called(instruction)
        if operation == "while":
            trips = self._num_trips(called["condition"])
            return tuple(trips * n for n in self._measure(called["body"]))
        if operation == "conditional":
            return max(self._measure(branch) for branch in called.values())
        if operation == "call":
            return self._measure(called["to_apply"])
        if (
            operation in _FREE
            or operation.endswith("-done")
            or any(call in instruction.rest for call in _FREE_CALLS)
        ):
            return 0, 0
        operands = [table[name] for name in instruction.operands]
        if operation in ("all-reduce", "all-reduce-start"):
            moved = sum(_num_bytes(each.shape) for each in operands)
            # It is given everything, wherever that lies, and gives as much.
            given = sum(_num_bytes(o.shape, everywhere=True) for o in operands)
            return 2 * moved, given
        if operation.endswith("-start"):
            return _fetched(instruction, operands), 0
        if operation == "fusion":
            return self._fused(called["calls"], instruction, operands), 0
        if operation in _SLICES:
            first, *operands = operands
            read = min(_num_bytes(first.shape), _num_bytes(instruction.shape))
        elif operation == "dynamic-update-slice":
            # It is written into the place of its first operand.
            _, update, *_ = operands
            return 2 * _num_bytes(update.shape), 0
        else:
            read = 0
        read += sum(_num_bytes(operand.shape) for operand in operands)
        return read + _num_bytes(instruction.shape), 0

    def _fused(self, name, instruction, operands):
        """What a fusion reads and writes, where it needs only slices of it."""
        table = self._computations[name]
        users = collections.defaultdict(list)
        for inner in table.values():
            for operand in inner.operands:
                users[operand].append(inner)
        total = 0
        written = instruction.shape
        for inner in table.values():
            if inner.is_root and inner.operation == "dynamic-update-slice":
                written = table[inner.operands[1]].shape + _space(written)
            if inner.operation != "parameter":
                continue
            operand = operands[int(re.match(r"\d+", inner.rest)[0])]
            size = _num_bytes(operand.shape)
            parts = [_part(user, inner.name) for user in users[inner.name]]
            if size and None not in parts:
                size = min(size, sum(parts))
            total += size
        return total + _num_bytes(written)

    def _called(self, instruction):
        """The computations that an instruction names, by their part in it."""
        if instruction.operation not in (
            "while",
            "conditional",
            "call",
            "fusion",
        ):
            return {}
        called = dict(
            re.findall(
                r"(body|condition|to_apply|calls|true_computation|"
                r"false_computation)=%?([\w.\-]+)",
                instruction.rest,
            )
        )
        branches = re.search(
            r"branch_computations=\{([^}]*)\}", instruction.rest
        )
        if branches:
            called |= dict(enumerate(_NAME.findall(branches[1])))
        return called

    def _num_trips(self, condition):
        """How often a loop runs that counts from 0 to a constant."""
        numbers = [
            int(re.match(r"-?\d+", instruction.rest)[0])
            for instruction in self._computations[condition].values()
            if instruction.operation == "constant"
            and re.match(r"[su]\d+\[\]", instruction.shape)
        ]
        return min((n for n in numbers if n > 0), default=1)


def _parse(name, definition, is_root):
    shape, rest = _split(definition, " ")
    operation, _, rest = rest.partition("(")
    operands, rest_after = _split(rest, ")")
    return _Instruction(
        name=name,
        shape=shape,
        operation=operation,
        operands=tuple(_NAME.findall(operands)),
        # What a parameter or a constant holds in place of operands.
        rest=rest_after if _NAME.search(operands) else rest,
        is_root=is_root,
    )


def _split(text, end):
    """Splits at the first `end` that is in no bracket."""
    depth = 0
    for i, character in enumerate(text):
        if character == end and not depth:
            return text[:i], text[i + 1 :]
        depth += (character in "([{") - (character in ")]}")
    return text, ""


def _num_bytes(shape, everywhere=False):
    """What a shape, or those of a tuple, take of main memory."""
    return sum(
        _size(kind, dimensions, layout)
        for kind, dimensions, layout in _ARRAY.findall(shape)
        if everywhere or not _space(layout)
    )


def _space(layout):
    """The memory that a layout names, " S(1)" or such; "" for the main one."""
    found = re.search(r"S\([1-9]\d*\)", layout)
    return f" {found[0]}" if found else ""


def _size(kind, dimensions, layout):
    bits = _BITS.get(kind) or int((re.search(r"\d+", kind) or "0")[0])
    sizes = [int(size) for size in dimensions.split(",") if size]
    order, _, tiling = layout.partition(":")
    if (tile := re.match(r"T\(([\d,]+)\)", tiling)) and order:
        # The tile fills the last axes as they lie in memory.
        minor_first = [int(axis) for axis in order.split(",")]
        widths = [int(width) for width in tile[1].split(",")][::-1]
        for axis, width in zip(minor_first, widths, strict=False):
            sizes[axis] = math.ceil(sizes[axis] / width) * width
    return math.prod(sizes) * bits // 8


def _fetched(instruction, operands):
    """What a copy moves that runs beside other work: once in, once out."""
    # (result, operand, …) of copies, ((operand), result, …) of others.
    arrays = [match[0] for match in _ARRAY.finditer(instruction.shape)]
    result = arrays[0 if instruction.operation == "copy-start" else 1]
    moved = _num_bytes(result, everywhere=True)
    reads = moved if _num_bytes(operands[0].shape) else 0
    return reads + _num_bytes(result)


def _part(user, name):
    """What an instruction reads of the operand `name`; None for all of it."""
    if user.operands[0] != name:
        return None
    if user.operation in _SLICES:
        return _num_bytes(user.shape, everywhere=True)
    return 0 if user.operation == "dynamic-update-slice" else None
