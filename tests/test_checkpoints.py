"""The model directory: what comes back out of it."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain import (
    checkpoints,
    errors,
    model,
    optimizer,
    records,
    trainer,
)


@pytest.fixture
def make_state(make_set):
    def make(model_dir, pairing="none", **options):
        data_dir = make_set(pairing, pairing=pairing)
        manifest = records.read_manifest(data_dir)
        architecture = model.ModelConfig(model_size="tiny")
        config = checkpoints.CheckpointConfig(
            model_dir=str(model_dir), **options
        )
        checkpoints.prepare(
            config,
            {"seed": 4},
            model.architecture(architecture, manifest),
            data_dir,
        )
        bert = model.build(architecture, manifest, seed=4)
        adam = optimizer.build(
            optimizer.OptimizerConfig(),
            optimizer.ScheduleConfig(total_steps=9),
            bert.trainable_variables,
        )
        return config, trainer.new_state(bert, adam)

    return make


@pytest.mark.parametrize("pairing", ["none", "nsp"])
def test_a_saved_model_comes_back(make_state, tmp_path, pairing):
    config, state = make_state(tmp_path / "model", pairing)
    for i, variable in enumerate(state.bert.weights):
        variable.assign_add(tf.ones_like(variable) * (i + 1))
    state.adam.iterations.assign(7)
    checkpoints.build(config, state).save(checkpoint_number=7)
    restored = checkpoints.restore_model(config.model_dir)
    assert type(restored.bert) is type(state.bert)
    assert restored.step == 7
    assert restored.vocabulary.size == 60
    assert restored.train_config == {"seed": 4}
    for ours, theirs in zip(
        restored.bert.weights, state.bert.weights, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.name)


def test_the_whole_state_comes_back(make_state, tmp_path):
    config, state = make_state(tmp_path / "model")
    variables = [*state.bert.weights, *state.adam.variables, state.num_examples]
    rng = np.random.default_rng(0)
    for variable in variables:
        variable.assign(
            tf.cast(rng.integers(1, 99, variable.shape), variable.dtype)
        )
    expected = [variable.numpy() for variable in variables]
    manager = checkpoints.build(config, state)
    manager.save(checkpoint_number=1)
    for variable in variables:
        variable.assign(tf.zeros_like(variable))
    checkpoints.restore(manager)
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.name)


def test_the_newest_checkpoints_are_kept(make_state, tmp_path):
    config, state = make_state(tmp_path / "model", keep_checkpoints=2)
    manager = checkpoints.build(config, state)
    for step in (1, 2, 3):
        state.adam.iterations.assign(step)
        manager.save(checkpoint_number=step, check_interval=False)
    assert sorted(
        path.name for path in (tmp_path / "model").glob("*.index")
    ) == ["ckpt-2.index", "ckpt-3.index"]


def test_a_directory_in_memory_will_do(make_state):
    config, state = make_state("ram://models/first")
    checkpoints.build(config, state).save(checkpoint_number=0)
    assert checkpoints.restore_model("ram://models/first").step == 0


def test_a_directory_without_checkpoint_is_refused(tmp_path):
    with pytest.raises(errors.UserError, match="holds no checkpoint"):
        checkpoints.restore_model(str(tmp_path))


def test_a_directory_that_cannot_be_made_is_refused(make_state, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.UserError, match="file/model"):
        make_state(tmp_path / "file" / "model")


def test_a_torn_checkpoint_is_named(make_state, tmp_path):
    config, state = make_state(tmp_path / "model")
    manager = checkpoints.build(config, state)
    manager.save(checkpoint_number=5)
    (path,) = (tmp_path / "model").glob("ckpt-5.data*")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(errors.UserError, match="ckpt-5"):
        checkpoints.restore(manager)


def test_the_architecture_is_huggingface_s_config(make_state, tmp_path):
    config, _ = make_state(tmp_path / "model", "nsp")
    values = json.loads(
        (pathlib.Path(config.model_dir) / "config.json").read_text()
    )
    assert values["architectures"] == ["BertForPreTraining"]
    assert values["model_type"] == "bert"
    assert values["vocab_size"] == 60


@pytest.mark.parametrize("name", ["checkpoint_every_steps", "keep_checkpoints"])
def test_options_that_cannot_be_are_refused(name):
    with pytest.raises(errors.UserError, match=f"{name}=0"):
        checkpoints.CheckpointConfig(model_dir="m", **{name: 0})
