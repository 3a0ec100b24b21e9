"""Runs of the training program: their options, disturbances and results."""

import dataclasses
import json
import pathlib
import zlib

import numpy as np
import tensorflow as tf

from bert_pretrain.checkpoints import checkpoint_config, model_directory
from bert_pretrain.model import model_config
from bert_pretrain.pretraining import pretraining_config
from bert_pretrain.telemetry import train_progress
from bert_pretrain.training import training_config


def config(folder, data_dir, model_dir, total_steps=9, **values):
    """A run of one small layer.

    Args:
      bert, architecture: what config.json and the options say of it.
      values: those of `pretraining_config.TrainingConfig`.
    """
    bert = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 24,
        **values.pop("bert", {}),
    }
    text = json.dumps(bert)
    path = folder / f"bert-{zlib.crc32(text.encode())}.json"
    path.write_text(text)
    return pretraining_config.TrainingConfig(
        **{
            "data_dir": data_dir,
            "global_batch_size": 8,
            "steps_per_loop": 2,
            "architecture": model_config.ModelConfig(
                bert_config=str(path), **values.pop("architecture", {})
            ),
            "schedule": training_config.ScheduleConfig(
                total_steps=total_steps, peak_learning_rate=3e-3
            ),
            "saving": checkpoint_config.CheckpointConfig(
                model_dir=str(folder / model_dir), checkpoint_every_steps=4
            ),
            **values,
        }
    )


def allowing(config, **values):
    """The same run with other options, which it is allowed to change."""
    return dataclasses.replace(
        config,
        saving=dataclasses.replace(config.saving, allow_changed_options=True),
        **values,
    )


def disturb(monkeypatch, at_step, act):
    """Calls `act` after the loop that ends at `at_step`."""
    real = train_progress.TrainProgress.report

    def report(self, loop, step, *rest):
        real(self, loop, step, *rest)
        if step == at_step:
            act()

    monkeypatch.setattr(train_progress.TrainProgress, "report", report)


def crash():
    raise RuntimeError("power cut")


def write_small_bert(path, **fields):
    """Writes the config.json of one small layer for rows of 16 tokens."""
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 16,
    }
    path.write_text(json.dumps({**small, **fields}))


def saved_values(config):
    """Every variable of the newest checkpoint."""
    return values_of(tf.train.latest_checkpoint(config.saving.model_dir))


def values_of(checkpoint):
    """Every variable of a checkpoint."""
    reader = tf.train.load_checkpoint(str(checkpoint))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if not name.startswith(("save_counter", "_CHECKPOINTABLE"))
    }


def assert_same(actual, expected, but=()):
    """Compares `saved_values` to the bit, except names that start so."""
    assert len(expected) > 50
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if not name.startswith(but):
            np.testing.assert_array_equal(actual[name], value, err_msg=name)


def results_of(config):
    path = (
        pathlib.Path(config.saving.model_dir)
        / model_directory.TRAIN_RESULTS_NAME
    )
    return json.loads(path.read_text())


def evaluated(config):
    """The results of bert_pretrain.evaluate, by split."""
    name = model_directory.EVALUATE_RESULTS_NAME
    path = pathlib.Path(config.saving.model_dir) / name
    return json.loads(path.read_text())


def log_of(config):
    """The records of metrics.jsonl."""
    path = pathlib.Path(config.saving.model_dir) / model_directory.LOG_NAME
    return [json.loads(line) for line in path.read_text().splitlines()]


def logged(config, kind, name):
    """Maps a step to a value, in the records of a kind."""
    return {r["step"]: r[name] for r in log_of(config) if r["kind"] == kind}
