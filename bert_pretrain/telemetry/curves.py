"""A run's curves: what its log says, and figures of it.

A log may be of a run in progress: whatever is not there yet is not drawn.
"""

import dataclasses
import io
import itertools

import matplotlib
import matplotlib.figure
import matplotlib.lines
import matplotlib.ticker
import tensorflow as tf

from bert_pretrain import errors, files
from bert_pretrain.checkpoints import model_directory
from bert_pretrain.telemetry import metrics_log


@dataclasses.dataclass(frozen=True)
class RunCurves:
    """What a model directory holds about a run."""

    name: str
    records: list  # of metrics.jsonl
    phase_starts: list  # the steps at which later phases begin
    unigram_entropy: float | None  # known when the run is complete

    def curve(self, kind, name, scale=1.0):
        """(steps, values) of the records that have one."""
        points = [
            (record["step"], scale * record[name])
            for record in self.records
            if record["kind"] == kind and record.get(name) is not None
        ]
        return tuple(zip(*points, strict=True)) or ((), ())

    @property
    def rollbacks(self):
        return [r["step"] for r in self.records if r["kind"] == "rollback"]


@dataclasses.dataclass(frozen=True)
class Line:
    """A curve, and how it is told from the others of its panel."""

    label: str
    name: str
    kind: str = "train"
    scale: float = 1.0

    @property
    def style(self):
        # Evaluations may be few: a line between two would tell a story.
        return (
            {"marker": "o", "markersize": 4, "linestyle": "none"}
            if self.kind == "eval"
            else {"linewidth": 1.2}
        )


@dataclasses.dataclass(frozen=True)
class Panel:
    """Curves that share a unit."""

    title: str
    lines: tuple[Line, ...]
    is_log: bool = False
    is_share: bool = False
    starts_at_zero: bool = False


def _trained_and_held_out(name):
    return Line("training", name), Line("held out", name, "eval")


_LOSS = "Masked LM loss (nats)"
_GIGA = 1e-9
_PANELS = (
    Panel(
        _LOSS,
        _trained_and_held_out("masked_lm_loss"),
    ),
    Panel(
        "Masked LM accuracy",
        _trained_and_held_out("masked_lm_accuracy"),
        is_share=True,
    ),
    Panel(
        "Next sentence loss (nats)",
        _trained_and_held_out("next_sentence_loss"),
    ),
    Panel(
        "Next sentence accuracy",
        _trained_and_held_out("next_sentence_accuracy"),
        is_share=True,
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
_COLORS = matplotlib.colormaps["tab10"].colors


def read(model_dirs):
    """The `Run`s of model directories, under names that differ.

    Raises:
      UserError: if one of them holds no log.
    """
    return [
        _read(model_dir, name)
        for model_dir, name in zip(model_dirs, _names(model_dirs), strict=True)
    ]


def draw(runs):
    """A figure with a panel for each unit.

    Colours tell the curves of one run apart. Of several runs, each has a
    colour and they share the panels, so that the same things lie together.
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
        _dress(axes, panel)
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


def write_png(figure, path):
    """Writes a figure to a path that may be on gs://."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    files.write_bytes(path, buffer.getvalue())


def _read(model_dir, name):
    log_path = f"{model_dir}/{model_directory.LOG_NAME}"
    with errors.naming(log_path):
        if not tf.io.gfile.exists(log_path):
            raise errors.UserError(
                f"{log_path}: no such file; --model_dir is the folder of a "
                "training run that has begun."
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


def _read_if_there(path):
    return files.read_json(path) if tf.io.gfile.exists(path) else {}


def _names(model_dirs):
    """The ends of the paths, as long as it takes to make them differ."""
    parts = [path.rstrip("/").split("/") for path in model_dirs]
    for num_parts in range(1, max(map(len, parts))):
        names = ["/".join(path[-num_parts:]) for path in parts]
        if len(set(names)) == len(names):
            return names
    return list(model_dirs)


def _lines(panel, runs):
    """What there is to draw in a panel."""
    return [
        line
        for line in panel.lines
        if any(run.curve(line.kind, line.name)[0] for run in runs)
    ]


def _dress(axes, panel):
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


def _draw_one(axes, panel, run):
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
    for steps, color in (run.phase_starts, "gray"), (run.rollbacks, "red"):
        for step in steps:
            axes.axvline(step, color=color, linestyle=":", linewidth=1)


def _draw_several(axes, panel, runs):
    for line, dashes in zip(_lines(panel, runs), ("-", "--"), strict=False):
        for run, color in zip(runs, itertools.cycle(_COLORS)):
            axes.plot(
                *run.curve(line.kind, line.name, line.scale),
                color=color,
                **{"linestyle": dashes, **line.style},
            )
        # What the dashes mean; the colours are told once for all panels.
        axes.plot(
            [],
            [],
            label=line.label,
            color="gray",
            **{"linestyle": dashes, **line.style},
        )
