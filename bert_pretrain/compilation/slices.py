"""TPU slices: the number of chips for each name, and their topology."""

import dataclasses
import math
import re
from typing import Any

from bert_pretrain import errors
from bert_pretrain.telemetry import accelerators

# The sizes that Google offers, in chips (docs.cloud.google.com/tpu/docs/{v2,v3,
# v4,v5e,v5p,v6e}, "Configurations"). Chips of v4 and v5p are connected in three
# dimensions; slices of 64 chips and more consist of cubes of 4 x 4 x 4.
_FLAT = {
    "TPU v2": (4, 16, 64, 128, 256),
    "TPU v3": (4, 16, 32, 64, 128, 256, 512, 1024),
    "TPU v5e": (1, 4, 8, 16, 32, 64, 128, 256),
    "TPU v6e": (1, 4, 8, 16, 32, 64, 128, 256),
}
_MAX_CHIPS = {"TPU v4": 4096, "TPU v5p": 6144}
_BELOW_A_CUBE = {4: (2, 2, 1), 8: (2, 2, 2), 16: (2, 2, 4), 32: (2, 4, 4)}
_CUBE = 4**3
# The number in the name of a slice counts TensorCores for these kinds, two per
# chip. For later kinds it counts chips.
_CORES_PER_CHIP = {"TPU v2": 2, "TPU v3": 2, "TPU v4": 2, "TPU v5p": 2}
_TOPOLOGY_NAMES = {
    "TPU v2": "v2",
    "TPU v3": "v3",
    "TPU v4": "v4",
    "TPU v5e": "v5e",
    "TPU v5p": "v5p",
    "TPU v6e": "v6e",
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Connected chips, as libtpu describes them."""

    accelerator_type: str
    kind: accelerators.TPU
    num_chips: int
    topology: str  # such as v5e:2x4
    topology_options: dict[str, Any]  # for jax's `get_topology_desc`

    @property
    def num_replicas(self) -> int:
        """Replicas on all chips."""
        return self.num_chips * self.kind.replicas_per_chip

    @property
    def replica_flops(self) -> float:
        """Peak FLOP/s of a replica in bfloat16."""
        assert self.kind.bfloat16 is not None  # Every TPU has it.
        return self.kind.bfloat16 / self.kind.replicas_per_chip

    @property
    def replica_memory_bytes(self) -> int:
        """Main memory that a replica's program can use."""
        kind = self.kind
        return kind.memory // kind.replicas_per_chip - kind.reserved

    @property
    def replica_memory_rate(self) -> float:
        """Bytes/s of main memory for a replica."""
        return self.kind.memory_rate / self.kind.replicas_per_chip

    @property
    def replica_link_rate(self) -> float:
        """Bytes/s to other chips for a replica, over all links together."""
        return self.kind.link_rate / self.kind.replicas_per_chip


def find(accelerator_type: str) -> Slice:
    """The slice with this name.

    Raises:
      UserError: if there is no such kind of TPU, or no slice of this size.
    """
    kind = accelerators.find_tpu(accelerator_type)
    if kind is None:
        raise errors.UserError(
            f"--accelerator_type={accelerator_type} is not a kind of TPU with "
            "a size; give for example v4-8, v5litepod-8, v5p-8 or v6e-8."
        )
    (size,) = map(int, re.findall(r"-(\d+)$", accelerator_type))
    num_cores = _CORES_PER_CHIP.get(kind.name, 1)
    shape = None if size % num_cores else _shape(kind.name, size // num_cores)
    if shape is None:
        prefix = accelerator_type.rpartition("-")[0]
        raise errors.UserError(
            f"--accelerator_type={accelerator_type}: there is no slice of "
            f"{size} {'chips' if num_cores == 1 else 'cores'} of {kind.name}; "
            f"there are {_describe_sizes(kind.name, prefix, num_cores)}."
        )
    options: dict[str, Any] = {}
    if math.prod(shape) == 1:
        # libtpu assumes a host with four chips. The host of this slice has
        # one.
        options["chips_per_host_bounds"] = (1, 1, 1)
    if kind.name == "TPU v4":
        # Without this, libtpu shows the two cores of a chip as two devices.
        options["chip_config_name"] = "megacore"
    return Slice(
        accelerator_type=accelerator_type,
        kind=kind,
        num_chips=math.prod(shape),
        topology=f"{_TOPOLOGY_NAMES[kind.name]}:{'x'.join(map(str, shape))}",
        topology_options=options,
    )


def _shape(name: str, num_chips: int) -> tuple[int, ...] | None:
    """Chips along each dimension; None if there is no slice of this size."""
    if name in _FLAT:
        if num_chips not in _FLAT[name]:
            return None
        return _balanced(num_chips, 2)
    if num_chips in _BELOW_A_CUBE:
        return _BELOW_A_CUBE[num_chips]
    if num_chips > _MAX_CHIPS[name] or num_chips % _CUBE or not num_chips:
        return None
    return tuple(4 * n for n in _balanced(num_chips // _CUBE, 3))


def _balanced(number: int, num_factors: int) -> tuple[int, ...]:
    """Factors of a number in ascending order, the largest as small as
    possible."""
    if num_factors == 1:
        return (number,)
    return min(
        (
            tuple(sorted((first, *_balanced(number // first, num_factors - 1))))
            for first in range(1, number + 1)
            if number % first == 0
        ),
        key=lambda factors: (factors[-1], -factors[0]),
    )


def _describe_sizes(name: str, prefix: str, num_cores: int) -> str:
    if name in _FLAT:
        return ", ".join(f"{prefix}-{n * num_cores}" for n in _FLAT[name])
    small = ", ".join(f"{prefix}-{n * num_cores}" for n in _BELOW_A_CUBE)
    return (
        f"{small} and multiples of {_CUBE * num_cores} up to "
        f"{prefix}-{_MAX_CHIPS[name] * num_cores}"
    )
