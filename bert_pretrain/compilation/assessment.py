"""What a step needs of a chip, and how fast it can be there at the most."""

import dataclasses

from bert_pretrain import errors
from bert_pretrain.compilation import (
    compiler,
    roofline,
    slices,
    traffic,
    training_step,
)

# What well-tuned training reaches of the peak (Chowdhery et al. 2022, table 3,
# has 46 % for PaLM and less for those before).
USUAL_SHARE = 0.4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assessment:
    """What is known of one replica's step once it is compiled."""

    num_rows: int  # of a replica
    needed_bytes: int
    available_bytes: int
    useful_flops: float
    variable_bytes: int
    optimizer_bytes: int
    # None if the compiler gave up, since a chip is too small.
    compiled: compiler.Compiled | None
    traffic: traffic.Traffic | None
    bound: roofline.Roofline | None
    usual_seconds: float  # at `USUAL_SHARE` of the peak

    @property
    def fits(self) -> bool:
        return (
            self.compiled is not None
            and self.needed_bytes <= self.available_bytes
        )

    def num_fitting_rows(self) -> int:
        """About how many rows would fit, if memory grows with them."""
        fixed = self.variable_bytes + self.optimizer_bytes
        if self.compiled:
            fixed = self.compiled.argument_bytes + self.compiled.code_bytes
        a_row = (self.needed_bytes - fixed) / self.num_rows
        return max(0, int((self.available_bytes - fixed) / a_row))

    def to_dict(self) -> dict:
        """Plain values that JSON holds; None for what is not known."""
        return {
            "fits": self.fits,
            "rows_per_replica": self.num_rows,
            "needed_bytes": self.needed_bytes,
            "available_bytes": self.available_bytes,
            "variable_bytes": self.variable_bytes,
            "optimizer_bytes": self.optimizer_bytes,
            "useful_flops": self.useful_flops,
            **_values(compiler.Compiled, self.compiled),
            **_values(traffic.Traffic, self.traffic),
            "roofline_seconds": self.bound and self.bound.seconds,
            "usual_seconds": self.usual_seconds,
        }


def assess(
    slice_: slices.Slice, num_rows: int, step: training_step.Step, title: str
) -> Assessment:
    """Compiles a step, and tells what it needs.

    Args:
      num_rows: of a replica.
      title: what is compiled, to be said meanwhile.
    """
    kind = slice_.kind
    common = {
        "num_rows": num_rows,
        "available_bytes": kind.memory // kind.replicas_per_chip
        - kind.reserved,
        "useful_flops": step.useful_flops,
        "variable_bytes": step.variable_bytes,
        "optimizer_bytes": step.optimizer_bytes,
        "usual_seconds": roofline.of_step(
            slice_, step.useful_flops / USUAL_SHARE, 0, 0
        ).seconds,
    }
    try:
        compiled = compiler.compile_program(
            step.hlo,
            slice_.topology,
            slice_.num_replicas,
            slice_.topology_options,
            title,
        )
    except compiler.DoesNotFit as too_large:
        return Assessment(
            needed_bytes=too_large.needed_bytes,
            compiled=None,
            traffic=None,
            bound=None,
            **common,
        )
    except errors.UserError as error:
        raise errors.UserError(
            f"--accelerator_type={slice_.accelerator_type}: {error}"
        ) from error
    moved = traffic.measure(compiled.text)
    return Assessment(
        needed_bytes=compiled.argument_bytes
        + compiled.temporary_bytes
        + compiled.output_bytes
        - compiled.alias_bytes
        + compiled.code_bytes,
        compiled=compiled,
        traffic=moved,
        bound=roofline.of_step(
            slice_,
            compiled.flops,
            moved.main_memory_bytes,
            moved.all_reduce_bytes,
        ),
        **common,
    )


def _values(kind, instance):
    """The fields of an instance of `kind` by name, or as many Nones."""
    return {
        field.name: getattr(instance, field.name, None)
        for field in dataclasses.fields(kind)
        if field.name != "text"
    }
