"""Compiles a device's program with the TPU's own compiler, without a TPU.

libtpu contains the compiler. It can compile for any slice, given its name. The
executable, with its memory and its work, is the one that a TPU of that slice
would get. The compiler may end its process, so it gets one of its own.
"""

import collections
import dataclasses
import importlib.util
import re
import time
from collections.abc import Mapping
from typing import Any

from bert_pretrain import errors
from bert_pretrain.compilation import hlo_text, isolation

# These keep libtpu from a search for the TPU of this machine.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
# Messages for a program, or for one of its values, that is too large.
_TOO_LARGE = (
    r"Used (?P<needed>[\d.]+[BKMG]) of (?P<available>[\d.]+[BKMG]) hbm",
    r"Allocation \(size=(?P<needed>\d+)\) would exceed memory "
    r"\(size=(?P<available>\d+)\)",
)
_UNITS = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The compiler's facts about one replica's program."""

    flops: float  # of all arithmetic
    bytes_accessed: float  # XLA's count; prefetches to fast memory count twice
    temporary_bytes: int
    argument_bytes: int
    output_bytes: int
    alias_bytes: int  # outputs that reuse the memory of an argument
    code_bytes: int
    num_all_reduces: int
    num_other_collectives: int
    compile_seconds: float
    text: str = dataclasses.field(repr=False)  # the optimized, scheduled HLO


class DoesNotFit(isolation.Refused):
    """The program needs more memory than a chip has."""

    def __init__(self, needed_bytes: int, available_bytes: int) -> None:
        """Keeps both numbers, in a form that can be pickled."""
        super().__init__(needed_bytes, available_bytes)
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes


def is_installed() -> bool:
    """Whether jax and libtpu are installed."""
    return all(importlib.util.find_spec(n) for n in ("jax", "libtpu"))


def compile_program(
    hlo: bytes,
    topology: str,
    num_replicas: int,
    topology_options: Mapping[str, Any] | None = None,
    title: str = "compiling",
) -> Compiled:
    """Compiles a program in a process of its own.

    Args:
      hlo: see `device_program.DeviceProgram`.
      topology: such as v5e:2x4.
      num_replicas: number of chips of the topology that are used.
      topology_options: see `slices.Slice`.
      title: what is compiled; printed on standard error.

    Raises:
      DoesNotFit: if a chip's memory is too small.
      UserError: with the compiler's last message.
    """
    return isolation.call(
        _compile,
        hlo,
        topology,
        num_replicas,
        dict(topology_options or {}),
        title=title,
        environment=_ENVIRONMENT,
    )


def _compile(
    hlo: bytes,
    topology: str,
    num_replicas: int,
    topology_options: Mapping[str, Any],
) -> Compiled:
    from jax.experimental import topologies

    from bert_pretrain.tpu import stablehlo

    devices: list[Any] = topologies.get_topology_desc(
        platform="tpu", topology_name=topology, **topology_options
    ).devices[:num_replicas]
    start = time.perf_counter()
    try:
        executable = stablehlo.compile_for(
            devices,
            hlo,
            stablehlo.compile_options(devices),
            are_present=False,
        )
    except stablehlo.bindings().XlaRuntimeError as error:
        raise _translate(str(error)) from error
    return _describe(executable, time.perf_counter() - start)


def _describe(executable: Any, compile_seconds: float) -> Compiled:
    """The facts about an executable of jaxlib."""
    memory = executable.get_compiled_memory_stats()
    cost = executable.cost_analysis()
    if isinstance(cost, list):
        (cost,) = cost
    (module,) = executable.hlo_modules()
    text = module.to_string()
    repeated = _repeated_cost(module, text)
    # An asynchronous collective has a start and a done instruction.
    collectives = re.findall(
        r" (all-reduce|reduce-scatter|all-gather|all-to-all|"
        r"collective-permute)(?:-start)?\(",
        text,
    )
    num_all_reduces = collectives.count("all-reduce")
    return Compiled(
        flops=cost["flops"] + repeated["flops"],
        bytes_accessed=cost["bytes accessed"] + repeated["bytes accessed"],
        temporary_bytes=memory.temp_size_in_bytes,
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        alias_bytes=memory.alias_size_in_bytes,
        code_bytes=memory.generated_code_size_in_bytes,
        num_all_reduces=num_all_reduces,
        num_other_collectives=len(collectives) - num_all_reduces,
        compile_seconds=compile_seconds,
        text=text,
    )


def _repeated_cost(module: Any, text: str) -> dict[str, float]:
    """The cost of all trips of loops but the first, which XLA does not count.

    The TPU's compiler only gives the cost of a whole program. So the cost of a
    loop's body comes from XLA's general analysis, which does not know kernels.
    """
    from tensorflow.compiler.xla.service import hlo_pb2

    repeated: dict[str, float] = collections.defaultdict(float)
    for loop in hlo_text.Program(text).loops():
        program = hlo_pb2.HloModuleProto.FromString(
            module.as_serialized_hlo_module_proto()
        )
        (body,) = (c for c in program.computations if c.name == loop.body)
        program.entry_computation_id = body.id
        program.entry_computation_name = body.name
        program.host_program_shape.CopyFrom(body.program_shape)
        for field in ("buffer_donor", "input_output_alias", "schedule"):
            program.ClearField(field)
        cost = _general_cost(program.SerializeToString())
        for name in ("flops", "bytes accessed"):
            repeated[name] += (loop.num_bodies - loop.num_loops) * cost[name]
    return repeated


def _general_cost(hlo: bytes) -> dict[str, float]:
    """The cost by XLA's general analysis, plus the FLOPs that kernels state."""
    import jax

    from bert_pretrain.tpu import stablehlo

    xla = stablehlo.bindings()
    module = xla.HloModule.from_serialized_hlo_module_proto(hlo)
    client = jax.devices("cpu")[0].client
    cost = xla.hlo_module_cost_analysis(client, module)
    entry = module.to_string().partition("\nENTRY ")[2]
    kernels = re.findall(r'"cost_estimate":\{"flops":"(\d+)"', entry)
    return cost | {"flops": cost["flops"] + sum(map(int, kernels))}


def _translate(message: str) -> DoesNotFit | errors.UserError:
    """The exception for a message of the compiler."""
    for pattern in _TOO_LARGE:
        if found := re.search(pattern, message):
            needed, available = found.group("needed", "available")
            return DoesNotFit(_num_bytes(needed), _num_bytes(available))
    return errors.UserError(
        f"the compiler refuses the step: {message.splitlines()[0]}"
    )


def _num_bytes(size: str) -> int:
    """The bytes of a size such as 15.75G."""
    if size[-1] in _UNITS:
        return round(float(size[:-1]) * _UNITS[size[-1]])
    return int(size)
