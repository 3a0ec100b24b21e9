"""The training program: resuming, refusing, and what it leaves behind."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain import (
    checkpoints,
    errors,
    model,
    optimizer,
    options,
    records,
    telemetry,
    train,
)


@pytest.fixture
def make_config(make_set, tmp_path):
    """A run of one small layer: `make_config(total_steps=9)`."""

    def make(
        data_dir=None, model_dir="model", total_steps=9, bert=None, **values
    ):
        text = json.dumps(
            {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 32,
                "max_position_embeddings": 16,
                **(bert or {}),
            }
        )
        path = tmp_path / f"bert-{zlib.crc32(text.encode())}.json"
        path.write_text(text)
        return train.Config(
            **{
                "data_dir": data_dir
                or make_set(train=(13, 7, 9), pairing="nsp"),
                "global_batch_size": 8,
                "steps_per_loop": 2,
                "architecture": model.ModelConfig(bert_config=str(path)),
                "schedule": optimizer.ScheduleConfig(
                    total_steps=total_steps, peak_learning_rate=3e-3
                ),
                "saving": checkpoints.CheckpointConfig(
                    model_dir=str(tmp_path / model_dir),
                    checkpoint_every_steps=4,
                ),
                **values,
            }
        )

    return make


def saved_values(config):
    """Every variable of the newest checkpoint."""
    reader = tf.train.load_checkpoint(config.saving.model_dir)
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        # How often it was saved is no part of the result.
        if not name.startswith(("save_counter", "_CHECKPOINTABLE"))
    }


def disturb(monkeypatch, at_step, act):
    """Calls `act` after the loop that ends at `at_step`."""
    real = telemetry.Progress.__call__

    def call(self, output):
        real(self, output)
        if self._trainer.state.step == at_step:
            act()

    monkeypatch.setattr(telemetry.Progress, "__call__", call)


def crash():
    raise RuntimeError("power cut")


def test_an_interrupted_and_a_crashed_run_end_as_an_undisturbed_one(
    make_config, monkeypatch, capsys
):
    whole = make_config(model_dir="whole")
    assert train.train(whole) == 0
    expected = saved_values(whole)

    config = make_config(whole.data_dir)
    with monkeypatch.context() as patch:
        disturb(patch, 4, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert train.train(config) == train.INTERRUPTED_CODE
    assert "step 4 is saved" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        # In the action, thus before the checkpoint of step 8 is written.
        disturb(patch, 8, crash)
        with pytest.raises(RuntimeError, match="power cut"):
            train.train(config)
    assert train.train(config) == 0
    assert capsys.readouterr().out.count("resuming at step 4") == 2

    assert len(expected) > 50
    actual = saved_values(config)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)
    results = [
        json.loads(
            (pathlib.Path(c.saving.model_dir) / telemetry.TRAIN_RESULTS_NAME).read_text()
        )
        for c in (whole, config)
    ]
    for part in ("step", "start", "end", "unigram_entropy"):
        assert results[0][part] == results[1][part]


def test_a_run_leaves_results_logs_and_a_directory_that_explains_itself(
    make_config, capsys
):
    config = make_config(total_steps=4, eval_every_steps=2)
    assert train.train(config) == 0
    folder = pathlib.Path(config.saving.model_dir)
    results = json.loads((folder / telemetry.TRAIN_RESULTS_NAME).read_text())
    assert results["step"] == 4
    for name in (
        "masked_lm_loss",
        "masked_lm_accuracy",
        "masked_lm_perplexity",
        "next_sentence_loss",
        "next_sentence_accuracy",
    ):
        assert np.isfinite(results["start"][name])
        assert np.isfinite(results["end"][name])
    assert results["end"]["masked_lm_perplexity"] == pytest.approx(
        np.exp(results["end"]["masked_lm_loss"])
    )
    assert abs(results["start"]["masked_lm_loss"] - np.log(60)) < 0.2
    assert 0 < results["unigram_entropy"] < np.log(60)
    assert results["examples_per_second"] > 0
    assert results["tokens_per_second"] == pytest.approx(
        16 * results["examples_per_second"], rel=1e-2
    )
    assert 1e8 < results["peak_memory_bytes"] < 1e11

    assert (
        options.from_dict(
            train.Config,
            json.loads((folder / checkpoints.TRAIN_CONFIG_NAME).read_text()),
        )
        == config
    )
    assert {path.name for path in folder.iterdir()} >= {
        "config.json",
        "vocab.txt",
        "checkpoint",
        "logs",
    }
    assert logged_names(folder / "logs" / "train") >= {
        "masked_lm_loss",
        "masked_lm_accuracy",
        "next_sentence_accuracy",
        "learning_rate",
        "gradient_norm",
        "examples_per_second",
        "tokens_per_second",
    }
    assert "masked_lm_loss" in logged_names(folder / "logs" / "eval")

    output = capsys.readouterr().out
    assert "step 2/4 " in output and "step 4/4 " in output
    assert output.count("eval at step 2:") == 1
    assert "Training is complete" in output


def logged_names(folder):
    (path,) = folder.glob("events.*")
    return {
        value.tag
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }


def test_a_finished_run_only_evaluates_again(make_config, capsys):
    config = make_config(total_steps=2)
    train.train(config)
    assert "step 2/2" in capsys.readouterr().out
    before = saved_values(config)
    assert train.train(config) == 0
    assert "step 2/2" not in capsys.readouterr().out
    for name, value in saved_values(config).items():
        np.testing.assert_array_equal(value, before[name])


def truncate(data_dir):
    path = pathlib.Path(data_dir) / records.shard_name("train", 1, 3)
    path.write_bytes(path.read_bytes()[:-7])


def other_vocabulary(data_dir):
    path = pathlib.Path(data_dir) / "vocab.txt"
    path.write_text(path.read_text().replace("t7\n", "t700\n"))


def no_manifest(data_dir):
    (pathlib.Path(data_dir) / records.MANIFEST_NAME).unlink()


@pytest.mark.parametrize(
    "spoil, message",
    [
        (truncate, "train-00001-of-00003.tfrecord: .* truncated"),
        (other_vocabulary, "vocab.txt: sha256"),
        (no_manifest, "holds no finished set"),
    ],
)
def test_a_spoilt_set_is_refused(make_config, spoil, message):
    config = make_config()
    spoil(config.data_dir)
    with pytest.raises(errors.UserError, match=message):
        train.train(config)


@pytest.mark.parametrize(
    "options_of_set, message",
    [
        ({"held_out": 0}, "eval split holds no example"),
        ({"train": (0, 0)}, "train split holds no example"),
    ],
)
def test_a_set_without_examples_is_refused(
    make_config, make_set, options_of_set, message
):
    with pytest.raises(errors.UserError, match=message):
        train.train(make_config(make_set(**options_of_set)))


def test_rows_longer_than_the_positions_are_refused(make_config, make_set):
    config = make_config(make_set(seq_length=20))
    with pytest.raises(errors.UserError, match="20 exceeds .* 16"):
        train.train(config)


def test_another_run_s_directory_is_refused(make_config, make_set):
    config = make_config(total_steps=1)
    train.train(config)
    for message, other in {
        "hidden_size=16, this run asks for 32": make_config(
            config.data_dir, bert={"hidden_size": 32}
        ),
        "seed=0, this run asks for 5": make_config(config.data_dir, seed=5),
        "vocab_size=60, this run asks for 61": make_config(
            make_set("other", vocab_size=61, pairing="nsp")
        ),
        "BertForPreTraining.*, this run .*BertForMaskedLM": make_config(
            make_set("single", pairing="none")
        ),
    }.items():
        with pytest.raises(errors.UserError, match=message):
            train.train(other)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"steps_per_loop": 0}, "steps_per_loop=0"),
        ({"eval_every_steps": -1}, "eval_every_steps=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 2**31}, "seed=2147483648"),
    ],
)
def test_an_option_that_cannot_be_is_refused(make_config, values, message):
    with pytest.raises(errors.UserError, match=message):
        make_config(**values)


def test_the_command_line_answers_a_mistake_in_one_line(make_set, tmp_path):
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "bert_pretrain.train",
            f"--data_dir={make_set()}",
            f"--model_dir={tmp_path}/model",
            "--model_size=tiny",
            "--total_steps=3",
            "--global_batch_size=0",
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert run.returncode == errors.EXIT_CODE
    assert "Traceback" not in run.stderr
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("error: --global_batch_size=0 must be")
