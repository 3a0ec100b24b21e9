"""The curves of runs: which values they show, and how."""

import json

import pytest
import tensorflow as tf

from bert_pretrain import errors, files, plot_runs
from bert_pretrain.telemetry import curves

RECORDS = [
    {"kind": "eval", "step": 0, "num_examples": 0, "masked_lm_loss": 4.0},
    {
        "kind": "train",
        "step": 10,
        "num_examples": 80,
        "masked_lm_loss": 3.5,
        "gradient_norm": 2.0,
        "parameter_norm": 30.0,
        "learning_rate": 1e-3,
        "host_memory_bytes": 2e9,
    },
    {"kind": "rollback", "step": 10, "num_examples": 80},
    {
        "kind": "train",
        "step": 20,
        "num_examples": 160,
        "masked_lm_loss": None,
        "gradient_norm": 1.0,
        "parameter_norm": 31.0,
        "learning_rate": 0.0,
        "host_memory_bytes": 3e9,
    },
    {"kind": "eval", "step": 20, "num_examples": 160, "masked_lm_loss": 3.0},
]


def write_run(folder, is_complete=True):
    text = "".join(json.dumps(record) + "\n" for record in RECORDS)
    files.write_text(f"{folder}/metrics.jsonl", text)
    files.write_json(
        f"{folder}/train_config.json", {"phases_of_run": [{"from_step": 15}]}
    )
    if is_complete:
        files.write_json(
            f"{folder}/train_results.json", {"unigram_entropy": 3.25}
        )
    else:
        files.write_text(f"{folder}/metrics.jsonl", text + '{"kind": "tra')
    return str(folder)


def panels_of(figure):
    """Maps a panel's title to its lines: label to the points (x, y)."""
    return {
        axes.get_title(loc="left"): {
            line.get_label(): list(
                zip(*map(list, line.get_data()), strict=True)
            )
            for line in axes.get_lines()
        }
        for axes in figure.axes
    }


def test_a_run_s_figure_has_a_panel_for_each_unit_of_the_log(tmp_path):
    (run,) = curves.read([write_run(tmp_path / "run")])
    figure = curves.draw([run])
    panels = panels_of(figure)
    assert list(panels) == [
        "Masked LM loss (nats)",
        "Learning rate",
        "Global norm",
        "Memory in use (GB)",
    ]
    loss = panels["Masked LM loss (nats)"]
    assert loss["training"] == [(10, 3.5)]  # no point for null
    assert loss["held out"] == [(0, 4.0), (20, 3.0)]
    assert {y for _, y in loss["unigram entropy"]} == {3.25}
    assert panels["Global norm"]["parameters"] == [(10, 30.0), (20, 31.0)]
    assert panels["Memory in use (GB)"]["host"] == [(10, 2.0), (20, 3.0)]
    for axes in figure.axes:
        upright = {
            line.get_color(): set(line.get_xdata())
            for line in axes.get_lines()
            if len(set(line.get_xdata())) == 1 and line.get_linestyle() == ":"
        }
        assert upright == {"gray": {15}, "red": {10}}
    scales = {a.get_title(loc="left"): a.get_yscale() for a in figure.axes}
    assert scales["Global norm"] == "log"
    assert scales["Masked LM loss (nats)"] == "linear"


def test_a_run_in_progress_is_drawn_as_far_as_it_got(tmp_path):
    (run,) = curves.read([write_run(tmp_path, is_complete=False)])
    assert run.records == RECORDS
    panels = panels_of(curves.draw([run]))
    assert "unigram entropy" not in panels["Masked LM loss (nats)"]


def test_runs_share_the_panels_each_in_its_colour(tmp_path):
    folders = [write_run(tmp_path / name / "model") for name in ("one", "two")]
    runs = curves.read([f"{folders[0]}/", folders[1]])
    assert [run.name for run in runs] == ["one/model", "two/model"]
    figure = curves.draw(runs)
    (legend,) = figure.legends
    colors = [line.get_color() for line in legend.get_lines()]
    assert [text.get_text() for text in legend.get_texts()] == [
        "one/model",
        "two/model",
    ]
    for axes in figure.axes:
        drawn = [line for line in axes.get_lines() if len(line.get_xdata())]
        assert {line.get_color() for line in drawn} == set(colors)
    (norms,) = (
        axes
        for axes in figure.axes
        if axes.get_title(loc="left") == "Global norm"
    )
    styles = [line.get_linestyle() for line in norms.get_lines()]
    assert styles == ["-"] * 3 + ["--"] * 3


def test_the_commands_write_pictures_to_any_file_system(tmp_path):
    folders = tuple(write_run(tmp_path / name) for name in "ab")
    one, both = "ram://curves/one.png", str(tmp_path / "new" / "both.png")
    plot_runs.main(
        plot_runs.PlotConfig(model_dir=tuple(folders[:1]), output_file=one)
    )
    plot_runs.main(plot_runs.PlotConfig(model_dir=folders, output_file=both))
    for path in one, both:
        image = tf.io.decode_png(files.read_bytes(path)).numpy()
        assert image.shape[0] > 300 and image.shape[1] > 1000
        assert image.std() > 10  # the page is not empty


def test_a_run_that_cannot_be_drawn_gives_one_line(tmp_path):
    with pytest.raises(errors.UserError, match="metrics.jsonl: no such file"):
        curves.read([str(tmp_path)])
    files.write_text(f"{tmp_path}/metrics.jsonl", "")
    with pytest.raises(errors.UserError, match="nothing is logged yet"):
        curves.read([str(tmp_path)])
    with pytest.raises(errors.UserError, match="names a run twice"):
        plot_runs.PlotConfig(model_dir=("a", "b", "a"), output_file="x.png")
