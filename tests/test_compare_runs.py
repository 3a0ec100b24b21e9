"""Runs beside one another, and within the band of a reference or not."""

import json
import math

import numpy as np
import pytest

from bert_pretrain import command_line, compare_runs, errors, files, options
from bert_pretrain.evaluation import (
    band_chart,
    reference_band,
    run_history,
)
from bert_pretrain.pretraining import pretraining_config
from bert_pretrain.telemetry import curves

STEPS = range(0, 601, 100)
DATASETS = [{"documents": 9, "examples": 100, "tokens": 5000}]


def loss_at(step, factor=1.0):
    return factor * (7 - step / 150)


def train_record(step, rate=64.0):
    return {
        "kind": "train",
        "step": step,
        "num_examples": 32 * step,
        "masked_lm_loss": loss_at(step),
        "examples_per_second": rate,
    }


def eval_record(step, loss):
    return {
        "kind": "eval",
        "step": step,
        "num_examples": 32 * step,
        "masked_lm_loss": loss,
    }


def log_of(factor=1.0, steps=STEPS):
    for step in steps:
        if step:
            yield train_record(step)
        yield eval_record(step, loss_at(step, factor))


def write_run(folder, records, seed=1, datasets=DATASETS, **flags):
    config = command_line.parse(
        pretraining_config.TrainingConfig,
        [
            "--data_dir=records",
            f"--model_dir={folder}",
            "--total_steps=600",
            f"--seed={seed}",
            *(f"--{name}={value}" for name, value in flags.items()),
        ],
    )
    files.write_json(
        f"{folder}/train_config.json",
        {**options.to_dict(config), "datasets": datasets, "phases_of_run": []},
    )
    files.write_text(
        f"{folder}/metrics.jsonl",
        "".join(json.dumps(record) + "\n" for record in records),
    )
    files.write_text(f"{folder}/vocab.txt", "[PAD]\n[UNK]\n")
    files.write_json(f"{folder}/train_results.json", {})
    return str(folder)


def write_reference(tmp_path, factors=(0.995, 1.0, 1.005)):
    """Three runs whose losses deviate, and their reference."""
    folders = [
        write_run(tmp_path / f"seed-{seed}", log_of(factor), seed)
        for seed, factor in enumerate(factors, start=1)
    ]
    path = f"{tmp_path}/reference.json"
    assert not run_main(
        *(f"--model_dir={folder}" for folder in folders),
        f"--write_reference={path}",
        "--machine=two cores",
    )
    return path


def run_main(*arguments):
    return compare_runs.main(
        command_line.parse(compare_runs.CompareConfig, arguments)
    )


def compare(folder, reference):
    return run_main(f"--model_dir={folder}", f"--reference={reference}")


def table_of(output):
    """The rows of the table that was printed: name to values."""
    return {
        name.strip(): values.split()
        for line in output.splitlines()
        if "  " in line.strip()
        for name, values in [line.strip().split("  ", 1)]
    }


# ---------------------------------------------------------------- the table


def test_runs_stand_side_by_side(tmp_path, capsys):
    one = write_run(tmp_path / "one", log_of())
    two = write_run(tmp_path / "two", log_of(0.9, steps=range(0, 401, 200)))
    assert not run_main(f"--model_dir={one}", f"--model_dir={two}")
    table = table_of(capsys.readouterr().out)
    assert table["step"] == ["600", "400"]
    # 19,200 and 12,800 examples at 64 a second.
    assert table["minutes of training"] == ["5.0", "3.3"]
    assert table["examples/s"] == ["64", "64"]
    assert table["held-out loss at step 200"] == ["5.6667", "5.1000"]
    assert "held-out loss at step 100" not in table
    assert table["least"] == ["3.0000", "3.9000"]


def test_undone_evaluations_do_not_count_but_their_time_does(tmp_path):
    records = [
        eval_record(0, 7.0),
        train_record(100),
        eval_record(100, 6.0),
        train_record(200),
        eval_record(200, 1.0),
        # Back to step 100; the examples go on.
        {"kind": "rollback", "step": 100, "num_examples": 6400},
        {**train_record(200), "num_examples": 9600},
        {**eval_record(200, 5.0), "num_examples": 9600},
    ]
    (run,) = run_history.read([write_run(tmp_path / "run", records)])
    assert [each.step for each in run.evaluations] == [0, 100, 200]
    assert run.losses == {0: 7.0, 100: 6.0, 200: 5.0}
    assert run.minutes == pytest.approx(9600 / 64 / 60)


