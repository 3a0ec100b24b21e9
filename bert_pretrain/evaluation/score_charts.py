"""Charts of predictions against labels, as one figure.

For classes: the confusion matrix, a reliability diagram (Guo et al. 2017,
figure 1), and how many predictions have which confidence. For numbers: a
scatter plot. For answers to questions: how good the surest of them are (Geifman
and El-Yaniv 2017, figure 1).
"""

from collections.abc import Sequence

import matplotlib
import matplotlib.axes
import matplotlib.figure
import matplotlib.font_manager
import matplotlib.ft2font
import matplotlib.ticker
import numpy as np
from sklearn import metrics

from bert_pretrain import errors
from bert_pretrain.evaluation import scores

_MAX_LABELS = 20  # in a matrix that can be read
_SIDE_INCHES = 5.0
_MAX_NAME = 24  # characters of a label
_BLUE = matplotlib.colormaps["tab10"](0)
_BIN_STARTS = np.arange(scores.NUM_BINS) / scores.NUM_BINS
_FONT = "DejaVu Sans"  # comes with matplotlib


def draw_classification(
    label_ids: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]
) -> matplotlib.figure.Figure:
    """Draws which labels are taken for which, and what confidence is worth.

    Args:
      label_ids: int [N].
      probabilities: float [N, C].
      labels: the names of the C labels. Of more than 20, those that are
        confused most often are drawn.
    """
    counts = metrics.confusion_matrix(
        label_ids, probabilities.argmax(axis=1), labels=range(len(labels))
    )
    drawn = _most_confused(counts)
    matrix_inches = max(_SIDE_INCHES, 2.2 + 0.45 * len(drawn))
    figure = matplotlib.figure.Figure(
        figsize=(matrix_inches + _SIDE_INCHES, matrix_inches),
        layout="constrained",
    )
    ((left, right),) = figure.subfigures(
        1, 2, squeeze=False, width_ratios=(matrix_inches, _SIDE_INCHES)
    )
    _draw_confusion(left.add_subplot(), counts, drawn, labels)
    above, below = right.subplots(2, sharex=True, height_ratios=(2, 1))
    above.set_anchor("S")
    below.set_anchor("N")
    _draw_reliability(above, label_ids, probabilities)
    _draw_confidences(below, label_ids, probabilities)
    return figure


def draw_regression(
    values: np.ndarray, predictions: np.ndarray
) -> matplotlib.figure.Figure:
    """Draws predicted numbers over the right ones.

    Args:
      values, predictions: float [N].
    """
    figure = matplotlib.figure.Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    # So that a crowd of points is darker than a few.
    alpha = float(np.clip(30 / len(values) ** 0.5, 0.1, 0.7))
    axes.scatter(values, predictions, s=14, color=_BLUE, alpha=alpha, lw=0)
    ends = [
        min(values.min(), predictions.min()),
        max(values.max(), predictions.max()),
    ]
    axes.plot(ends, ends, color="gray", linestyle="--", linewidth=1)
    found = scores.regression(values, predictions)
    _format(
        axes,
        f"Pearson {found['pearson']:.3f}, Spearman {found['spearman']:.3f}, "
        f"{len(values):,} examples",
        "label",
        "prediction",
    )
    axes.set_aspect("equal")
    return figure


