"""A device's program, compiled by the TPU's own compiler, without a TPU.

python -m bert_pretrain.tpu.compiler --hlo_file=… --topology=v5e:2x4 …

libtpu holds the compiler, and compiles for a slice that it only knows by
name. What it says of the executable, its memory and its work, is what a TPU
of that slice would be given. It may end its process, hence one of its own.
"""

import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import time

from bert_pretrain import errors

# libtpu looks for the machine that it is on; these spare it the search.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
EXTRA = "pip install -c constraints.txt -e '.[compile]'"


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler says of one replica's program."""

    flops: float  # all arithmetic, in a step
    bytes_accessed: float  # XLA's count; prefetches to fast memory count twice
    temporary_bytes: int
    argument_bytes: int
    output_bytes: int
    alias_bytes: int  # of the outputs, what takes an argument's place
    code_bytes: int
    num_all_reduces: int
    num_other_collectives: int
    compile_seconds: float
    text: str  # the optimized, scheduled HLO


def is_installed() -> bool:
    """Whether jax and libtpu are here."""
    import importlib.util

    return all(importlib.util.find_spec(n) for n in ("jax", "libtpu"))


def compile_program(
    hlo: bytes, topology: str, num_replicas: int
) -> Compiled:
    """Compiles in a process of its own.

    Args:
      hlo: see `device_program.DeviceProgram`.
      topology: such as v5e:2x4.
      num_replicas: as many chips of the topology are used.

    Raises:
      UserError: with what the compiler said last.
    """
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/program.hlo", "wb") as file:
            file.write(hlo)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                __spec__.name,
                folder,
                topology,
                str(num_replicas),
            ],
            capture_output=True,
            text=True,
            errors="replace",
            env=os.environ | _ENVIRONMENT,
            check=False,
        )
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise errors.UserError(
                f"the compiler for {topology} failed: "
                f"{lines[-1].strip() if lines else done.returncode}"
            )
        with open(f"{folder}/result.json") as file:
            return Compiled(**json.load(file))


def _main(folder, topology, num_replicas):
    from jax.experimental import topologies
    from jaxlib import _jax

    from bert_pretrain.tpu import stablehlo

    with open(f"{folder}/program.hlo", "rb") as file:
        program = stablehlo.of_hlo(file.read())
    devices = topologies.get_topology_desc(
        platform="tpu", topology_name=topology
    ).devices[:num_replicas]
    start = time.perf_counter()
    executable = devices[0].client.compile(
        program,
        _jax.DeviceList(tuple(devices)),
        stablehlo.compile_options(devices),
    )
    seconds = time.perf_counter() - start
    memory = executable.get_compiled_memory_stats()
    cost = executable.cost_analysis()
    if isinstance(cost, list):
        (cost,) = cost
    text = executable.hlo_modules()[0].to_string()
    # A collective that runs beside others has a start and an end.
    collectives = re.findall(
        r" (all-reduce|reduce-scatter|all-gather|all-to-all|"
        r"collective-permute)(?:-start)?\(",
        text,
    )
    num_all_reduces = collectives.count("all-reduce")
    result = Compiled(
        flops=cost["flops"],
        bytes_accessed=cost["bytes accessed"],
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
    with open(f"{folder}/result.json", "w") as file:
        json.dump(dataclasses.asdict(result), file)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
