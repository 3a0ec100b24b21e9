"""Figures with the curves of runs, from their logs.

A run may be in progress. The figures leave out values that do not exist yet.
"""

import dataclasses
import io
import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib
import matplotlib.axes
import matplotlib.figure
import matplotlib.lines
import matplotlib.ticker
import tensorflow as tf

from bert_pretrain import errors, file_errors, files
from bert_pretrain.checkpoints import model_directory
from bert_pretrain.model import objectives
from bert_pretrain.telemetry import metrics_log


@dataclasses.dataclass(frozen=True)
class RunCurves:
    """The log of a run, and other values from its model directory."""

    name: str
    records: list[dict[str, Any]]  # of metrics.jsonl
    phase_starts: list[int]  # the steps at which later phases begin
    unigram_entropy: float | None  # None until the run is complete

    def curve(
        self, kind: str, name: str, scale: float = 1.0
    ) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """(steps, values) of the records that contain a value.

        Args:
          kind: of the records, "train" or "eval".
          name: of the value.
          scale: a factor for all values.
        """
        points = [
            (record["step"], scale * record[name])
            for record in self.records
            if record["kind"] == kind and record.get(name) is not None
        ]
        steps = tuple(step for step, _ in points)
        return steps, tuple(value for _, value in points)

    @property
    def rollbacks(self) -> list[int]:
        """The steps at which the run went back."""
        return [r["step"] for r in self.records if r["kind"] == "rollback"]


@dataclasses.dataclass(frozen=True)
class Line:
    """A curve, and how it looks in its panel."""

    label: str
    name: str
    kind: str = "train"
    scale: float = 1.0

    @property
    def style(self) -> dict[str, Any]:
        """Arguments for matplotlib's `plot`."""
        # There may be few evaluations. A line between two of them would show
        # values that nobody has measured.
        return (
            {"marker": "o", "markersize": 4, "linestyle": "none"}
            if self.kind == "eval"
            else {"linewidth": 1.2}
        )


@dataclasses.dataclass(frozen=True)
class Panel:
    """Curves with the same unit."""

    title: str
    lines: tuple[Line, ...]
    is_log: bool = False
    is_share: bool = False  # of 1, shown in percent
    starts_at_zero: bool = False


def _trained_and_held_out(name: str) -> tuple[Line, ...]:
    return Line("training", name), Line("held out", name, "eval")


def _panels_of(objective: objectives.Objective) -> tuple[Panel, Panel]:
    return (
        Panel(
            f"{objective.title} loss (nats)",
            _trained_and_held_out(f"{objective.name}_loss"),
        ),
        Panel(
            f"{objective.title} accuracy",
            _trained_and_held_out(f"{objective.name}_accuracy"),
            is_share=True,
        ),
    )


# The unigram entropy is drawn beside the loss of masked language modelling.
_LOSS = _panels_of(objectives.OBJECTIVES[0])[0].title
_GIGA = 1e-9
_PANELS = (
    *itertools.chain.from_iterable(map(_panels_of, objectives.OBJECTIVES)),
    # Of fine-tuning.
    Panel("Loss (nats, or squares)", _trained_and_held_out("loss")),
    Panel("Accuracy", _trained_and_held_out("accuracy"), is_share=True),
    Panel(
        "Other scores, held out",
        tuple(
            Line(name, name, "eval")
            for name in ("f1", "matthews", "pearson", "spearman")
        ),
    ),
    Panel("Learning rate", (Line("rate", "learning_rate"),)),
    Panel(
        "Global norm",
        (
            Line("gradient", "gradient_norm"),
            Line("parameters", "parameter_norm"),
        ),
        is_log=True,
    ),
    Panel(
        "Tokens per second",
        (
            Line("with padding", "tokens_per_second"),
            Line("without", "tokens_per_second_without_padding"),
        ),
        starts_at_zero=True,
    ),
    Panel(
        "Share of time, share of peak",
        (
            Line("waiting for input", "input_wait_share"),
            Line("MFU", "mfu"),
        ),
        is_share=True,
        starts_at_zero=True,
    ),
    Panel(
        "Memory in use (GB)",
        (
            Line("host", "host_memory_bytes", scale=_GIGA),
            Line("device", "device_memory_bytes", scale=_GIGA),
        ),
        starts_at_zero=True,
    ),
)
_NUM_COLUMNS = 2
_PANEL_INCHES = 5.6, 2.7
_COLORS = [matplotlib.colormaps["tab10"](i) for i in range(10)]


def read(model_dirs: Sequence[str]) -> list[RunCurves]:
    """Reads runs and gives each of them a different name.

    Raises:
      UserError: if a model directory holds no log.
    """
    return [
        _read(model_dir, name)
        for model_dir, name in zip(model_dirs, _names(model_dirs), strict=True)
    ]