def draw_answers(
    confidences: Sequence[float], exact: Sequence[float], f1: Sequence[float]
) -> matplotlib.figure.Figure:
    """Draws how good answers are, if only the surest ones are given.

    Args:
      confidences: of N answers, on any scale.
      exact, f1: how good each answer is, from 0 to 1.
    """
    order = np.argsort(-np.asarray(confidences), kind="stable")
    ranks = np.arange(1, len(order) + 1)
    figure = matplotlib.figure.Figure(figsize=(5, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, values in (("F1", f1), ("exact match", exact)):
        means = np.cumsum(np.asarray(values, float)[order]) / ranks
        axes.plot(ranks / len(ranks), means, label=f"{name} {means[-1]:.3f}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, title="of all answers")
    _format(
        axes,
        f"{len(ranks):,} questions",
        "share of questions that are answered, the surest first",
        "mean score of the answers",
    )
    return figure


# ---------------------------------------------------------- confusion matrix


def _most_confused(counts: np.ndarray) -> np.ndarray:
    """The labels to draw, in their order.

    Args:
      counts: int [C, C], of each label (row) taken for each label (column).
    """
    wrong = counts - np.diag(np.diag(counts))
    errors_of_label = wrong.sum(axis=0) + wrong.sum(axis=1)
    most = np.argsort(-errors_of_label, kind="stable")[:_MAX_LABELS]
    return np.sort(most)


def _draw_confusion(
    axes: matplotlib.axes.Axes,
    counts: np.ndarray,
    drawn: np.ndarray,
    labels: Sequence[str],
) -> None:
    """Draws counts, coloured by their share of all examples of a label."""
    totals = counts.sum(axis=1)
    shares = (counts / totals.clip(min=1)[:, np.newaxis])[np.ix_(drawn, drawn)]
    # The root shows a share of a few percent, which most errors are.
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    is_large = len(drawn) > 10
    for (row, column), share in np.ndenumerate(shares):
        if count := counts[drawn[row], drawn[column]]:
            axes.text(
                column,
                row,
                f"{count:,}" if is_large else f"{count:,}\n{share:.0%}",
                ha="center",
                va="center",
                fontsize=7 if is_large else 9,
                color="white" if share > 0.36 else "black",
            )
    title = "Counts, coloured by the share of a row"
    if len(drawn) < len(labels):
        title = (
            f"The {len(drawn)} of {len(labels)} labels that are confused most"
        )
    _format(axes, title, "prediction", "label")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    names, families = _names([labels[i] for i in drawn])
    ticks = range(len(drawn))
    axes.set_yticks(
        ticks,
        [f"{n} ({totals[i]:,})" for n, i in zip(names, drawn, strict=True)],
    )
    axes.set_xticks(ticks, names)
    is_wide = max(map(len, names)) * len(drawn) > 40
    axes.tick_params(axis="x", labelrotation=90 if is_wide else 0)
    for tick_label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        tick_label.set_fontfamily(families)
        tick_label.set_parse_math(False)  # a $ is a $


def _names(labels: Sequence[str]) -> tuple[list[str], list[str]]:
    """The labels as a chart can show them, and the fonts for them.

    A label with a character that no installed font has gets a number instead.
    """
    names = [_shorten(label) for label in labels]
    families, missing = _fonts_for(set("".join(names)))
    unreadable = [name for name in names if not missing.isdisjoint(name)]
    if unreadable:
        errors.warn(
            f"no font of this machine can show {len(unreadable)} of "
            f"{len(names)} labels, the first of them {unreadable[0]!r}, so the "
            "chart has numbers for them; install a font of their script, such "
            "as the package fonts-noto-cjk."
        )
    return [
        f"label {number}" if name in unreadable else name
        for number, name in enumerate(names, start=1)
    ], families


def _shorten(name: str) -> str:
    # Long names often begin alike, so the end is kept, too.
    if len(name) <= _MAX_NAME:
        return name
    half = _MAX_NAME // 2
    return f"{name[:half]}…{name[1 - half :]}"


def _fonts_for(characters: set[str]) -> tuple[list[str], set[str]]:
    """The fonts that can show the characters, and the rest of these."""
    # The last resort has a box with a number for every character there is.
    installed = [
        font
        for font in matplotlib.font_manager.fontManager.ttflist
        if not font.name.startswith("Last Resort")
    ]
    installed.sort(key=lambda font: font.name != _FONT)
    families, missing = [_FONT], set(characters)
    for font in installed:
        if not missing:
            break
        has = matplotlib.ft2font.FT2Font(font.fname).get_charmap()
        found = {character for character in missing if ord(character) in has}
        if found:
            families.append(font.name)
            missing -= found
    return families, missing


# -------------------------------------------------------------- confidences


def _draw_reliability(
    axes: matplotlib.axes.Axes,
    label_ids: np.ndarray,
    probabilities: np.ndarray,
) -> None:
    """Draws the accuracy of each bin over its mean confidence."""
    counts, confidences, accuracies = scores.reliability(
        label_ids, probabilities
    )
    filled = counts > 0
    axes.bar(
        _BIN_STARTS[filled],
        accuracies[filled],
        1 / scores.NUM_BINS,
        align="edge",
        color=_BLUE,
        alpha=0.35,
        edgecolor="white",
        label="accuracy",
    )
    axes.plot(
        confidences[filled], accuracies[filled], "o", color=_BLUE, markersize=4
    )
    axes.plot(
        (0, 1), (0, 1), "--", color="gray", linewidth=1, label="calibrated"
    )
    error = scores.calibration_error(label_ids, probabilities)
    _format(axes, f"Calibration error {error:.1%}", "", "accuracy")
    axes.set_ylim(0, 1)
    axes.set_box_aspect(0.8)
    axes.legend(fontsize="small", frameon=False, loc="upper left")


def _draw_confidences(
    axes: matplotlib.axes.Axes,
    label_ids: np.ndarray,
    probabilities: np.ndarray,
) -> None:
    """Draws how many predictions have which confidence."""
    counts, *_ = scores.reliability(label_ids, probabilities)
    axes.bar(
        _BIN_STARTS,
        counts / counts.sum(),
        1 / scores.NUM_BINS,
        align="edge",
        color=_BLUE,
        edgecolor="white",
    )
    _format(
        axes, f"{len(label_ids):,} examples", "confidence", "share of examples"
    )
    axes.set_xlim(0, 1)
    axes.set_box_aspect(0.4)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(
            matplotlib.ticker.PercentFormatter(1, decimals=0)
        )


def _format(
    axes: matplotlib.axes.Axes, title: str, x_label: str, y_label: str
) -> None:
    axes.set_title(title, fontsize="medium", loc="left")
    axes.set_xlabel(x_label, fontsize="small")
    axes.set_ylabel(y_label, fontsize="small")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize="small")
