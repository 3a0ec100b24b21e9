"""Compares pretraining runs with one another, and with a reference.

    python -m bert_pretrain.compare_runs --model_dir=A --model_dir=B
    python -m bert_pretrain.compare_runs --model_dir=A \\
        --reference=recipes/sample-tiny/reference.json --output_file=runs.png

Runs may be in progress. A reference has the held-out losses of runs that differ
in their seed only; --write_reference makes one of the runs that are given.

Exit codes:
    0   every run is within the band of the reference, or none was given
    1   a run is outside; a line says where, and by how much
    2   a mistake in the options or the files; one line says what to do
"""

import dataclasses
import itertools
import typing
from collections.abc import Sequence

from bert_pretrain import command_line, errors, options

if typing.TYPE_CHECKING:
    from bert_pretrain.evaluation import reference_band, run_history

_OUTSIDE = 1
_MAX_ROWS = 12  # of losses at common steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareConfig(options.Options):
    """Which runs are compared, and with what."""

    model_dir: tuple[str, ...] = options.option(
        "Folder of a training run; give it once for each run."
    )
    reference: str = options.option(
        "A file of --write_reference, such as "
        "recipes/sample-tiny/reference.json: says whether the runs are within "
        "its band.",
        "",
    )
    write_reference: str = options.option(
        "Write a reference of the runs to this file; it takes three complete "
        "runs or more, with the same options and different seeds.",
        "",
    )
    machine: str = options.option(
        "What the runs of --write_reference ran on, in words.", ""
    )
    output_file: str = options.option("A PNG to write, of all curves.", "")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reference and self.write_reference:
            raise errors.UserError(
                f"--reference={self.reference} and --write_reference="
                f"{self.write_reference} exclude each other; leave one out."
            )
        if bool(self.write_reference) != bool(self.machine):
            raise errors.UserError(
                f"--write_reference={self.write_reference!r} and --machine="
                f"{self.machine!r} go together: minutes mean nothing without "
                "the machine."
            )


def main(config: CompareConfig) -> int:
    """Prints the comparison, and returns the exit code."""
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    from bert_pretrain.evaluation import (
        band_chart,
        reference_band,
        run_history,
    )
    from bert_pretrain.pretraining import pretraining_config
    from bert_pretrain.telemetry import curves

    runs = run_history.read(config.model_dir)
    path = config.reference
    if config.write_reference:
        path = config.write_reference
        reference_band.write(
            path, runs, pretraining_config.TrainingConfig, config.machine
        )
    reference = reference_band.read(path) if path else None
    _print_runs(runs, reference_band.band(reference) if reference else [])
    is_outside = False
    if config.reference and reference:
        for run in runs:
            verdict = reference_band.compare(
                run, reference, pretraining_config.TrainingConfig
            )
            print(f"{run.name}: {_describe(verdict)}")
            is_outside |= bool(verdict.outside)
    if config.write_reference:
        print(f"written: {config.write_reference}")
    if config.output_file:
        curves.write_png(band_chart.draw(runs, reference), config.output_file)
        print(f"drawn: {config.output_file}")
    return _OUTSIDE if is_outside else 0


def _print_runs(
    runs: "Sequence[run_history.RunHistory]",
    band: "Sequence[reference_band.Interval]",
) -> None:
    """Prints a table with a column for each run, and one for the band."""
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    from bert_pretrain.evaluation import run_history

    rows = [
        ["", *(run.name for run in runs)],
        ["step", *(f"{run.step:,}" for run in runs)],
        ["minutes of training", *(f"{run.minutes:,.1f}" for run in runs)],
        ["examples/s", *(f"{run.examples_per_second:,.0f}" for run in runs)],
    ]
    intervals = {each.step: each for each in band}
    steps = run_history.common_steps(runs)
    stride = -(-len(steps) // _MAX_ROWS)
    for step in steps[::-1][::stride][::-1] if steps else []:
        row = [f"held-out loss at step {step:,}"]
        row += [f"{run.losses[step]:.4f}" for run in runs]
        if step in intervals:
            interval = intervals[step]
            row.append(f"{interval.low:.4f} to {interval.high:.4f}")
        rows.append(row)
    bests = [run.best for run in runs]
    rows += [
        ["least", *(f"{best.loss:.4f}" for best in bests)],
        ["  at step", *(f"{best.step:,}" for best in bests)],
        ["last", *(f"{run.evaluations[-1].loss:.4f}" for run in runs)],
    ]
    if band:
        rows[0].append("reference")
    widths = [
        max(map(len, column))
        for column in itertools.zip_longest(*rows, fillvalue="")
    ]
    for name, *values in rows:
        print(
            f"{name:<{widths[0]}}",
            *(f"{v:>{w}}" for v, w in zip(values, widths[1:], strict=False)),
            sep="  ",
        )


def _describe(verdict: "reference_band.Verdict") -> str:
    steps = verdict.steps
    until = f"{len(steps)} evaluations up to step {steps[-1]:,}"
    if not verdict.outside:
        return f"within the band at {until}."
    interval, loss = verdict.outside[0]
    end, name = (
        (interval.high, "above")
        if loss > interval.high
        else (interval.low, "below")
    )
    return (
        f"OUTSIDE the band at {len(verdict.outside)} of {until}, first at step "
        f"{interval.step:,}: the loss {loss:.4f} is {abs(loss / end - 1):.1%} "
        f"{name} {end:.4f} (reference runs: {interval.middle:.4f})."
    )


if __name__ == "__main__":
    command_line.run(main, CompareConfig)
