"""Rates, the line of progress, and the log."""

import json
import math
import types

import pytest
import tensorflow as tf

from bert_pretrain.telemetry import console, memory, metrics_log, train_progress

OUTPUT = {
    "masked_lm_loss": 6.5,
    "masked_lm_accuracy": 0.25,
    "learning_rate": 1e-3,
    "gradient_norm": 2.0,
}
LABELS = {"masked_lm_loss": "loss", "masked_lm_accuracy": "accuracy"}


def run_loops(loops, peak=None, budget=math.inf, values=OUTPUT):
    """Reports loops (step reached, steps, examples, seconds) to a progress.

    A tenth of the time is waiting, and each example has 100 tokens.
    """
    progress = train_progress.TrainProgress(100, 128, LABELS, peak)
    for step, num_steps, num_examples, seconds in loops:
        loop = train_progress.Loop(
            num_steps,
            num_examples,
            seconds,
            num_tokens=100 * num_examples,
            input_seconds=seconds / 10,
        )
        output = dict(values)
        progress.report(loop, step, budget, output)
    return progress, output


def test_a_line_shows_the_step_the_rates_and_the_time_left(capsys):
    _, output = run_loops([(10, 10, 320, 40.0), (20, 10, 320, 8.0)])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("step 10/100 loss 6.500 accuracy 0.250 lr 1.00e-03")
    assert "left" not in first  # its rate includes compilation
    assert "40 examples/s 5,120 tokens/s | 10% waiting for input" in second
    assert second.endswith("1:04 left")  # 80 steps of 0.8 seconds
    assert output["examples_per_second"] == pytest.approx(40)
    assert output["tokens_per_second"] == pytest.approx(40 * 128)
    assert output["tokens_per_second_without_padding"] == pytest.approx(4000)
    assert output["input_wait_share"] == pytest.approx(0.1)
    assert output["seconds_left"] == pytest.approx(64)
    assert "mfu" not in output  # no peak is known


def test_the_use_of_the_accelerators_is_shown_if_their_peak_is_known(capsys):
    _, output = run_loops([(10, 10, 320, 8.0)], peak=100.0)
    assert output["mfu"] == pytest.approx(0.4)
    assert "5,120 tokens/s MFU 40.0% |" in capsys.readouterr().out


def test_the_time_left_is_no_longer_than_the_budget():
    loops = [(10, 10, 320, 40.0), (20, 10, 320, 8.0)]
    _, output = run_loops(loops, budget=30.0)
    assert output["seconds_left"] == 30.0


def test_the_longest_line_fits_a_screen(capsys):
    values = {**OUTPUT, "next_sentence_accuracy": 0.5}
    loops = [(10, 10, 10**6, 40.0), (20, 10, 10**6, 8.0)]
    run_loops(loops, peak=1e6, values=values)
    assert max(map(len, capsys.readouterr().out.splitlines())) < 160


def test_the_memory_of_host_and_accelerator_is_reported(monkeypatch):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    output = {}
    memory.add_memory(strategy, output)
    assert 1e8 < output["host_memory_bytes"] < 1e11
    assert len(output) == 1  # A CPU has no memory of its own.
    monkeypatch.setattr(memory, "device_memory_bytes", lambda _: (3, 5))
    memory.add_memory(strategy, output)
    assert output["device_memory_bytes"] == 3
    assert output["device_peak_memory_bytes"] == 5


def test_the_summary_leaves_the_compiling_loop_out_of_the_rates():
    progress, _ = run_loops(
        [(10, 10, 320, 40.0), (20, 10, 320, 8.0), (30, 10, 320, 12.0)],
    )
    assert train_progress.summarize([progress.totals()]) == {
        "train_seconds": 60.0,
        "examples_per_second": 32.0,
        "tokens_per_second": 32.0 * 128,
        "tokens_per_second_without_padding": 3200.0,
        "input_wait_share": 0.1,
    }


def test_a_run_without_loops_has_no_rates():
    progress = train_progress.TrainProgress(10, 128, LABELS)
    results = train_progress.summarize([progress.totals()])
    assert results["examples_per_second"] == 0.0


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.4, "0:00"),
        (59.6, "1:00"),
        (3599, "59:59"),
        (3600, "1:00:00"),
        (90061, "25:01:01"),
    ],
)
def test_durations(seconds, text):
    assert console.format_duration(seconds) == text


def test_peak_memory_is_that_of_a_process_with_tensorflow():
    assert 1e8 < memory.peak_memory_bytes() < 1e11


class Count(int):
    """Stands in for a variable."""

    def numpy(self):
        return int(self)


def log_at(path, step, num_examples):
    state = types.SimpleNamespace(step=step, num_examples=Count(num_examples))
    return state, metrics_log.MetricsLog(str(path), state)


def test_a_follower_of_the_log_gets_each_line_once(tmp_path):
    lines = []
    state = types.SimpleNamespace(step=1, num_examples=Count(8))
    log = metrics_log.MetricsLog(str(tmp_path / "log"), state, lines.append)
    log.append("train", {"loss": 1.5})
    log.append("train", {"loss": 1.5})
    assert lines == metrics_log.read(str(tmp_path / "log"))
    assert len(lines) == 1


def test_the_log_keeps_the_lines_up_to_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    state, log = log_at(path, 0, 0)
    log.resume(False)
    log.append("eval", {"loss": 3.0})
    for step, loss in (1, 0.1), (2, float("nan")), (3, 0.3):
        state.step, state.num_examples = step, Count(8 * step)
        log.append("train", {"loss": loss})
        log.append("train", {"loss": 9.0})  # The step is already in the log.
    lines = list(map(json.loads, path.read_text().splitlines()))
    assert lines[1] == {
        "kind": "train",
        "step": 1,
        "num_examples": 8,
        "loss": 0.1,
    }
    assert [line["loss"] for line in lines] == [3.0, 0.1, None, 0.3]
    # The run was killed while it wrote a line; the checkpoint is older.
    path.write_text(path.read_text() + '{"kind": "tr')
    _, log = log_at(path, 2, 16)
    log.resume(True)
    assert [record["step"] for record in log.records] == [0, 1, 2]
    assert list(map(json.loads, path.read_text().splitlines())) == lines[:3]
    # Nothing was saved, so the run starts over.
    log.resume(False)
    assert not log.records and not path.read_text()


def test_evaluations_that_a_rollback_undid_do_not_count(tmp_path):
    state = types.SimpleNamespace(num_examples=tf.Variable(0, dtype=tf.int64))
    log = metrics_log.MetricsLog(str(tmp_path / "metrics.jsonl"), state)

    def steps():
        return [record["step"] for record in log.evaluations()]

    for number, step in enumerate([0, 250, 500, 750]):
        state.step = step
        state.num_examples.assign(number)
        log.append("eval", {"masked_lm_loss": 5.0})
    assert steps() == [0, 250, 500, 750]
    log.append("rollback", {})
    state.step = 250
    assert steps() == [0, 250]
    state.step = 500
    state.num_examples.assign(9)
    log.append("eval", {"masked_lm_loss": 6.0})
    state.step = 800
    assert steps() == [0, 250, 500]
    assert log.evaluations()[-1]["masked_lm_loss"] == 6.0
