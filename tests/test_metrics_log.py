"""metrics.jsonl: what is left of it, whatever happened to the file."""

import json
import types

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import plugin_event_accumulator

from bert_pretrain.telemetry import metrics_log, summaries


def record(step):
    return {"kind": "train", "step": step, "num_examples": 8 * step, "x": 0.5}


def write(path, lines):
    path.write_text("".join(line + "\n" for line in lines))


@pytest.mark.parametrize(
    "foreign",
    [
        '{"kind": "train", "st',
        "[1, 2]",
        "3",
        "null",
        '{"kind": "train"}',
        '{"kind": "train", "step": "7", "num_examples": 3}',
        '{"kind": "train", "step": 7, "num_examples": 3, "x": {}}',
        '{"kind": "train", "step": true, "num_examples": 3}',
        "[" * 100_000,
    ],
)
def test_a_line_that_is_no_record_costs_only_itself(tmp_path, foreign, capsys):
    path = tmp_path / "metrics.jsonl"
    write(path, [json.dumps(record(1)), foreign, json.dumps(record(2))])
    state = types.SimpleNamespace(
        step=2, num_examples=tf.Variable(16, dtype=tf.int64)
    )
    log = metrics_log.MetricsLog(str(path), state)
    log.resume(is_restored=True)
    assert list(log.records) == [record(1), record(2)]
    assert "1 of 3 lines are no records" in capsys.readouterr().err
    assert metrics_log.read(str(path)) == [record(1), record(2)]


def test_the_last_line_may_be_torn(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(record(1)) + '\n{"kind": "tr')
    assert metrics_log.read(str(path)) == [record(1)]
    assert not capsys.readouterr().err


def test_tensorboard_forgets_steps_that_are_done_again(tmp_path):
    folder = str(tmp_path / "logs")
    summaries.forget_from(folder, 0)  # There is nothing to forget.
    assert not tf.io.gfile.exists(folder)

    def write_steps(steps, value, name):
        number = tf.Variable(0, dtype=tf.int64)
        writer = summaries.Summaries(folder, number)
        for step in steps:
            number.assign(step)
            writer.write({"loss": value, "rate": step / 2})
        # A name that begins with a time of its own, as that of a process
        # which starts seconds later.
        (new,) = set(tf.io.gfile.listdir(folder)) - found
        tf.io.gfile.rename(f"{folder}/{new}", f"{folder}/{name}")
        found.add(name)

    found = set()
    write_steps(range(1, 6), 1.0, "events.out.tfevents.1000000000.a")
    summaries.forget_from(folder, 4)
    found.update(tf.io.gfile.listdir(folder))
    write_steps(range(4, 8), 2.0, "events.out.tfevents.9000000000.a")
    events = plugin_event_accumulator.EventAccumulator(folder)
    events.Reload()
    shown = {
        event.step: float(tf.make_ndarray(event.tensor_proto))
        for event in events.Tensors("loss")
    }
    assert len(events.Tensors("loss")) == 7
    assert shown == {1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 2, 7: 2}
    rates = [tf.make_ndarray(e.tensor_proto) for e in events.Tensors("rate")]
    assert rates == [0.5, 1, 1.5, 2, 2.5, 3, 3.5]


@pytest.mark.parametrize("place", ["disk", "ram://log"])
def test_lines_are_in_the_file_at_once_or_with_the_next_checkpoint(
    tmp_path, place
):
    folder = str(tmp_path) if place == "disk" else place
    path = f"{folder}/metrics.jsonl"
    state = types.SimpleNamespace(
        step=1, num_examples=tf.Variable(8, dtype=tf.int64)
    )
    log = metrics_log.MetricsLog(path, state)
    log.resume(is_restored=False)
    log.append("train", {"x": 0.5})
    log.append("eval", {"x": 0.5})
    assert len(metrics_log.read(path)) == (2 if place == "disk" else 0)
    log.flush()
    assert metrics_log.read(path) == list(log.records)
    log.append("rollback", {})
    log.flush()
    assert metrics_log.read(path) == list(log.records)
