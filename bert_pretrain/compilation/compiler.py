"""A device's program, compiled by the TPU's own compiler, without a TPU.

libtpu holds the compiler, and compiles for a slice that it only knows by
name. What it says of the executable, its memory and its work, is what a TPU
of that slice would be given. It may end its process, hence one of its own.
"""

import collections
import dataclasses
import importlib.util
import re
import time
from collections.abc import Mapping

from bert_pretrain import errors
from bert_pretrain.compilation import isolation, traffic

EXTRA = "pip install -c constraints.txt -e '.[compile]'"
# libtpu looks for the machine that it is on; these spare it the search.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
# What it says of a program, or of one value of it, that is too large.
_TOO_LARGE = (
    r"Used (?P<needed>[\d.]+[BKMG]) of (?P<available>[\d.]+[BKMG]) hbm",
    r"Allocation \(size=(?P<needed>\d+)\) would exceed memory "
    r"\(size=(?P<available>\d+)\)",
)
_UNITS = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler says of one replica's program."""

    flops: float  # all arithmetic
    bytes_accessed: float  # XLA's count; prefetches to fast memory count twice
    temporary_bytes: int
    argument_bytes: int
    output_bytes: int
    alias_bytes: int  # of the outputs, what takes an argument's place
    code_bytes: int
    num_all_reduces: int
    num_other_collectives: int
    compile_seconds: float
    text: str = dataclasses.field(repr=False)  # the optimized, scheduled HLO


class DoesNotFit(isolation.Refused):
    """What the compiler says of a program that a chip cannot hold."""

    def __init__(self, needed_bytes: int, available_bytes: int):
        super().__init__(needed_bytes, available_bytes)
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes


def is_installed() -> bool:
    """Whether jax and libtpu are here."""
    return all(importlib.util.find_spec(n) for n in ("jax", "libtpu"))


def compile_program(
    hlo: bytes,
    topology: str,
    num_replicas: int,
    topology_options: Mapping | None = None,
    title: str = "compiling",
) -> Compiled:
    """Compiles in a process of its own.

    Args:
      hlo: see `device_program.DeviceProgram`.
      topology: such as v5e:2x4.
      num_replicas: as many chips of the topology are used.
      topology_options: see `slices.Slice`.
      title: what is compiled, to be said meanwhile.

    Raises:
      DoesNotFit: if a chip's memory is too small.
      UserError: with what the compiler said last.
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


def _compile(hlo, topology, num_replicas, topology_options):
    from jax.experimental import topologies
    from jaxlib import _jax

    from bert_pretrain.tpu import stablehlo

    program = stablehlo.of_hlo(hlo)
    devices = topologies.get_topology_desc(
        platform="tpu", topology_name=topology, **topology_options
    ).devices[:num_replicas]
    start = time.perf_counter()
    try:
        executable = devices[0].client.compile(
            program,
            _jax.DeviceList(tuple(devices)),
            stablehlo.compile_options(devices),
        )
    except _jax.XlaRuntimeError as error:
        raise _translate(str(error)) from error
    seconds = time.perf_counter() - start
    memory = executable.get_compiled_memory_stats()
    cost = executable.cost_analysis()
    if isinstance(cost, list):
        (cost,) = cost
    (module,) = executable.hlo_modules()
    text = module.to_string()
    again = _repeated(module, text)
    # A collective that runs beside others has a start and an end.
    collectives = re.findall(
        r" (all-reduce|reduce-scatter|all-gather|all-to-all|"
        r"collective-permute)(?:-start)?\(",
        text,
    )
    num_all_reduces = collectives.count("all-reduce")
    return Compiled(
        flops=cost["flops"] + again["flops"],
        bytes_accessed=cost["bytes accessed"] + again["bytes accessed"],
        temporary_bytes=memory.temp_size_in_bytes,
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        alias_bytes=memory.alias_size_in_bytes,
        code_bytes=memory.generated_code_size_in_bytes,
        num_all_reduces=num_all_reduces,
        num_other_collectives=len(collectives) - num_all_reduces,
        compile_seconds=seconds,
        text=text,
    )


def _repeated(module, text):
    """The cost of the rounds of loops after the first, which XLA leaves out.

    The TPU's compiler only tells the cost of a whole program, so that of a
    loop's body is asked of another one, which does not know kernels.
    """
    from tensorflow.compiler.xla.service import hlo_pb2

    again = collections.Counter()
    for loop in traffic.loops(text):
        program = hlo_pb2.HloModuleProto.FromString(
            module.as_serialized_hlo_module_proto()
        )
        (body,) = (c for c in program.computations if c.name == loop.body)
        program.entry_computation_id = body.id
        program.entry_computation_name = body.name
        program.host_program_shape.CopyFrom(body.program_shape)
        for field in ("buffer_donor", "input_output_alias", "schedule"):
            program.ClearField(field)
        cost = _portable_cost(program.SerializeToString())
        for name in ("flops", "bytes accessed"):
            again[name] += (loop.num_bodies - loop.num_loops) * cost[name]
    return again


def _portable_cost(hlo):
    """What any XLA says of a program, and its kernels of themselves."""
    import jax
    from jaxlib import _jax

    module = _jax.HloModule.from_serialized_hlo_module_proto(hlo)
    client = jax.devices("cpu")[0].client
    cost = _jax.hlo_module_cost_analysis(client, module)
    entry = module.to_string().partition("\nENTRY ")[2]
    kernels = re.findall(r'"cost_estimate":\{"flops":"(\d+)"', entry)
    return cost | {"flops": cost["flops"] + sum(map(int, kernels))}


def _translate(message):
    """The exception for what the compiler said."""
    for pattern in _TOO_LARGE:
        if found := re.search(pattern, message):
            return DoesNotFit(*map(_bytes, found.group("needed", "available")))
    return errors.UserError(
        f"the compiler refuses the step: {message.splitlines()[0]}"
    )


def _bytes(size):
    if size[-1] in _UNITS:
        return round(float(size[:-1]) * _UNITS[size[-1]])
    return int(size)