def test_the_time_of_a_resumed_run_is_that_of_its_loops(tmp_path):
    records = [
        eval_record(0, 7.0),
        train_record(100, rate=100),
        train_record(130, rate=100),  # the process ended here
        train_record(200, rate=50),
        eval_record(200, 6.0),
    ]
    (run,) = run_history.read([write_run(tmp_path / "run", records)])
    seconds = 130 * 32 / 100 + 70 * 32 / 50
    assert run.evaluations[-1].minutes == pytest.approx(seconds / 60)


def test_a_log_without_a_held_out_loss_is_refused(tmp_path):
    folder = write_run(tmp_path / "run", [train_record(100)])
    with pytest.raises(errors.UserError, match="no held-out loss"):
        run_main(f"--model_dir={folder}")


# ----------------------------------------------------------------- the band


@pytest.mark.parametrize("factor", [0.96, 1.0, 1.04])
def test_a_run_like_the_reference_is_within_the_band(tmp_path, capsys, factor):
    reference = write_reference(tmp_path)
    folder = write_run(tmp_path / "run", log_of(factor), seed=9)
    assert compare(folder, reference) == 0
    output = capsys.readouterr()
    assert "run: within the band at 7 evaluations up to step 600" in output.out
    assert "warning" not in output.err


@pytest.mark.parametrize(("factor", "where"), [(0.9, "below"), (1.1, "above")])
def test_the_first_loss_outside_the_band_is_named(
    tmp_path, capsys, factor, where
):
    reference = write_reference(tmp_path)
    records = [*log_of(steps=STEPS[:3]), *log_of(factor, steps=STEPS[3:])]
    folder = write_run(tmp_path / "run", records, seed=9)
    assert compare(folder, reference) == 1
    output = capsys.readouterr().out
    assert "OUTSIDE the band at 4 of 7 evaluations" in output
    assert f"first at step 300: the loss {loss_at(300, factor):.4f}" in output
    assert f"% {where} " in output


def test_a_run_in_progress_is_compared_as_far_as_it_is(tmp_path, capsys):
    reference = write_reference(tmp_path)
    folder = write_run(tmp_path / "run", log_of(steps=[0, 50, 100, 150, 200]))
    assert compare(folder, reference) == 0
    assert "at 3 evaluations up to step 200" in capsys.readouterr().out


def test_a_loss_that_is_not_finite_is_outside(tmp_path, capsys):
    reference = write_reference(tmp_path)
    records = [eval_record(0, loss_at(0)), eval_record(100, None)]
    folder = write_run(tmp_path / "run", records)
    assert compare(folder, reference) == 1
    assert "first at step 100: the loss inf" in capsys.readouterr().out


def test_other_options_are_compared_with_a_warning(tmp_path, capsys):
    reference = write_reference(tmp_path)
    folder = write_run(
        tmp_path / "run", log_of(), beta_2=0.98, steps_per_loop=7
    )
    assert compare(folder, reference) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "other options than the reference: beta_2=0.98 instead of" in line
    assert "steps_per_loop" not in line  # changes no result


def test_losses_on_another_dataset_are_not_compared(tmp_path):
    reference = write_reference(tmp_path)
    folder = write_run(tmp_path / "run", log_of(), datasets=[{"documents": 8}])
    with pytest.raises(errors.UserError, match="datasets=.*'documents': 8"):
        compare(folder, reference)
    folder = write_run(tmp_path / "other", log_of())
    files.write_text(f"{folder}/vocab.txt", "[PAD]\n")
    with pytest.raises(errors.UserError, match="vocab_sha256="):
        compare(folder, reference)


def test_a_run_without_a_common_step_is_refused(tmp_path):
    reference = write_reference(tmp_path)
    folder = write_run(tmp_path / "run", log_of(steps=[50, 150]))
    with pytest.raises(errors.UserError, match="none of the reference's steps"):
        compare(folder, reference)


@pytest.mark.parametrize("num_runs", [3, 10])
def test_few_good_runs_are_outside_the_band(num_runs):
    rng = np.random.default_rng(0)
    num_outside = 0
    for rho in np.repeat([0.0, 0.7, 0.95, 1.0], 250):
        logs = rng.normal(size=(num_runs + 1, 13))
        for step in range(1, 13):
            logs[:, step] *= (1 - rho**2) ** 0.5
            logs[:, step] += rho * logs[:, step - 1]
        logs[:, 4:7] *= 10  # where runs leave a plateau, they differ most
        *runs, one_more = np.exp(1.5 + 0.005 * logs)
        reference = reference_band.Reference(
            steps=tuple(range(13)),
            runs=tuple(
                reference_band.ReferenceRun(seed=0, losses=run, minutes=())
                for run in runs
            ),
            options={},
            dataset={},
            machine="",
            versions={},
        )
        num_outside += any(
            not interval.low <= loss <= interval.high
            for interval, loss in zip(
                reference_band.band(reference), one_more, strict=True
            )
        )
    assert num_outside <= 0.05 * 1000


