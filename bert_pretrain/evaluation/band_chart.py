"""A chart of runs: their held-out loss over steps and over minutes.

With a reference, its runs are gray lines, and its band is an area.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib
import matplotlib.axes
import matplotlib.figure
import matplotlib.ticker
import numpy as np

from bert_pretrain.evaluation import reference_band, run_history

_COLORS = [matplotlib.colormaps["tab10"](i) for i in range(10)]


def draw(
    runs: Sequence[run_history.RunHistory],
    reference: reference_band.Reference | None = None,
) -> matplotlib.figure.Figure:
    """Draws runs, and the reference that they are compared with."""
    figure = matplotlib.figure.Figure(figsize=(11, 4.4), layout="constrained")
    over_steps, over_minutes = figure.subplots(1, 2, sharey=True)
    if reference:
        _draw_reference(over_steps, over_minutes, reference)
    for run, color in zip(runs, itertools.cycle(_COLORS)):
        losses = [each.loss for each in run.evaluations]
        style: dict[str, Any] = {"color": color, "linewidth": 0.8}
        for axes, values in (
            (over_steps, [each.step for each in run.evaluations]),
            (over_minutes, [each.minutes for each in run.evaluations]),
        ):
            axes.plot(
                values, losses, "o-", markersize=4, label=run.name, **style
            )
    _show_curves(over_steps)
    over_steps.set_ylabel("held-out loss (nats)", fontsize="small")
    over_steps.set_xlabel("step", fontsize="small")
    over_steps.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    over_minutes.set_xlabel("minutes of training", fontsize="small")
    for axes in (over_steps, over_minutes):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize="small")
    over_steps.legend(fontsize="small", frameon=False)
    return figure


def _show_curves(axes: matplotlib.axes.Axes) -> None:
    """Ends the axis where the curves do; the band can be much wider."""
    losses = np.concatenate([[], *(line.get_ydata() for line in axes.lines)])
    losses = losses[np.isfinite(losses)]
    if losses.size:
        low, high = float(losses.min()), float(losses.max())
        margin = 0.05 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)


def _draw_reference(
    over_steps: matplotlib.axes.Axes,
    over_minutes: matplotlib.axes.Axes,
    reference: reference_band.Reference,
) -> None:
    band = reference_band.band(reference)
    over_steps.fill_between(
        reference.steps,
        [each.low for each in band],
        [each.high for each in band],
        color="gray",
        alpha=0.2,
        linewidth=0,
        label=f"band of {len(reference.runs)} reference runs",
    )
    style: dict[str, Any] = {"color": "gray", "linewidth": 0.8}
    for run in reference.runs:
        over_steps.plot(reference.steps, run.losses, **style)
        over_minutes.plot(run.minutes, run.losses, **style)
    over_minutes.set_title(
        f"Reference on {reference.machine}", fontsize="small", loc="left"
    )
