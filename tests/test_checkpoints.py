"""Checkpoints: saved, restored, damaged and refused."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain import errors, file_errors, files, options
from bert_pretrain.checkpoints import (
    checkpoint_config,
    checkpoint_files,
    checkpoint_saver,
    model_directory,
    trained_model,
)
from bert_pretrain.data import manifests
from bert_pretrain.model import (
    bert_model,
    config_json,
    model_config,
    objectives,
)
from bert_pretrain.training import (
    optimizer,
    schedule,
    train_state,
    training_config,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The options of a run that these tests need."""

    seed: int = options.option("", 0)
    num_loops: int = options.option("", 0, changes_result=False)
    saving: checkpoint_config.CheckpointConfig


@pytest.fixture
def make_state(make_dataset):
    def make(model_dir, pairing="none", seed=4, num_loops=1, **values):
        data_dir = make_dataset(pairing, pairing=pairing)
        manifest = manifests.read(data_dir)
        architecture = model_config.ModelConfig(model_size="tiny")
        config = checkpoint_config.CheckpointConfig(
            model_dir=str(model_dir), **values
        )
        model_directory.prepare(
            Config,
            options.to_dict(
                Config(seed=seed, num_loops=num_loops, saving=config)
            )
            | {model_directory.DATASET_NAME: "the dataset's"},
            config_json.architecture(architecture, manifest),
            manifests.read_vocabulary(data_dir, manifest),
        )
        bert = bert_model.build(architecture, manifest, seed=4)
        adam = optimizer.build(
            training_config.OptimizerConfig(),
            schedule.Schedule(training_config.ScheduleConfig(total_steps=9)),
            bert.trainable_variables,
        )
        return config, train_state.new_state(objectives.Pretraining(bert), adam)

    return make


def save_steps(saver, state, *steps):
    """Saves at each step; the weights hold the number of the step."""
    for step in steps:
        state.optimizer.iterations.assign(step)
        state.num_examples.assign(10 * step)
        bias = state.bert.mlm.predictions.bias
        bias.assign(tf.fill(bias.shape, float(step)))
        saver.save(True)
    saver.close()


def restored_step(config, state):
    """The step that a new process resumes at; its weights are checked."""
    state.optimizer.iterations.assign(-1)
    if not checkpoint_saver.Saver(config, state).restore():
        return None
    assert state.bert.mlm.predictions.bias.numpy()[0] == state.step
    assert state.num_examples.numpy() == 10 * state.step
    return state.step


@pytest.mark.parametrize("pairing", ["none", "nsp"])
def test_a_saved_model_is_restored(make_state, tmp_path, pairing):
    config, state = make_state(tmp_path / "model", pairing)
    for i, variable in enumerate(state.bert.weights):
        variable.assign_add(tf.ones_like(variable) * (i + 1))
    state.optimizer.iterations.assign(7)
    saver = checkpoint_saver.Saver(config, state)
    saver.save(True)
    saver.close()
    restored = trained_model.restore(config.model_dir)
    assert type(restored.bert) is type(state.bert)
    assert restored.step == 7
    assert restored.vocabulary.size == 60
    assert restored.train_config["seed"] == 4
    for ours, theirs in zip(
        restored.bert.weights, state.bert.weights, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.name)


def test_the_whole_state_is_restored(make_state, tmp_path):
    config, state = make_state(tmp_path / "model")
    variables = [
        *state.bert.weights,
        *state.optimizer.variables,
        state.num_examples,
    ]
    rng = np.random.default_rng(0)
    for variable in variables:
        variable.assign(
            tf.cast(rng.integers(1, 99, variable.shape), variable.dtype)
        )
    expected = [variable.numpy() for variable in variables]
    saver = checkpoint_saver.Saver(config, state)
    saver.save(True)
    # The checkpoint may still be in writing, and must not get these values.
    for variable in variables:
        variable.assign(tf.zeros_like(variable))
    saver.close()
    assert checkpoint_saver.Saver(config, state).restore()
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.name)


