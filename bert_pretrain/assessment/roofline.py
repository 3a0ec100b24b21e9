"""A lower bound of the time of a step, from its arithmetic and its traffic.

It is a bound and not a forecast: a chip never reaches all its peak rates at
the same time.
"""

import dataclasses

from bert_pretrain.compilation import slices

ASSUMPTIONS = (
    "arithmetic at the chip's bfloat16 peak and main memory at its full rate, "
    "both at the same time; then the sums over replicas, over all links of a "
    "chip at the same time; no time for input and the host"
)


@dataclasses.dataclass(frozen=True)
class Roofline:
    """The least number of seconds for each resource in a step."""

    compute: float
    memory: float
    links: float

    @property
    def seconds(self) -> float:
        """The least number of seconds for the step."""
        # The sums begin when all gradients are computed, and clipping waits
        # for the sums.
        return max(self.compute, self.memory) + self.links


def of_step(
    slice_: slices.Slice,
    flops: float,
    main_memory_bytes: float,
    all_reduce_bytes: float,
) -> Roofline:
    """The bound for a step, from the work of one replica."""
    num_replicas = slice_.num_replicas
    # In a ring (or several rings in parallel) of n replicas, each replica
    # sends (n - 1) / n of the bytes twice: to sum them, and to distribute the
    # sums.
    sent = 2 * (num_replicas - 1) / num_replicas * all_reduce_bytes
    return Roofline(
        compute=flops / slice_.replica_flops,
        memory=main_memory_bytes / slice_.replica_memory_rate,
        links=sent / slice_.replica_link_rate,
    )
