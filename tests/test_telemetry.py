"""Rates and the line of progress."""

import io
import json
import types

import pytest

from bert_pretrain import telemetry, trainer

OUTPUT = {
    "masked_lm_loss": 6.5,
    "masked_lm_accuracy": 0.25,
    "learning_rate": 1e-3,
    "gradient_norm": 2.0,
}


def run_loops(loops, stream):
    """Passes (step reached, steps, examples, seconds) through a Progress."""
    fake = types.SimpleNamespace(state=types.SimpleNamespace())
    progress = telemetry.Progress(fake, 100, 128, stream)
    for step, *loop in loops:
        fake.state.step, fake.last_loop = step, trainer.Loop(*loop)
        output = dict(OUTPUT)
        progress(output)
    return progress, output


def test_a_line_tells_the_step_the_rates_and_the_time_left():
    stream = io.StringIO()
    _, output = run_loops([(10, 10, 320, 40.0), (20, 10, 320, 8.0)], stream)
    first, second = stream.getvalue().splitlines()
    assert first.startswith("step 10/100 masked_lm_loss 6.500 ")
    assert "left" not in first  # its rate is that of compiling
    assert "40 examples/s 5,120 tokens/s" in second
    assert second.endswith("1:04 left")  # 80 steps of 0.8 seconds
    assert output["examples_per_second"] == pytest.approx(40)
    assert output["tokens_per_second"] == pytest.approx(40 * 128)


def test_the_summary_leaves_the_compiling_loop_out_of_the_rates():
    progress, _ = run_loops(
        [(10, 10, 320, 40.0), (20, 10, 320, 8.0), (30, 10, 320, 12.0)],
        io.StringIO(),
    )
    assert telemetry.summarize([progress]) == {
        "train_seconds": 60.0,
        "examples_per_second": 32.0,
        "tokens_per_second": 32.0 * 128,
    }


def test_a_run_without_loops_has_no_rates():
    progress = telemetry.Progress(None, 10, 128, io.StringIO())
    assert telemetry.summarize([progress])["examples_per_second"] == 0.0


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
    assert telemetry.format_duration(seconds) == text


def test_peak_memory_is_that_of_a_process_with_tensorflow():
    assert 1e8 < telemetry.peak_memory_bytes() < 1e11


class Count(int):
    """Stands in for a variable."""

    def numpy(self):
        return int(self)


def log_at(path, step, num_examples):
    state = types.SimpleNamespace(step=step, num_examples=Count(num_examples))
    return state, telemetry.MetricsLog(str(path), state)


def test_the_log_keeps_what_need_not_be_done_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    state, log = log_at(path, 0, 0)
    log.resume(False)
    log.action("eval")({"loss": 3.0})
    for step, loss in (1, 0.1), (2, float("nan")), (3, 0.3):
        state.step, state.num_examples = step, Count(8 * step)
        log.action("train")({"loss": loss})
        log.append("train", {"loss": 9.0})  # It is there already.
    lines = list(map(json.loads, path.read_text().splitlines()))
    assert lines[1] == {
        "kind": "train",
        "step": 1,
        "num_examples": 8,
        "loss": 0.1,
    }
    assert [line["loss"] for line in lines] == [3.0, 0.1, None, 0.3]
    # Killed while it wrote a line; the checkpoint is older.
    path.write_text(path.read_text() + '{"kind": "tr')
    _, log = log_at(path, 2, 16)
    log.resume(True)
    assert [record["step"] for record in log.records] == [0, 1, 2]
    assert list(map(json.loads, path.read_text().splitlines())) == lines[:3]
    # Nothing was saved: the run begins anew.
    log.resume(False)
    assert not log.records and not path.read_text()
