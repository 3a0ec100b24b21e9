"""The values that reach Weights & Biases, read from its offline files."""

import json
import pathlib
import sys

import pytest
import wandb

from bert_pretrain import errors
from bert_pretrain.telemetry import telemetry_config, wandb_log
from helpers import wandb_files

CONFIG = telemetry_config.WandbConfig(wandb="a-project")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


def record(kind, step, **values):
    return {"kind": kind, "step": step, "num_examples": 8 * step, **values}


def test_a_failure_of_w_and_b_does_not_end_the_run(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("WANDB_API_KEY", "5ec12e7" * 6)
    with wandb_log.following(CONFIG, str(tmp_path / "m"), {}) as follow:
        follow(record("train", 1, loss=4.5))

        def fail(*values, **options):
            raise wandb.Error("the disk is full")

        monkeypatch.setattr(type(follow._run), "log", fail)
        follow(record("train", 2, loss=4.4))
        follow(record("train", 3, loss=4.3))
    assert capsys.readouterr().err.count("the disk is full") == 1


def test_a_run_that_is_interrupted_continues_as_the_same_run(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_API_KEY", "5ec12e7" * 6)
    folder = str(tmp_path / "model")
    with pytest.raises(KeyboardInterrupt):
        with wandb_log.following(CONFIG, folder, {"seed": 1}) as follow:
            follow(record("train", 2, loss=4.5, accuracy=None))
            follow(record("train", 4, loss=3.5))
            follow(record("eval", 4, loss=3.75))
            follow(record("train", 3, loss=9.0))  # after a rollback
            raise KeyboardInterrupt
    with wandb_log.following(CONFIG, folder, {"seed": 1}) as follow:
        follow(record("train", 6, loss=2.5))
    (first, before), (second, after) = wandb_files.read(folder)
    assert first.run_id == second.run_id
    assert first.project == "a-project" and first.display_name == "model"
    assert {
        update.key: json.loads(update.value_json)
        for update in first.config.update
    }["seed"] == 1
    assert before == {
        2: {"train/loss": 4.5, "train/num_examples": 16},
        4: {
            "train/loss": 3.5,
            "train/num_examples": 32,
            "eval/loss": 3.75,
            "eval/num_examples": 32,
        },
    }
    assert after == {6: {"train/loss": 2.5, "train/num_examples": 48}}
    for path in pathlib.Path(folder).rglob("*"):
        assert path.is_dir() or b"5ec12e7" not in path.read_bytes(), path


def test_nothing_is_sent_without_the_option(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = telemetry_config.WandbConfig()
    with wandb_log.following(config, str(tmp_path), {}) as follow:
        follow(record("train", 2))
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(errors.UserError, match=r"pip install .*\[wandb\]"):
        with wandb_log.following(CONFIG, str(tmp_path), {}):
            pass


def test_a_user_without_a_login_is_told_what_to_do(tmp_path, monkeypatch):
    def init(**options):
        raise wandb.errors.AuthenticationError("No API key configured.")

    monkeypatch.setattr(wandb, "init", init)
    with pytest.raises(errors.UserError, match="configured; run wandb login"):
        with wandb_log.following(CONFIG, str(tmp_path), {}):
            pass


def test_a_server_that_does_not_answer_does_not_stop_a_run(
    tmp_path, monkeypatch, capsys
):
    modes = []

    def init(mode=None, **options):
        modes.append(mode)
        if mode is None:
            raise wandb.CommError("connection refused")
        return wandb.sdk.wandb_run.Run

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(
        wandb.sdk.wandb_run.Run, "finish", lambda exit_code=None: None
    )
    with wandb_log.following(CONFIG, str(tmp_path), {}):
        pass
    assert modes == [None, "offline"]
    assert "W&B does not answer (connection refused)" in capsys.readouterr().err
