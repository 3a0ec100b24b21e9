"""The training program with options for phases, time, freezing and more."""

import itertools
import os
import pathlib
import signal
import types

import numpy as np
import pytest
import transformers

from bert_pretrain import errors, train
from bert_pretrain.checkpoints import trained_model
from bert_pretrain.data import manifests, records
from bert_pretrain.model import bert_model, objectives
from bert_pretrain.telemetry import accelerators
from bert_pretrain.training import schedule, training_config
from helpers import training

pytestmark = pytest.mark.slow


@pytest.fixture
def phases_file(make_dataset, tmp_path):
    """Longer rows with dynamic masks; then other batches and rates."""
    longer = make_dataset(
        "longer",
        seq_length=24,
        masking="none",
        train=(9, 8),
        pairing="nsp",
    )
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
        "optimization": training_config.OptimizerConfig(optimizer=kind),
    }
    whole = make_config(model_dir="whole", **options)
    assert train.main(whole) == 0
    expected = training.saved_values(whole)
    assert training.results_of(whole)["num_examples"] == 4 * 8 + 4 * 4 + 4 * 6
    rates = training.logged(whole, "train", "learning_rate")
    # The rates of the last step in each loop of 12 steps, one of which is
    # warmup.
    np.testing.assert_allclose(
        [rates[step] for step in (2, 4, 6, 8, 10, 12)],
        [3e-3 * k / 11 for k in (11, 9, 7 / 2, 5)]
        + [1e-3 * k / 11 for k in (3, 1)],
        rtol=1e-5,
    )

    config = make_config(**options)
    for step, act in (
        (4, lambda: os.kill(os.getpid(), signal.SIGINT)),
        (6, lambda: os.kill(os.getpid(), signal.SIGINT)),
        (10, training.crash),
    ):
        with monkeypatch.context() as patch:
            training.disturb(patch, step, act)
            try:
                assert train.main(config) != 0
            except RuntimeError as error:
                assert act is training.crash, error
    assert train.main(config) == 0
    training.assert_same(training.saved_values(config), expected)
    assert (
        training.results_of(config)["end"] == training.results_of(whole)["end"]
    )


def test_the_use_of_the_accelerators_is_computed_for_the_phase(
    make_config, phases_file, monkeypatch
):
    peak = 1e12
    monkeypatch.setattr(
        accelerators, "peak_flops", lambda strategy, dtype: peak
    )
    config = make_config(total_steps=10, phases=phases_file)
    assert train.main(config) == 0
    used = training.logged(config, "train", "mfu")
    rates = training.logged(config, "train", "examples_per_second")
    bert_config = transformers.BertConfig.from_pretrained(
        config.saving.model_dir
    )
    for step, seq_length, num_predictions in (
        (4, 16, 4),
        (8, 24, 4),
        (10, 24, 8),  # 0.3 of 24 tokens, and one to spare
    ):
        assert used[step] * peak / rates[step] == pytest.approx(
            accelerators.flops_per_example(
                bert_config, seq_length, num_predictions, True
            )
        )