def test_the_newest_checkpoints_are_kept_and_so_is_the_best(
    make_state, tmp_path
):
    config, state = make_state(tmp_path / "model", keep_checkpoints=2)
    saver = checkpoint_saver.Saver(config, state)
    for step, loss in (1, 3.0), (2, 1.0), (3, 2.0), (4, 1.0):
        save_steps(saver, state, step)
        saver.save_if_best(loss, ())
    saver.close()
    assert steps_in(tmp_path / "model") == {3, 4}
    assert steps_in(tmp_path / "model" / "best") == {2}
    # A process that resumes knows the best loss.
    saver = checkpoint_saver.Saver(config, state)
    saver.save_if_best(1.5, ())
    saver.save_if_best(float("nan"), ())
    saver.close()
    assert steps_in(tmp_path / "model" / "best") == {2}
    best = trained_model.restore(config.model_dir, model_directory.BEST)
    assert best.step == 2
    assert best.bert.mlm.predictions.bias.numpy()[0] == 2
    assert trained_model.restore(config.model_dir).step == 4
    assert tf.train.latest_checkpoint(config.model_dir).endswith("/ckpt-4")


def test_the_best_is_good_although_an_earlier_state_was_not(
    make_state, tmp_path
):
    config, state = make_state(tmp_path / "model")
    saver = checkpoint_saver.Saver(config, state)
    state.optimizer.iterations.assign(1)
    saver.save(False)
    state.optimizer.iterations.assign(2)
    saver.save_if_best(1.0, [float("inf")])
    saver.close()
    assert not trained_model.restore(config.model_dir).is_good
    best = trained_model.restore(config.model_dir, model_directory.BEST)
    assert (best.step, best.is_good) == (2, True)


def test_after_a_rollback_the_best_may_be_of_an_earlier_step(
    make_state, tmp_path, capsys
):
    config, state = make_state(tmp_path / "model")
    saver = checkpoint_saver.Saver(config, state)
    save_steps(saver, state, 1)
    for step, loss in (4, 2.0), (3, 1.0):
        state.optimizer.iterations.assign(step)
        saver.save_if_best(loss, ())
        saver.go_back(lambda: True)
    saver.close()
    assert steps_in(tmp_path / "model" / "best") == {3}
    assert "warning" not in capsys.readouterr().err


def test_a_checkpoint_is_checked_without_reading_its_values(
    make_state, tmp_path, monkeypatch
):
    config, state = make_state(tmp_path / "model")
    read = []
    real = files.sha256
    monkeypatch.setattr(
        files, "sha256", lambda path: read.append(path) or real(path)
    )
    save_steps(checkpoint_saver.Saver(config, state), state, 1, 2)
    assert restored_step(config, state) == 2
    assert read and all(path.endswith(".index") for path in read)


def steps_in(folder):
    """The steps of the checkpoints in a folder; all must be complete."""
    names = {path.name for path in folder.glob("ckpt-*")}
    steps = {int(name.split(".")[0].split("-")[1]) for name in names}
    assert names == {
        f"ckpt-{step}.{end}"
        for step in steps
        for end in ("json", "index", "data-00000-of-00001")
    }
    return steps


def test_checkpoints_follow_steps_or_minutes_but_not_while_updates_fail(
    make_state, tmp_path, monkeypatch
):
    config, state = make_state(
        tmp_path / "model",
        checkpoint_every_steps=10,
        checkpoint_every_minutes=2,
        keep_checkpoints=9,
    )
    now = 1000.0
    monkeypatch.setattr(checkpoint_saver.time, "monotonic", lambda: now)
    saver = checkpoint_saver.Saver(config, state)

    def reach(step, earlier):
        state.optimizer.iterations.assign(step)
        if saver.is_due(earlier):
            saver.save(True)
        saver.close()
        return steps_in(tmp_path / "model")

    assert reach(9, 6) == set()
    assert reach(12, 9) == {12}  # step 10 is passed
    now += 119
    assert reach(15, 12) == {12}
    now += 1
    state.bad_steps_in_row.assign(1)
    assert reach(18, 15) == {12}
    state.bad_steps_in_row.assign(0)
    assert reach(19, 18) == {12, 19}
    now += 60
    assert reach(20, 19) == {12, 19, 20}
    now += 61
    assert reach(21, 20) == {12, 19, 20}  # a minute after the last


def test_a_directory_may_be_in_memory(make_state):
    config, state = make_state("ram://models/first")
    saver = checkpoint_saver.Saver(config, state)
    save_steps(saver, state, 0, 1)
    assert trained_model.restore("ram://models/first").step == 1
    assert restored_step(config, state) == 1


def test_a_directory_without_checkpoint_is_refused(tmp_path):
    with pytest.raises(errors.UserError, match="holds no checkpoint"):
        trained_model.restore(str(tmp_path))


