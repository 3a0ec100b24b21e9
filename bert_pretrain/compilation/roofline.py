"""The least time that a step can take on a chip, by what it computes and moves.

A bound and no forecast: nothing is ever at all of its peaks at once.
"""

import dataclasses

from bert_pretrain.compilation import slices

ASSUMPTIONS = (
    "arithmetic at the chip's bfloat16 peak and main memory at its full rate, "
    "both at once; the sums over replicas after them, over all links of a "
    "chip at once; input and the host cost nothing"
)


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds of a step, at the least."""

    compute: float
    memory: float
    links: float

    @property
    def seconds(self) -> float:
        # Gradients are summed once all are there, and clipped after that.
        return max(self.compute, self.memory) + self.links


def of_step(
    slice_: slices.Slice,
    flops: float,
    main_memory_bytes: float,
    all_reduce_bytes: float,
) -> Roofline:
    """The bound of a step, from what one replica does."""
    kind, num_replicas = slice_.kind, slice_.num_replicas
    # A ring, or rings side by side: each replica passes on all parts but its
    # own, once to add them up and once to spread the sums.
    sent = 2 * (num_replicas - 1) / num_replicas * all_reduce_bytes
    per_replica = kind.replicas_per_chip
    return Roofline(
        compute=flops / (kind.bfloat16 / per_replica),
        memory=main_memory_bytes / (kind.memory_rate / per_replica),
        links=sent / (kind.link_rate / per_replica),
    )
