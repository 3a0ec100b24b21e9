"""Charts of predictions: what they show, and labels that are hard to show."""

import warnings

import matplotlib.font_manager
import numpy as np
import pytest

from bert_pretrain.evaluation import score_charts
from bert_pretrain.telemetry import curves


def predictions(counts, confidence=0.9):
    """Examples with these counts of (label, predicted label)."""
    counts = np.array(counts)
    pairs = np.argwhere(counts > 0)
    pairs = pairs.repeat(counts[tuple(pairs.T)], axis=0)
    rest = (1 - confidence) / (len(counts) - 1)
    predicted = np.eye(len(counts))[pairs[:, 1]] > 0
    return pairs[:, 0], np.where(predicted, confidence, rest)


def draw(counts, labels):
    return score_charts.draw_classification(*predictions(counts), labels)


def tick_labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_the_matrix_has_counts_and_shares_of_each_label(tmp_path):
    figure = draw([[30, 10], [5, 15]], ["bad", "good"])
    matrix, *_ = figure.axes
    texts = {text.get_position(): text.get_text() for text in matrix.texts}
    assert texts[1, 0] == "10\n25%"  # bad, taken for good
    assert texts[0, 1] == "5\n25%"
    assert tick_labels(matrix.yaxis) == ["bad (40)", "good (20)"]
    assert tick_labels(matrix.xaxis) == ["bad", "good"]
    curves.write_png(figure, f"{tmp_path}/scores.png")
    assert (tmp_path / "scores.png").read_bytes()[1:4] == b"PNG"


def test_confidence_is_shown_beside_accuracy():
    _, reliability, histogram = draw([[30, 10], [5, 15]], ["a", "b"]).axes
    (bar,) = reliability.patches
    assert bar.get_height() == pytest.approx(0.75)
    assert bar.get_x() <= 0.9 <= bar.get_x() + bar.get_width()
    assert "15.0%" in reliability.get_title(loc="left")  # 0.9 - 0.75
    assert sum(bar.get_height() for bar in histogram.patches) == 1.0


def test_of_many_labels_those_confused_most_are_drawn():
    counts = np.diag(np.full(30, 50))
    counts[3, 28] = counts[7, 2] = 1
    matrix = draw(counts, [f"label-{i}" for i in range(30)]).axes[0]
    drawn = tick_labels(matrix.xaxis)
    assert len(drawn) == 20
    assert {"label-3", "label-28", "label-7", "label-2"} <= set(drawn)
    assert drawn == sorted(drawn, key=lambda name: int(name[6:]))
    assert "20 of 30 labels" in matrix.get_title(loc="left")


def test_a_label_without_examples_is_no_error():
    matrix = draw([[3, 1, 0], [0, 2, 0], [0, 0, 0]], ["a", "b", "c"]).axes[0]
    assert tick_labels(matrix.yaxis)[2] == "c (0)"


def test_long_names_keep_both_ends():
    long = "the_card_" + "x" * 40 + "_is_lost"
    name, _ = tick_labels(draw([[1, 0], [0, 1]], [long, "b"]).axes[0].xaxis)
    assert len(name) == 24
    assert name.startswith("the_card_") and name.endswith("_is_lost")


def test_names_are_drawn_as_they_are(tmp_path):
    # Two dollars would be a formula, and other scripts would be boxes.
    labels = ["$\\frac$", "Спорт", "Πολιτική"]
    figure = draw(np.eye(3, dtype=int), labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a missing glyph
        curves.write_png(figure, f"{tmp_path}/scores.png")
    assert tick_labels(figure.axes[0].xaxis) == labels


def test_a_name_that_no_font_can_show_is_a_number(monkeypatch, capsys):
    fonts = matplotlib.font_manager.fontManager.ttflist
    monkeypatch.setattr(
        matplotlib.font_manager.fontManager,
        "ttflist",
        [f for f in fonts if f.name.startswith(("DejaVu", "Last Resort"))],
    )
    figure = draw(np.eye(3, dtype=int), ["sport", "正面", "负面"])
    assert tick_labels(figure.axes[0].xaxis) == ["sport", "label 2", "label 3"]
    assert "2 of 3 labels, the first of them '正面'" in capsys.readouterr().err


def test_numbers_are_drawn_over_their_labels():
    values = np.array([0.0, 1.0, 2.0])
    (axes,) = score_charts.draw_regression(values, values / 2).axes
    points = axes.collections[0].get_offsets()
    assert points.tolist() == [[0, 0], [1, 0.5], [2, 1]]
    assert "Pearson 1.000" in axes.get_title(loc="left")


def test_the_surest_answers_come_first():
    figure = score_charts.draw_answers(
        [0.5, -3.0, 9.0, 2.0], exact=[0, 0, 1, 1], f1=[0.5, 0.1, 1, 1]
    )
    (axes,) = figure.axes
    f1, exact = axes.get_lines()
    np.testing.assert_allclose(exact.get_xdata(), [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(exact.get_ydata(), [1, 1, 2 / 3, 0.5])
    np.testing.assert_allclose(f1.get_ydata(), [1, 1, 2.5 / 3, 0.65])