def test_a_directory_that_cannot_be_made_is_refused(make_state, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.UserError, match="file/model"):
        make_state(tmp_path / "file" / "model")


def truncate(folder):
    (path,) = folder.glob("ckpt-3.data*")
    path.write_bytes(path.read_bytes()[:100])


def lose_data(folder):
    (path,) = folder.glob("ckpt-3.data*")
    path.unlink()


def lose_index(folder):
    (folder / "ckpt-3.index").unlink()


def change_index(folder):
    path = folder / "ckpt-3.index"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def change_values(folder):
    (path,) = folder.glob("ckpt-3.data*")
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 1000):
        content[place] ^= 1
    path.write_bytes(content)


def never_finish(folder):
    (folder / "ckpt-3.json").unlink()


def write_half(folder):
    never_finish(folder)
    lose_index(folder)
    (folder / "ckpt-3_temp").mkdir()


def tear_json(folder):
    path = folder / "ckpt-3.json"
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize(
    "spoil",
    [
        truncate,
        lose_data,
        lose_index,
        change_index,
        change_values,
        never_finish,
        write_half,
        tear_json,
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    make_state, tmp_path, capsys, spoil
):
    folder = tmp_path / "model"
    config, state = make_state(folder)
    save_steps(checkpoint_saver.Saver(config, state), state, 1, 2, 3)
    # Nothing depends on TensorFlow's own file.
    (folder / "checkpoint").write_text("torn")
    spoil(folder)
    capsys.readouterr()
    assert restored_step(config, state) == 2
    warning = capsys.readouterr().err
    assert warning.startswith("warning: ") and "ckpt-3" in warning
    assert trained_model.restore(config.model_dir).step == 2
    # The checkpoint is replaced when the run comes to its step again.
    save_steps(checkpoint_saver.Saver(config, state), state, 3)
    assert steps_in(folder) == {1, 2, 3}
    assert restored_step(config, state) == 3


def test_a_run_starts_over_only_if_no_checkpoint_was_ever_complete(
    make_state, tmp_path, capsys
):
    folder = tmp_path / "model"
    config, state = make_state(folder)
    save_steps(checkpoint_saver.Saver(config, state), state, 3)
    change_values(folder)
    with pytest.raises(errors.UserError, match="ckpt-3.*cannot be read"):
        restored_step(config, state)
    for spoil in (truncate, never_finish):
        spoil(folder)
        with pytest.raises(errors.UserError, match="none of them is whole"):
            restored_step(config, state)
    # A checkpoint of step 0 holds nothing that is worth an error.
    for path in folder.glob("ckpt-3.*"):
        path.rename(folder / path.name.replace("ckpt-3", "ckpt-0"))
    assert restored_step(config, state) is None


def test_a_checkpoint_that_cannot_be_read_now_is_not_called_damaged(
    make_state, tmp_path, monkeypatch
):
    config, state = make_state(tmp_path / "model")
    save_steps(checkpoint_saver.Saver(config, state), state, 1, 2)

    def fail(path):
        with file_errors.naming(path):
            raise tf.errors.UnavailableError(None, None, "try again")

    monkeypatch.setattr(files, "size", fail)
    with pytest.raises(errors.UserError, match="ckpt-2.*try again"):
        restored_step(config, state)


def test_a_failed_write_is_a_warning_if_the_next_works_and_else_an_error(
    make_state, tmp_path, capsys, monkeypatch
):
    folder = tmp_path / "model"
    config, state = make_state(folder)
    saver = checkpoint_saver.Saver(config, state)
    save_steps(saver, state, 1)
    finish = checkpoint_files.finish

    def fail_at(*steps):
        def fail(path, facts, keep):
            if facts["step"] in steps:
                raise errors.UserError("the disk is full")
            finish(path, facts, keep)

        monkeypatch.setattr(checkpoint_files, "finish", fail)

    fail_at(2)
    save_steps(saver, state, 2, 3)
    assert "ckpt-2 could not be written (the disk is full)" in (
        capsys.readouterr().err
    )
    assert steps_in(folder) == {1, 3}
    fail_at(4)
    with pytest.raises(errors.UserError, match="the disk is full"):
        save_steps(saver, state, 4)
    assert restored_step(config, state) == 3


def test_a_run_that_ends_by_an_error_leaves_no_error_of_its_thread(
    make_state, tmp_path, monkeypatch, capsys
):
    """TensorFlow would raise it when Python ends, with a traceback."""
    config, state = make_state(tmp_path / "model")
    saver = checkpoint_saver.Saver(config, state)

    def fail(*_):
        raise errors.UserError("the disk is full.")

    monkeypatch.setattr(checkpoint_files, "finish", fail)
    saver.save(True)
    saver.abandon()
    assert "could not be written (the disk is full.)" in capsys.readouterr().err
    saver._checkpoint.sync()  # It raises what is left.
    assert not list((tmp_path / "model").glob("ckpt-*"))
    # The second one is written at once, and leaves no files either.
    state.optimizer.iterations.assign(1)
    saver.save(True)
    saver.abandon()
    state.optimizer.iterations.assign(2)
    with pytest.raises(errors.UserError, match="the disk is full"):
        saver._write(config.model_dir, 1, True, at_once=True)
    assert not list((tmp_path / "model").glob("ckpt-*"))


def test_a_rollback_goes_behind_steps_whose_updates_failed(
    make_state, tmp_path
):
    config, state = make_state(tmp_path / "model")
    saver = checkpoint_saver.Saver(config, state)
    save_steps(saver, state, 1, 2)
    state.bad_steps_in_row.assign(4)
    save_steps(saver, state, 3)
    saver.go_back(lambda: True)
    assert state.step == 2
    assert state.bad_steps_in_row.numpy() == 0
    # The next process does not find step 3 either.
    assert steps_in(tmp_path / "model") == {1, 2}


def test_a_checkpoint_to_go_back_to_is_kept_while_updates_fail(
    make_state, tmp_path
):
    config, state = make_state(tmp_path / "model", keep_checkpoints=1)
    saver = checkpoint_saver.Saver(config, state)
    save_steps(saver, state, 1, 2)
    for num_bad, step in enumerate((3, 4), start=1):
        state.bad_steps_in_row.assign(num_bad)
        save_steps(saver, state, step)  # an interruption saves too
        assert steps_in(tmp_path / "model") == {2, step}
        saver.save_if_best(1.0, ())
    assert not (tmp_path / "model" / "best").exists()
    saver.go_back(lambda: True)
    assert state.step == 2
    save_steps(saver, state, 5)
    assert steps_in(tmp_path / "model") == {5}


def test_a_checkpoint_is_not_written_again_after_a_rollback_to_it(
    make_state, tmp_path, monkeypatch
):
    config, state = make_state(tmp_path / "model", keep_checkpoints=1)
    saver = checkpoint_saver.Saver(config, state)
    save_steps(saver, state, 1)
    saver.go_back(lambda: True)
    state.num_examples.assign(50)
    # Else a kill during this write would leave no checkpoint.
    monkeypatch.setattr(checkpoint_files, "finish", None)
    saver.save(True)
    saver.close()
    assert restored_step(config, state) == 1


def test_changed_options_are_refused_by_name_unless_allowed(
    make_state, tmp_path, capsys
):
    folder = tmp_path / "model"
    config, state = make_state(folder)
    make_state(folder, seed=5)  # Nothing is saved yet.
    make_state(folder)
    save_steps(checkpoint_saver.Saver(config, state), state, 1)
    make_state(folder, num_loops=2, keep_checkpoints=7)
    with pytest.raises(
        errors.UserError, match="seed=4, this run asks for 5.*--allow_changed"
    ):
        make_state(folder, seed=5)
    make_state(folder, seed=5, allow_changed_options=True)
    assert "seed=4, this run asks for 5" in capsys.readouterr().err
    # From now on the directory has the new options.
    make_state(folder, seed=5)


def test_the_architecture_is_saved_as_huggingface_s_config(
    make_state, tmp_path
):
    config, _ = make_state(tmp_path / "model", "nsp")
    values = json.loads(
        (pathlib.Path(config.model_dir) / "config.json").read_text()
    )
    assert values["architectures"] == ["BertForPreTraining"]
    assert values["model_type"] == "bert"
    assert values["vocab_size"] == 60


@pytest.mark.parametrize("name", ["checkpoint_every_steps", "keep_checkpoints"])
def test_impossible_options_are_refused(name):
    with pytest.raises(errors.UserError, match=f"{name}=0"):
        checkpoint_config.CheckpointConfig(model_dir="m", **{name: 0})
