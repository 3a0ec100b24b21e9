"""The memory and work of a step, and its speed at best."""

import dataclasses
from typing import Any

from bert_pretrain import errors
from bert_pretrain.assessment import roofline
from bert_pretrain.compilation import compiler, slices, traffic, training_step

# The share of the peak that well-tuned training reaches. Chowdhery et al. 2022,
# table 3, reports 46 % for PaLM, and less for earlier models.
USUAL_SHARE = 0.4


@dataclasses.dataclass(frozen=True)
class Cost:
    """Facts about a step that only a complete compilation tells."""

    compiled: compiler.Compiled
    moved: traffic.Traffic
    bound: roofline.Roofline

    @property
    def needed_bytes(self) -> int:
        """Memory that the step needs on a replica."""
        compiled = self.compiled
        return (
            compiled.argument_bytes
            + compiled.temporary_bytes
            + compiled.output_bytes
            - compiled.alias_bytes
            + compiled.code_bytes
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assessment:
    """All facts about one replica's step."""

    num_rows: int  # of a replica
    needed_bytes: int
    available_bytes: int
    useful_flops: float
    variable_bytes: int
    optimizer_bytes: int
    cost: Cost | None  # None if the compiler found that memory is too small
    usual_seconds: float  # at `USUAL_SHARE` of the peak

    @property
    def fits(self) -> bool:
        """Whether a chip's memory is large enough."""
        return (
            self.cost is not None and self.needed_bytes <= self.available_bytes
        )

    def num_fitting_rows(self) -> int:
        """About how many rows would fit, if memory grows linearly with them."""
        fixed = self.variable_bytes + self.optimizer_bytes
        if self.cost:
            compiled = self.cost.compiled
            fixed = compiled.argument_bytes + compiled.code_bytes
        bytes_per_row = (self.needed_bytes - fixed) / self.num_rows
        return max(0, int((self.available_bytes - fixed) / bytes_per_row))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None for unknown ones."""
        cost = self.cost
        return {
            "fits": self.fits,
            "rows_per_replica": self.num_rows,
            "needed_bytes": self.needed_bytes,
            "available_bytes": self.available_bytes,
            "variable_bytes": self.variable_bytes,
            "optimizer_bytes": self.optimizer_bytes,
            "useful_flops": self.useful_flops,
            **_values(compiler.Compiled, cost and cost.compiled),
            **_values(traffic.Traffic, cost and cost.moved),
            "roofline_seconds": cost and cost.bound.seconds,
            "usual_seconds": self.usual_seconds,
        }


def assess(
    slice_: slices.Slice, num_rows: int, step: training_step.Step, title: str
) -> Assessment:
    """Compiles a step and assesses it.

    Args:
      num_rows: of a replica.
      title: what is compiled; printed on standard error.

    Raises:
      UserError: if the compiler refuses the step.
    """
    cost = None
    try:
        cost = _compile(slice_, step, title)
        needed_bytes = cost.needed_bytes
    except compiler.DoesNotFit as too_large:
        needed_bytes = too_large.needed_bytes
    usual = roofline.of_step(slice_, step.useful_flops / USUAL_SHARE, 0, 0)
    return Assessment(
        num_rows=num_rows,
        needed_bytes=needed_bytes,
        available_bytes=slice_.replica_memory_bytes,
        useful_flops=step.useful_flops,
        variable_bytes=step.variable_bytes,
        optimizer_bytes=step.optimizer_bytes,
        cost=cost,
        usual_seconds=usual.seconds,
    )


def _compile(
    slice_: slices.Slice, step: training_step.Step, title: str
) -> Cost:
    try:
        compiled = compiler.compile_program(
            step.hlo,
            slice_.topology,
            slice_.num_replicas,
            slice_.topology_options,
            title,
        )
    except errors.UserError as error:
        raise errors.UserError(
            f"--accelerator_type={slice_.accelerator_type}: {error}"
        ) from error
    moved = traffic.measure(compiled.text)
    bound = roofline.of_step(
        slice_,
        compiled.flops,
        moved.main_memory_bytes,
        moved.all_reduce_bytes,
    )
    return Cost(compiled, moved, bound)


def _values(kind: type, instance: Any) -> dict[str, Any]:
    """The fields of an instance of `kind` by name; all None without one."""
    return {
        field.name: getattr(instance, field.name, None)
        for field in dataclasses.fields(kind)
        if field.name != "text"
    }