# ------------------------------------------------------------ the reference


def test_a_reference_says_how_its_runs_were_made(tmp_path):
    values = files.read_json(write_reference(tmp_path))
    assert values["steps"] == list(STEPS)
    assert [run["seed"] for run in values["runs"]] == [1, 2, 3]
    assert values["runs"][0]["losses"][0] == pytest.approx(6.965)
    assert values["runs"][0]["minutes"][-1] == 5.0
    assert values["options"] == {"total_steps": 600}
    assert values["machine"] == "two cores"
    assert values["versions"]["tensorflow"]


def change_seed(tmp_path):
    write_run(tmp_path / "seed-2", log_of(), seed=1)


def change_option(tmp_path):
    write_run(tmp_path / "seed-2", log_of(), seed=2, beta_1=0.8)


def spoil(tmp_path):
    write_run(tmp_path / "seed-2", [*log_of(), eval_record(700, None)], seed=2)


def interrupt(tmp_path):
    (tmp_path / "seed-2" / "train_results.json").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_seed, "the seeds 1, 1, 3"),
        (change_option, "seed-2 and seed-1 .* beta_1=0.8 instead of 'default'"),
        (spoil, "seed-2: the held-out loss at step 700 is not finite"),
        (interrupt, "seed-2: is not complete"),
    ],
)
def test_runs_that_make_no_reference_are_refused(tmp_path, change, message):
    path = write_reference(tmp_path)
    change(tmp_path)
    with pytest.raises(errors.UserError, match=message):
        run_main(
            *(f"--model_dir={tmp_path}/seed-{seed}" for seed in (1, 2, 3)),
            f"--write_reference={path}",
            "--machine=two cores",
        )


def test_two_runs_make_no_reference(tmp_path):
    path = write_reference(tmp_path)
    with pytest.raises(errors.UserError, match="a reference of 1 runs"):
        run_main(
            f"--model_dir={tmp_path}/seed-1",
            f"--write_reference={path}",
            "--machine=two cores",
        )


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"runs": [{"seed": 1}], "steps": []}',
        '{"runs": [], "steps": [0], "options": {}, "dataset": {}, '
        '"machine": "", "versions": {}}',
    ],
)
def test_a_file_that_is_no_reference_is_refused(tmp_path, text):
    path = f"{tmp_path}/reference.json"
    files.write_text(path, text)
    with pytest.raises(errors.UserError, match=f"^{path}: "):
        reference_band.read(path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--reference=a", "--write_reference=b", "--machine=c"],
        ["--write_reference=b"],
        ["--machine=c"],
    ],
)
def test_options_that_do_not_fit_together_are_refused(arguments):
    with pytest.raises(errors.UserError, match="--write_reference="):
        run_main("--model_dir=run", *arguments)


def test_the_chart_has_the_band_and_the_runs(tmp_path):
    reference = reference_band.read(write_reference(tmp_path))
    folder = write_run(tmp_path / "run", log_of(1.2), seed=9)
    figure = band_chart.draw(run_history.read([folder]), reference)
    over_steps, over_minutes = figure.axes
    (area,) = over_steps.collections
    low, high = area.get_datalim(over_steps.transData).intervaly
    assert low < 3.0 and 7.0 < high < math.inf
    line = over_steps.get_lines()[-1]  # after those of the reference
    assert line.get_ydata()[-1] == pytest.approx(3.6)
    assert len(over_steps.get_lines()) == len(over_minutes.get_lines()) == 4
    curves.write_png(figure, f"{tmp_path}/runs.png")


def test_the_axis_of_the_chart_ends_where_the_curves_do(tmp_path):
    reference = reference_band.read(write_reference(tmp_path, (0.9, 1.0, 1.1)))
    (low, *_) = sorted(each.low for each in reference_band.band(reference))
    losses = [loss for run in reference.runs for loss in run.losses]
    over_steps, _ = band_chart.draw([], reference).axes
    assert low < over_steps.get_ylim()[0] < min(losses)
    assert max(losses) < over_steps.get_ylim()[1] < 1.1 * max(losses)