def test_a_changed_file_of_phases_is_refused(
    make_config, phases_file, monkeypatch
):
    config = make_config(total_steps=10, phases=phases_file)
    with monkeypatch.context() as patch:
        training.disturb(patch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert train.main(config) == 75
    path = pathlib.Path(phases_file)
    path.write_text(path.read_text().replace("from_step: 8", "from_step: 9"))
    with pytest.raises(errors.UserError, match="holds a run with phases="):
        train.main(config)


@pytest.mark.parametrize(
    "name, values",
    [
        ("freeze", {"architecture": {"freeze": "embeddings"}}),
        ("positions", {"architecture": {"positions": "sinusoidal"}}),
        (
            "optimizer",
            {"optimization": training_config.OptimizerConfig(optimizer="lamb")},
        ),
    ],
)
def test_options_that_decide_what_the_saved_moments_are_cannot_change(
    make_config, name, values
):
    train.main(make_config(total_steps=1))
    config = training.allowing(make_config(total_steps=1, **values))
    with pytest.raises(errors.UserError, match=f"with {name}=.*a new run"):
        train.main(config)


def test_the_clock_ends_a_run_and_its_schedule(make_config, monkeypatch):
    # Half a second passes in each loop, and half a second between two loops.
    readings = itertools.count()
    clock = types.SimpleNamespace(monotonic=lambda: 0.5 * next(readings))
    monkeypatch.setattr(schedule, "time", clock)
    config = make_config(
        schedule=training_config.ScheduleConfig(
            total_steps=10_000,
            warmup_steps=0,
            max_minutes=0.05,
            peak_learning_rate=1.0,
        ),
    )
    assert train.main(config) == 0
    results = training.results_of(config)
    assert results["step"] == 4 * 2
    values = training.saved_values(config)
    assert values["seconds/.ATTRIBUTES/VARIABLE_VALUE"] == 3.5
    rates = training.logged(config, "train", "learning_rate")
    # The steps alone would hardly have lowered the rate.
    assert rates == pytest.approx(
        {2: 1.0, 4: 2 / 3, 6: 1 / 3, 8: 0.0}, abs=1e-3
    )
    # The run stays finished, unless it may continue without the clock.
    assert train.main(config) == 0
    assert training.results_of(config)["step"] == results["step"]
    longer = training_config.ScheduleConfig(total_steps=results["step"] + 2)
    assert train.main(training.allowing(config, schedule=longer)) == 0
    assert training.results_of(config)["step"] == results["step"] + 2


def test_a_run_ends_if_its_held_out_loss_stands_still(make_config, monkeypatch):
    monkeypatch.setattr(
        objectives.Pretraining, "cost", lambda self, evaluation: 1.0
    )
    config = make_config(
        total_steps=40, eval_every_steps=2, early_stopping_patience=3
    )
    assert train.main(config) == 0
    # The first evaluation, and three without improvement.
    assert list(training.logged(config, "eval", "masked_lm_loss")) == [
        0,
        2,
        4,
        6,
    ]
    assert training.results_of(config)["step"] == 6
    assert train.main(config) == 0
    assert training.results_of(config)["step"] == 6


def test_frozen_weights_keep_their_values(make_config):
    config = make_config(
        total_steps=3,
        architecture={
            "positions": "sinusoidal",
            "freeze": r"attention\.self|embeddings\.LayerNorm",
        },
    )
    assert train.main(config) == 0
    manifest = manifests.read(config.data_dir)
    fresh = bert_model.build(config.architecture, manifest, config.seed)
    trained = trained_model.restore(config.saving.model_dir).bert
    changed = {
        before.ref()
        for before, after in zip(
            fresh.trainable_variables, trained.trainable_variables, strict=True
        )
        if not np.array_equal(before, after)
    }
    expected = bert_model.trained_variables(fresh, config.architecture)
    assert changed == {variable.ref() for variable in expected}
    assert len(fresh.trainable_variables) - len(expected) == 6 + 2 + 1
    moments = [
        n for n in training.saved_values(config) if n.startswith("optimizer/_v")
    ]
    assert len(moments) >= 2 * len(expected)
    assert len(moments) < 2 * len(expected) + 4


@pytest.mark.slow
def test_a_table_of_embeddings_may_be_larger_than_the_vocabulary(make_config):
    config = make_config(total_steps=4, bert={"vocab_size": 64})
    assert train.main(config) == 0
    values = training.saved_values(config)
    (table,) = (
        value
        for name, value in values.items()
        if value.shape == (64, 16) and "optimizer" not in name
    )
    (bias,) = (
        value
        for name, value in values.items()
        if value.shape == (64,) and name.startswith("model/")
    )
    # The rows that no token has were not trained, and are never predicted.
    assert (table[60:] == 0).all() and (table[:60] != 0).any(axis=1).all()
    assert (bias[60:] == -200).all() and (abs(bias[:60]) < 1).all()
    assert np.isfinite(training.results_of(config)["end"]["masked_lm_loss"])


def test_labels_are_counted(make_config):
    config = make_config(total_steps=6)
    train.main(config)
    counts = training.logged(config, "train", "num_predictions")
    assert training.results_of(config)["num_predictions"] == counts[6]
    assert 0 < counts[2] < counts[4] < counts[6]
    # 48 examples from 29 rows: each row once, and some twice.
    manifest = manifests.read(config.data_dir)
    total = manifest.splits[records.TRAIN].num_predictions
    assert total < counts[6] < 2 * total


@pytest.mark.parametrize(
    "values", [{"early_stopping_patience": 2}, {"early_stopping_patience": -1}]
)
def test_patience_without_evaluations_is_refused(make_config, values):
    with pytest.raises(errors.UserError, match="early_stopping_patience="):
        make_config(**values)
