"""The training program with what a user may ask of a run beside its length."""

import json
import os
import pathlib
import signal

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain import (
    checkpoints,
    errors,
    model,
    optimizer,
    records,
    run,
    schedule,
    telemetry,
    train,
)


@pytest.fixture
def make_config(make_set, tmp_path):
    """A run of one small layer: `make_config("name", total_steps=9)`."""
    path = tmp_path / "bert.json"
    path.write_text(
        json.dumps(
            {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 32,
                "max_position_embeddings": 24,
            }
        )
    )
    data_dir = make_set(train=(13, 7, 9))

    def make(name="model", total_steps=9, architecture=None, **values):
        return train.Config(
            **{
                "data_dir": data_dir,
                "global_batch_size": 8,
                "steps_per_loop": 2,
                "architecture": model.ModelConfig(
                    bert_config=str(path), **(architecture or {})
                ),
                "schedule": schedule.ScheduleConfig(
                    total_steps=total_steps, peak_learning_rate=3e-3
                ),
                "saving": checkpoints.CheckpointConfig(
                    model_dir=str(tmp_path / name), checkpoint_every_steps=4
                ),
                **values,
            }
        )

    return make


def saved_values(config):
    """Every variable of the newest checkpoint."""
    path = tf.train.latest_checkpoint(config.saving.model_dir)
    reader = tf.train.load_checkpoint(path)
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if not name.startswith(("save_counter", "_CHECKPOINTABLE"))
    }


def results_of(config):
    path = pathlib.Path(config.saving.model_dir) / telemetry.TRAIN_RESULTS_NAME
    return json.loads(path.read_text())


def logged(config, kind, name):
    path = pathlib.Path(config.saving.model_dir) / telemetry.LOG_NAME
    lines = map(json.loads, path.read_text().splitlines())
    return {line["step"]: line[name] for line in lines if line["kind"] == kind}


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


@pytest.fixture
def phases_file(make_set, tmp_path):
    """Longer rows, masked anew; then another batch, rate and masking rate."""
    longer = make_set("longer", seq_length=24, masking="none", train=(9, 8))
    path = tmp_path / "phases.yaml"
    path.write_text(
        f"""
        - from_step: 4
          data_dir: {longer}
          global_batch_size: 4
          warmup_steps: 2
          reset_optimizer: true
        - from_step: 8
          global_batch_size: 6
          accumulation_steps: 3
          peak_learning_rate: 1e-3
          masked_fraction: 0.3
        """
    )
    return str(path)


@pytest.mark.parametrize("kind", ["adamw", "lamb"])
def test_a_run_resumes_exactly_in_any_of_its_phases(
    make_config, phases_file, monkeypatch, kind
):
    options = {
        "total_steps": 12,
        "phases": phases_file,
        "recompute": kind == "adamw",
        "optimization": optimizer.OptimizerConfig(optimizer=kind),
    }
    whole = make_config("whole", **options)
    assert train.train(whole) == 0
    expected = saved_values(whole)
    assert results_of(whole)["num_examples"] == 4 * 8 + 4 * 4 + 4 * 6
    rates = logged(whole, "train", "learning_rate")
    # Of the last step in each loop, 12 steps with one of warmup in all.
    np.testing.assert_allclose(
        [rates[step] for step in (2, 4, 6, 8, 10, 12)],
        [3e-3 * k / 11 for k in (11, 9, 7 / 2, 5)]
        + [1e-3 * k / 11 for k in (3, 1)],
        rtol=1e-5,
    )

    config = make_config("disturbed", **options)
    for step, act in (
        (4, lambda: os.kill(os.getpid(), signal.SIGINT)),
        (6, lambda: os.kill(os.getpid(), signal.SIGINT)),
        (10, crash),
    ):
        with monkeypatch.context() as patch:
            disturb(patch, step, act)
            try:
                assert train.train(config) != 0
            except RuntimeError as error:
                assert act is crash, error
    assert train.train(config) == 0
    actual = saved_values(config)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)
    assert results_of(config)["end"] == results_of(whole)["end"]


def test_a_changed_file_of_phases_is_refused(make_config, phases_file):
    config = make_config(total_steps=10, phases=phases_file)
    train.train(make_config(total_steps=10, phases=phases_file))
    path = pathlib.Path(phases_file)
    path.write_text(path.read_text().replace("from_step: 8", "from_step: 9"))
    with pytest.raises(errors.UserError, match="holds a run with phases="):
        train.train(config)


def test_the_clock_ends_a_run_and_its_schedule(make_config, capsys):
    config = make_config(
        schedule=schedule.ScheduleConfig(
            total_steps=10_000,
            warmup_steps=0,
            max_minutes=0.05,
            peak_learning_rate=1.0,
        ),
    )
    assert train.train(config) == 0
    results = results_of(config)
    assert 2 <= results["step"] < 10_000
    assert results["step"] % 2 == 0
    assert saved_values(config)["seconds/.ATTRIBUTES/VARIABLE_VALUE"] >= 3
    rates = list(logged(config, "train", "learning_rate").values())
    assert rates == sorted(rates, reverse=True)
    # By steps alone it would hardly have fallen.
    assert rates[-1] < 0.9 or len(rates) == 1
    # What has ended stays so.
    assert train.train(config) == 0
    assert results_of(config)["step"] == results["step"]


def test_a_run_whose_held_out_loss_stands_still_is_ended(
    make_config, monkeypatch
):
    monkeypatch.setattr(run, "held_out_loss", lambda output: 1.0)
    config = make_config(
        total_steps=40, eval_every_steps=2, early_stopping_patience=3
    )
    assert train.train(config) == 0
    # The first evaluation, and three that are no better.
    assert list(logged(config, "eval", "masked_lm_loss")) == [0, 2, 4, 6]
    assert results_of(config)["step"] == 6
    assert train.train(config) == 0
    assert results_of(config)["step"] == 6


def test_what_is_frozen_stays_as_it_was(make_config):
    config = make_config(
        total_steps=3,
        architecture={
            "positions": "sinusoidal",
            "freeze": r"attention\.self|embeddings\.LayerNorm",
        },
    )
    assert train.train(config) == 0
    manifest = records.read_manifest(config.data_dir)
    fresh = model.build(config.architecture, manifest, config.seed)
    trained = checkpoints.restore_model(config.saving.model_dir).bert
    changed = {
        before.ref()
        for before, after in zip(
            fresh.trainable_variables, trained.trainable_variables, strict=True
        )
        if not np.array_equal(before, after)
    }
    expected = model.trained_variables(fresh, config.architecture)
    assert changed == {variable.ref() for variable in expected}
    assert len(fresh.trainable_variables) - len(expected) == 6 + 2 + 1
    moments = [n for n in saved_values(config) if n.startswith("optimizer/_v")]
    assert len(moments) >= 2 * len(expected)
    assert len(moments) < 2 * len(expected) + 4


def test_labels_are_counted(make_config):
    config = make_config(total_steps=6)
    train.train(config)
    counts = logged(config, "train", "num_predictions")
    assert results_of(config)["num_predictions"] == counts[6]
    assert 0 < counts[2] < counts[4] < counts[6]
    # 48 of 29 rows: each once, and some again.
    manifest = records.read_manifest(config.data_dir)
    total = manifest.splits[records.TRAIN].num_predictions
    assert total < counts[6] < 2 * total


@pytest.mark.parametrize(
    "values", [{"early_stopping_patience": 2}, {"early_stopping_patience": -1}]
)
def test_patience_without_evaluations_is_refused(make_config, values):
    with pytest.raises(errors.UserError, match="early_stopping_patience="):
        make_config(**values)
