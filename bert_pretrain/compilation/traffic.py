"""Bytes that a program moves in main memory and in sums over replicas.

XLA's own count includes fast memory. It counts a prefetched value twice: for
the prefetch, and for the read from fast memory. Here only main memory counts,
in whole tiles. A conditional counts as the branch that moves more, which is the
one that updates the variables. A loop counts as often as it runs. The operands
and results of a Pallas kernel count once; if the kernel reads an operand again,
it moves more than is counted.
"""

import collections
import dataclasses
from collections.abc import Sequence

from bert_pretrain.compilation import hlo_text

# These only give a name to a value that exists already.
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
# These read as many bytes of their first operand as they return.
_SLICES = {"dynamic-slice", "gather", "slice"}


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that one execution of a program moves."""

    main_memory_bytes: int
    all_reduce_bytes: int  # operands of all-reduces


def measure(text: str) -> Traffic:
    """The traffic of a program.

    Args:
      text: optimized HLO, as XLA prints it.
    """
    program = hlo_text.Program(text)
    return _measure(program, program.entry)


def _measure(program: hlo_text.Program, name: str) -> Traffic:
    """The traffic of one computation."""
    computation = program[name]
    counts = [
        _measure_instruction(program, instruction, computation)
        for instruction in computation.values()
    ]
    return Traffic(
        sum(count.main_memory_bytes for count in counts),
        sum(count.all_reduce_bytes for count in counts),
    )


def _measure_instruction(
    program: hlo_text.Program,
    instruction: hlo_text.Instruction,
    computation: hlo_text.Computation,
) -> Traffic:
    operation = instruction.operation
    called = instruction.called()
    if operation == "while":
        num_trips = program.num_trips(called["condition"])
        body = _measure(program, called["body"])
        return Traffic(
            num_trips * body.main_memory_bytes,
            num_trips * body.all_reduce_bytes,
        )
    if operation == "conditional":
        branches = [_measure(program, branch) for branch in called.values()]
        return max(branches, key=dataclasses.astuple)
    if operation == "call":
        return _measure(program, called["to_apply"])
    if (
        operation in _FREE
        or operation.endswith("-done")
        or any(call in instruction.rest for call in _FREE_CALLS)
    ):
        return Traffic(0, 0)
    operands = [computation[name] for name in instruction.operands]
    if operation in ("all-reduce", "all-reduce-start"):
        shapes = [operand.shape for operand in operands]
        # An operand in main memory is read, and its sum is written there. The
        # sum itself takes all operands, in any memory.
        moved = sum(map(hlo_text.num_bytes, shapes))
        summed = sum(hlo_text.num_bytes(s, everywhere=True) for s in shapes)
        return Traffic(2 * moved, summed)
    if operation.endswith("-start"):
        return Traffic(_copied_bytes(instruction, operands), 0)
    if operation == "fusion":
        fused = program[called["calls"]]
        return Traffic(_fused_bytes(fused, instruction, operands), 0)
    return Traffic(_plain_bytes(instruction, operands), 0)


def _copied_bytes(
    instruction: hlo_text.Instruction,
    operands: Sequence[hlo_text.Instruction],
) -> int:
    """Bytes of an asynchronous copy: one read and one write."""
    # The shape of a copy is (result, operand, …), that of other operations is
    # ((operand), result, …).
    place = 0 if instruction.operation == "copy-start" else 1
    result = instruction.arrays[place]
    is_read = hlo_text.num_bytes(operands[0].shape) > 0
    read = hlo_text.num_bytes(result, everywhere=True) if is_read else 0
    return read + hlo_text.num_bytes(result)


def _fused_bytes(
    fused: hlo_text.Computation,
    instruction: hlo_text.Instruction,
    operands: Sequence[hlo_text.Instruction],
) -> int:
    """Bytes of a fusion, which may read or write only slices."""
    users = collections.defaultdict(list)
    for inner in fused.values():
        for operand in inner.operands:
            users[operand].append(inner)
    total = 0
    written = instruction.shape
    for inner in fused.values():
        if inner.is_root and inner.operation == "dynamic-update-slice":
            update = fused[inner.operands[1]]
            written = update.shape + hlo_text.memory_space(written)
        if inner.operation != "parameter":
            continue
        size = hlo_text.num_bytes(operands[inner.number].shape)
        slices = [_slice_bytes(user, inner.name) for user in users[inner.name]]
        known = [each for each in slices if each is not None]
        if size and len(known) == len(slices):
            size = min(size, sum(known))
        total += size
    return total + hlo_text.num_bytes(written)


def _slice_bytes(user: hlo_text.Instruction, name: str) -> int | None:
    """Bytes that an instruction reads of one operand; None for all of it."""
    if user.operands[0] != name:
        return None
    if user.operation in _SLICES:
        return hlo_text.num_bytes(user.shape, everywhere=True)
    return 0 if user.operation == "dynamic-update-slice" else None


def _plain_bytes(
    instruction: hlo_text.Instruction,
    operands: Sequence[hlo_text.Instruction],
) -> int:
    """Bytes of an instruction that stands alone: operands and result."""
    result = hlo_text.num_bytes(instruction.shape)
    sizes = [hlo_text.num_bytes(operand.shape) for operand in operands]
    if instruction.operation == "dynamic-update-slice":
        # The result takes the place of the first operand; only the update is
        # read and written.
        return 2 * sizes[1]
    if instruction.operation in _SLICES:
        sizes[0] = min(sizes[0], result)
    return sum(sizes) + result
