"""Prints the results of a check as tables."""

from collections.abc import Callable, Iterator
from typing import TextIO

from bert_pretrain.assessment import assessment, findings, roofline
from bert_pretrain.compilation import slices
from bert_pretrain.telemetry import console

_PEER_COLUMNS: tuple[tuple[str, Callable[[assessment.Cost], float]], ...] = (
    ("TFLOP", lambda cost: cost.compiled.flops / 1e12),
    ("GB", lambda cost: cost.compiled.bytes_accessed / 1e9),
    ("main GB", lambda cost: cost.moved.main_memory_bytes / 1e9),
    ("temp GB", lambda cost: cost.compiled.temporary_bytes / 1e9),
    ("code MB", lambda cost: cost.compiled.code_bytes / 1e6),
    ("compile s", lambda cost: cost.compiled.compile_seconds),
    ("bound ms", lambda cost: cost.bound.seconds * 1e3),
)
_Row = tuple[str, str]


def print_report(report: findings.Report, stream: TextIO) -> None:
    """Prints a table for each step, and one for the whole run."""
    for finding in report.findings:
        _print_finding(finding, report.chips, stream)
        if finding.peers:
            _print_peers(finding, stream)
    _print_run(report, stream)
    print(f"\nThe bound assumes {roofline.ASSUMPTIONS}.", file=stream)


def _print_finding(
    finding: findings.Finding, chips: slices.Slice, stream: TextIO
) -> None:
    batch = finding.batch
    title = f"{batch.num_rows} rows of {batch.seq_length} tokens"
    if batch.num_microbatches > 1:
        title += f", in {batch.num_microbatches} microbatches"
    if batch.is_packed:
        title += ", packed"
    console.print_table(
        f"{finding.model}\n{title}, {batch.num_predictions} predictions "
        f"each, on a {_replica_name(chips)} of {chips.accelerator_type}",
        [*_memory(finding, chips), *_speed(finding.ours, chips)],
        stream,
    )


def _memory(finding: findings.Finding, chips: slices.Slice) -> Iterator[_Row]:
    ours = finding.ours
    yield "variables", _size(ours.variable_bytes)
    yield "optimizer", _size(ours.optimizer_bytes)
    if ours.cost:
        compiled = ours.cost.compiled
        yield "both and a batch, in tiles", _size(compiled.argument_bytes)
        yield "temporary values", _size(compiled.temporary_bytes)
        yield "code", _size(compiled.code_bytes)
    yield (
        "total",
        f"{_size(ours.needed_bytes)} of {_size(ours.available_bytes)} (the "
        f"runtime reserves {_size(chips.kind.reserved)} more): "
        + ("fits" if ours.fits else "DOES NOT FIT"),
    )
    if not ours.fits:
        yield "remedy", findings.remedy(finding)
    for recompute, largest in finding.largest.items():
        yield (
            "largest batch, recomputing" if recompute else "largest batch",
            f"{largest} rows per {_replica_name(chips)} "
            f"(--per_replica_batch_size={largest}"
            + (" --recompute=true)" if recompute else ")"),
        )


def _speed(ours: assessment.Assessment, chips: slices.Slice) -> Iterator[_Row]:
    useful = f"{_number(ours.useful_flops / 1e12)} useful"
    if not ours.cost:
        yield "TFLOP", useful
        return
    compiled, moved = ours.cost.compiled, ours.cost.moved
    bound = ours.cost.bound
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
        "least time of a step",
        f"{_number(bound.seconds * 1e3)} ms: arithmetic "
        f"{_number(bound.compute * 1e3)} ms at "
        f"{chips.replica_flops / 1e12:.0f} TFLOP/s, main memory "
        f"{_number(bound.memory * 1e3)} ms at "
        f"{chips.replica_memory_rate / 1e9:,.0f} GB/s, sums "
        f"{_number(bound.links * 1e3)} ms at "
        f"{chips.replica_link_rate / 1e9:.0f} GB/s",
    )
    num_rows = ours.num_rows * chips.num_replicas
    yield (
        "examples/s of all replicas",
        f"{num_rows / bound.seconds:,.0f} at this bound, "
        f"{num_rows / ours.usual_seconds:,.0f} at "
        f"{assessment.USUAL_SHARE:.0%} of the peak",
    )


def _print_peers(finding: findings.Finding, stream: TextIO) -> None:
    header = "".join(f"{name:>10}" for name, _ in _PEER_COLUMNS)
    rows = [("", header)]
    for name, step in {"ours": finding.ours, **finding.peers}.items():
        if cost := step.cost:
            values = [
                f"{_number(value(cost)):>10}" for _, value in _PEER_COLUMNS
            ]
            rows.append((name, "".join(values)))
        else:
            rows.append(
                (name, f"does not fit: needs {_size(step.needed_bytes)}")
            )
    console.print_table("Comparison with other implementations", rows, stream)


def _print_run(report: findings.Report, stream: TextIO) -> None:
    chips = report.chips
    num_steps = sum(finding.num_steps for finding in report.findings)
    rows = [
        (
            "chips",
            f"{chips.num_chips} x {chips.kind.name} ({chips.topology})",
        ),
        ("steps", f"{num_steps:,}"),
    ]
    for name, hours in (
        ("at the bound", report.hours_at_bound),
        (
            f"at {assessment.USUAL_SHARE:.0%} of the peak",
            report.hours_at_usual_share,
        ),
    ):
        if hours is not None:
            rows.append((name, _describe_hours(report, hours)))
    if report.price is None:
        rows.append(("cost", "give --price_per_chip_hour"))
    rows.append(("fits", "yes" if report.fits else "NO"))
    console.print_table("The run", rows, stream)


def _describe_hours(report: findings.Report, hours: float) -> str:
    text = f"{_number(hours)} hours"
    if (cost := report.cost(hours)) is not None:
        text += (
            f", costs {_number(cost)} (--price_per_chip_hour={report.price})"
        )
    return text


def _replica_name(chips: slices.Slice) -> str:
    return "chip" if chips.kind.replicas_per_chip == 1 else "core"


def _size(num_bytes: float) -> str:
    if num_bytes >= 1e9:
        return f"{num_bytes / 1e9:.2f} GB"
    return f"{num_bytes / 1e6:.1f} MB"


def _number(value: float) -> str:
    """Three significant digits, or all digits before the decimal point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
