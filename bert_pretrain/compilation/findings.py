"""What a check found of a run's steps: as a table, and as plain values."""

import dataclasses
from typing import TextIO

from bert_pretrain.compilation import (
    assessment,
    roofline,
    slices,
    training_step,
)
from bert_pretrain.telemetry import console
from bert_pretrain.training import phases

_COLUMNS = (
    ("TFLOP", lambda a: a.compiled.flops / 1e12),
    ("GB", lambda a: a.compiled.bytes_accessed / 1e9),
    ("main GB", lambda a: a.traffic.main_memory_bytes / 1e9),
    ("temp GB", lambda a: a.compiled.temporary_bytes / 1e9),
    ("code MB", lambda a: a.compiled.code_bytes / 1e6),
    ("compile s", lambda a: a.compiled.compile_seconds),
    ("bound ms", lambda a: a.bound.seconds * 1e3),
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is found of one step, which one phase or several have."""

    phases: list[phases.Phase]
    rows: training_step.Rows
    recompute: bool
    model: str
    ours: assessment.Assessment
    peers: dict[str, assessment.Assessment]
    # Rows that fit, without and with recomputation; empty if not searched.
    largest: dict[bool, int]

    @property
    def num_steps(self) -> int:
        return sum(p.until_step - p.from_step for p in self.phases)

    def to_dict(self) -> dict:
        values = {
            "seq_length": self.rows.seq_length,
            "max_predictions_per_seq": self.rows.num_predictions,
            "accumulation_steps": self.rows.num_parts,
            "num_steps": self.num_steps,
            **self.ours.to_dict(),
            **{name: peer.to_dict() for name, peer in self.peers.items()},
        }
        if self.largest:
            values["largest_per_replica_batch_size"] = self.largest[False]
            values["largest_with_recompute"] = self.largest[True]
        return values


@dataclasses.dataclass(frozen=True)
class Report:
    """All of a check."""

    chips: slices.Slice
    findings: list[Finding]
    price: float | None  # of a chip for an hour

    @property
    def fits(self) -> bool:
        return all(finding.ours.fits for finding in self.findings)

    def to_dict(self) -> dict:
        """Of several steps' values, those of the one that needs most stand
        at the top; `steps` has them all."""
        steps = [finding.to_dict() for finding in self.findings]
        hours = {
            "hours_at_roofline": self._hours(_bound),
            "hours_at_usual_share": self._hours(_usual),
        }
        return {
            "accelerator_type": self.chips.accelerator_type,
            "topology": self.chips.topology,
            "num_chips": self.chips.num_chips,
            "num_replicas": self.chips.num_replicas,
            **max(steps, key=lambda step: step["needed_bytes"]),
            "fits": self.fits,
            **hours,
            **{
                name.replace("hours", "cost"): self._cost(value)
                for name, value in hours.items()
            },
            "steps": steps,
        }

    def print(self, stream: TextIO) -> None:
        for finding in self.findings:
            self._print_finding(finding, stream)
        self._print_run(stream)

    def _print_finding(self, finding, stream):
        rows, unit = finding.rows, self._unit
        title = f"{rows.num_rows} rows of {rows.seq_length} tokens"
        if rows.num_parts > 1:
            title += f", in {rows.num_parts} parts"
        if rows.is_packed:
            title += ", packed"
        console.print_table(
            f"{finding.model}\n{title}, {rows.num_predictions} predictions "
            f"each, on a {unit} of {self.chips.accelerator_type}",
            [*self._memory(finding), *self._speed(finding)],
            stream,
        )
        if finding.peers:
            _print_peers(finding, stream)

    def _memory(self, finding):
        ours, kind = finding.ours, self.chips.kind
        yield "variables", _size(ours.variable_bytes)
        yield "optimizer", _size(ours.optimizer_bytes)
        if compiled := ours.compiled:
            yield "both, in tiles, and a batch", _size(compiled.argument_bytes)
            yield "temporaries", _size(compiled.temporary_bytes)
            yield "code", _size(compiled.code_bytes)
        yield (
            "together",
            f"{_size(ours.needed_bytes)} of {_size(ours.available_bytes)} "
            f"({_size(kind.reserved)} more are the runtime's): "
            + ("fits" if ours.fits else "DOES NOT FIT"),
        )
        if not ours.fits:
            yield "remedy", remedy(finding)
        for recomputes, largest in finding.largest.items():
            yield (
                "largest batch, recomputing" if recomputes else "largest batch",
                f"{largest} rows a {self._unit} "
                f"(--per_replica_batch_size={largest}"
                + (" --recompute=true)" if recomputes else ")"),
            )

    def _speed(self, finding):
        ours, kind = finding.ours, self.chips.kind
        useful = f"{_number(ours.useful_flops / 1e12)} useful"
        if not ours.compiled:
            yield "TFLOP", useful
            return
        compiled, moved, bound = ours.compiled, ours.traffic, ours.bound
        share = kind.replicas_per_chip
        yield "TFLOP", f"{_number(compiled.flops / 1e12)}, {useful}"
        yield (
            "bytes accessed",
            f"{_size(compiled.bytes_accessed)}, of main memory "
            f"{_size(moved.main_memory_bytes)}",
        )
        yield (
            "sums over replicas",
            f"{compiled.num_all_reduces}, of {_size(moved.all_reduce_bytes)}",
        )
        yield "compiled in", f"{compiled.compile_seconds:.0f} s"
        yield (
            "the step, at the least",
            f"{_number(bound.seconds * 1e3)} ms: arithmetic "
            f"{_number(bound.compute * 1e3)} ms at "
            f"{kind.bfloat16 / share / 1e12:.0f} TFLOP/s, main memory "
            f"{_number(bound.memory * 1e3)} ms at "
            f"{kind.memory_rate / share / 1e9:,.0f} GB/s, sums "
            f"{_number(bound.links * 1e3)} ms at "
            f"{kind.link_rate / share / 1e9:.0f} GB/s",
        )
        num_rows = ours.num_rows * self.chips.num_replicas
        yield (
            "examples/s of all",
            f"{num_rows / bound.seconds:,.0f} at that bound, "
            f"{num_rows / ours.usual_seconds:,.0f} at "
            f"{assessment.USUAL_SHARE:.0%} of the peak",
        )

    def _print_run(self, stream):
        rows = [
            (
                "chips",
                f"{self.chips.num_chips} x {self.chips.kind.name} "
                f"({self.chips.topology})",
            ),
            ("steps", f"{sum(f.num_steps for f in self.findings):,}"),
        ]
        for name, seconds in (
            ("at the bound", _bound),
            (f"at {assessment.USUAL_SHARE:.0%} of the peak", _usual),
        ):
            hours = self._hours(seconds)
            if hours is None:
                continue
            cost = self._cost(hours)
            rows.append(
                (
                    name,
                    f"{_number(hours)} hours"
                    + (
                        f", costs {_number(cost)} (--price_per_chip_hour="
                        f"{self.price})"
                        if cost is not None
                        else ""
                    ),
                )
            )
        if self.price is None:
            rows.append(("cost", "give --price_per_chip_hour"))
        rows.append(("fits", "yes" if self.fits else "NO"))
        console.print_table("The run", rows, stream)
        print(f"\nThe bound assumes {roofline.ASSUMPTIONS}.", file=stream)

    def _hours(self, seconds_of):
        """None if a step's time is not known, since it does not fit."""
        seconds = [seconds_of(finding.ours) for finding in self.findings]
        if None in seconds:
            return None
        return (
            sum(
                finding.num_steps * each
                for finding, each in zip(self.findings, seconds, strict=True)
            )
            / 3600
        )

    def _cost(self, hours):
        if self.price is None or hours is None:
            return None
        return hours * self.chips.num_chips * self.price

    @property
    def _unit(self):
        return "chip" if self.chips.kind.replicas_per_chip == 1 else "core"


def remedy(finding: Finding) -> str:
    """What to change for a step that does not fit."""
    rows = finding.rows
    at_once = rows.num_rows // rows.num_parts
    fitting = finding.ours.num_fitting_rows() // rows.num_parts
    if fitting >= 1:
        num_parts = rows.num_parts
        while rows.num_rows // num_parts > fitting or rows.num_rows % num_parts:
            num_parts += 1
        ways = [
            f"--per_replica_batch_size={fitting * rows.num_parts} (about as "
            "many fit)",
            f"--accumulation_steps={num_parts}",
        ]
    else:
        ways = [
            f"fewer rows at once than {at_once} (--per_replica_batch_size, "
            "--accumulation_steps)",
            "chips with more memory",
        ]
    if not finding.recompute:
        ways.append("--recompute=true")
    return ", or ".join(ways)


def _print_peers(finding, stream):
    steps = {"ours": finding.ours, **finding.peers}
    header = "".join(f"{name:>10}" for name, _ in _COLUMNS)
    rows = [("", header)]
    for name, step in steps.items():
        if step.compiled:
            values = [f"{_number(value(step)):>10}" for _, value in _COLUMNS]
            rows.append((name, "".join(values)))
        else:
            rows.append(
                (name, f"does not fit: needs {_size(step.needed_bytes)}")
            )
    console.print_table("Beside others", rows, stream)


def _bound(step):
    return step.bound and step.bound.seconds


def _usual(step):
    return step.usual_seconds


def _size(num_bytes):
    if num_bytes >= 1e9:
        return f"{num_bytes / 1e9:.2f} GB"
    return f"{num_bytes / 1e6:.1f} MB"


def _number(value):
    """Three digits that say something, and those before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