def draw(runs: Sequence[RunCurves]) -> matplotlib.figure.Figure:
    """Draws a figure with a panel for each unit.

    For one run, each curve of a panel has a colour. For several runs, each
    run has a colour, and the panels show all runs.
    """
    panels = [panel for panel in _PANELS if _lines(panel, runs)]
    num_rows = -(-len(panels) // _NUM_COLUMNS)
    width, height = _PANEL_INCHES
    figure = matplotlib.figure.Figure(
        figsize=(width * _NUM_COLUMNS, height * num_rows + 0.6),
        layout="constrained",
    )
    axes = None
    for number, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(num_rows, _NUM_COLUMNS, number, sharex=axes)
        if len(runs) == 1:
            _draw_one(axes, panel, runs[0])
        else:
            _draw_several(axes, panel, runs)
        _format(axes, panel)
    if len(runs) == 1:
        figure.suptitle(runs[0].name)
    else:
        figure.legend(
            handles=[
                matplotlib.lines.Line2D([], [], color=color, label=run.name)
                for run, color in zip(runs, itertools.cycle(_COLORS))
            ],
            loc="outside upper center",
            ncols=min(len(runs), 4),
            frameon=False,
        )
    return figure


def write_png(figure: matplotlib.figure.Figure, path: str) -> None:
    """Writes a figure to a local path or a path on gs://."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    files.write_bytes(path, buffer.getvalue())


def _read(model_dir: str, name: str) -> RunCurves:
    log_path = f"{model_dir}/{model_directory.LOG_NAME}"
    with file_errors.naming(log_path):
        if not tf.io.gfile.exists(log_path):
            raise errors.UserError(
                f"{log_path}: no such file; give the folder of a training "
                "run that has begun as --model_dir."
            )
    records = metrics_log.read(log_path)
    if not records:
        raise errors.UserError(
            f"{log_path}: nothing is logged yet; wait for the end of the "
            "first loop."
        )
    config = _read_if_there(f"{model_dir}/{model_directory.TRAIN_CONFIG_NAME}")
    results = _read_if_there(
        f"{model_dir}/{model_directory.TRAIN_RESULTS_NAME}"
    )
    return RunCurves(
        name,
        records,
        [p["from_step"] for p in config.get(model_directory.PHASES_NAME, [])],
        results.get("unigram_entropy"),
    )


def _read_if_there(path: str) -> dict[str, Any]:
    return files.read_json(path) if tf.io.gfile.exists(path) else {}


def _names(model_dirs: Sequence[str]) -> list[str]:
    """The shortest ends of the paths that all differ."""
    paths = [path.rstrip("/").split("/") for path in model_dirs]
    for num_folders in range(1, max(map(len, paths))):
        names = ["/".join(path[-num_folders:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return list(model_dirs)


def _lines(panel: Panel, runs: Sequence[RunCurves]) -> list[Line]:
    """The lines of a panel for which a run has values."""
    return [
        line
        for line in panel.lines
        if any(run.curve(line.kind, line.name)[0] for run in runs)
    ]


def _draw_one(axes: matplotlib.axes.Axes, panel: Panel, run: RunCurves) -> None:
    """Draws a panel of one run, with its phases and rollbacks."""
    for line, color in zip(panel.lines, _COLORS, strict=False):
        steps, values = run.curve(line.kind, line.name, line.scale)
        if steps:
            axes.plot(
                steps, values, label=line.label, color=color, **line.style
            )
    if panel.title == _LOSS and run.unigram_entropy is not None:
        axes.axhline(
            run.unigram_entropy,
            color="gray",
            linestyle="--",
            linewidth=1,
            label="unigram entropy",
        )
    borders = [(step, "gray") for step in run.phase_starts]
    borders += [(step, "red") for step in run.rollbacks]
    for step, border_color in borders:
        axes.axvline(step, color=border_color, linestyle=":", linewidth=1)


def _draw_several(
    axes: matplotlib.axes.Axes, panel: Panel, runs: Sequence[RunCurves]
) -> None:
    """Draws a panel of several runs."""
    for line, dashes in zip(_lines(panel, runs), ("-", "--"), strict=False):
        for run, color in zip(runs, itertools.cycle(_COLORS)):
            axes.plot(
                *run.curve(line.kind, line.name, line.scale),
                color=color,
                **{"linestyle": dashes, **line.style},
            )
        # The panel's legend explains the dashes. The figure's legend explains
        # the colours.
        axes.plot(
            [],
            [],
            label=line.label,
            color="gray",
            **{"linestyle": dashes, **line.style},
        )


def _format(axes: matplotlib.axes.Axes, panel: Panel) -> None:
    """Sets titles, scales and the legend of a panel."""
    axes.set_title(panel.title, fontsize="medium", loc="left")
    axes.set_xlabel("step", fontsize="small")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize="small")
    axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    if panel.is_log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(
            matplotlib.ticker.LogLocator(subs=(1, 2, 5))
        )
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    elif panel.is_share:
        axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
    if panel.starts_at_zero:
        axes.set_ylim(0, 1.1 * (axes.dataLim.y1 or 1))
    axes.legend(fontsize="small", frameon=False)
