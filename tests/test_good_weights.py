"""What counts as good is told from the weights, moments and evaluations."""

import dataclasses
import json
import pathlib
import time

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain import errors, evaluate, export, files, train
from bert_pretrain.checkpoints import checkpoint_files, model_directory
from bert_pretrain.evaluation import evaluation_config
from bert_pretrain.interchange import export_config
from bert_pretrain.training import recovery, trainer, training_config
from helpers import training

# The first update sets the weights to values from which all else overflows.
HUGE = training_config.ScheduleConfig(
    total_steps=8, peak_learning_rate=1e30, warmup_steps=0, schedule="constant"
)


def saving(config, **values):
    return dataclasses.replace(
        config, saving=dataclasses.replace(config.saving, **values)
    )


def huge(make_config, max_bad_steps, **values):
    config = make_config(
        schedule=HUGE,
        steps_per_loop=1,
        failures=training_config.RecoveryConfig(
            max_bad_steps=max_bad_steps, max_rollbacks=1
        ),
        **values,
    )
    return saving(config, checkpoint_every_steps=1)


def steps_in(folder):
    return {facts["step"] for _, facts in checkpoint_files.list_whole(folder)}


@pytest.mark.slow
@pytest.mark.parametrize("eval_every_steps", [1, 4])
def test_a_run_goes_back_behind_weights_whose_evaluation_is_not_finite(
    make_config, eval_every_steps, capsys
):
    config = huge(make_config, 2, eval_every_steps=eval_every_steps)
    assert train.main(config) == recovery.DIVERGED_CODE
    error = capsys.readouterr().err
    assert "back from step 3 to 0" in error
    if eval_every_steps == 4:  # Step 1 was saved without an evaluation.
        assert "held-out loss, weights or moments are not finite" in error

    # The advice of the error: another rate, and the run goes on to its end.
    lower = training.allowing(
        config, schedule=dataclasses.replace(HUGE, peak_learning_rate=1e-3)
    )
    assert train.main(lower) == 0
    assert np.isfinite(training.results_of(lower)["end"]["masked_lm_loss"])


@pytest.mark.slow
def test_a_run_whose_weights_are_of_no_use_says_so_and_is_not_exported(
    make_config, tmp_path, capsys
):
    config = huge(make_config, 100)
    assert train.main(config) == recovery.SPOILT_CODE
    error = capsys.readouterr().err
    assert "the run ended at step 8" in error
    assert "the last 7 updates were left out" in error
    model_dir = config.saving.model_dir
    assert not (
        pathlib.Path(model_dir) / model_directory.TRAIN_RESULTS_NAME
    ).exists()
    # The checkpoint to go back to was not removed.
    assert 0 in steps_in(model_dir)
    # So it stays, however often it is asked.
    assert train.main(config) == recovery.SPOILT_CODE

    with pytest.raises(errors.UserError, match="step 8 is not exported"):
        export.main(
            export_config.ExportConfig(
                model_dir=model_dir, output_dir=str(tmp_path / "export")
            )
        )
    assert not (tmp_path / "export").exists()

    capsys.readouterr()
    evaluate.main(
        evaluation_config.EvaluateConfig(
            data_dir=config.data_dir, model_dir=model_dir, split="validation"
        )
    )
    assert "were not finite" in capsys.readouterr().err
    # JSON has no NaN, and many readers refuse it.
    path = pathlib.Path(model_dir) / model_directory.EVALUATE_RESULTS_NAME
    results = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert results["validation"]["masked_lm_loss"] is None


@pytest.mark.slow
def test_moments_that_are_not_finite_are_not_good(make_config, monkeypatch):
    config = saving(make_config(total_steps=2), checkpoint_every_steps=1)
    real = trainer.Trainer.train

    def train_and_spoil(self, num_steps):
        output = real(self, num_steps)
        moment = next(
            v for v in self.state.optimizer.variables() if v.shape.rank == 2
        )
        moment.assign(tf.fill(moment.shape, float("inf")))
        return output

    monkeypatch.setattr(trainer.Trainer, "train", train_and_spoil)
    assert train.main(config) == recovery.SPOILT_CODE
    found = dict(checkpoint_files.list_whole(config.saving.model_dir))
    is_good = {facts["step"]: facts["is_good"] for facts in found.values()}
    assert is_good == {0: True, 2: False}


@pytest.mark.slow
def test_a_best_checkpoint_that_is_torn_keeps_its_place(
    make_config, monkeypatch, capsys
):
    config = make_config(total_steps=8, eval_every_steps=2)
    with monkeypatch.context() as patch:
        # The thread that writes is still at work when the run fails.
        finish = checkpoint_files.finish
        patch.setattr(
            checkpoint_files,
            "finish",
            lambda *args: time.sleep(1) or finish(*args),
        )
        training.disturb(patch, 6, training.crash)
        with pytest.raises(RuntimeError):
            train.main(config)
    assert 4 in steps_in(config.saving.model_dir)
    best = f"{config.saving.model_dir}/{model_directory.BEST}"
    (step,) = steps_in(best)
    (data,) = pathlib.Path(best).glob(f"ckpt-{step}.data*")
    data.write_bytes(data.read_bytes()[:-1])
    # From here on the held-out loss rises.
    worse = training.allowing(
        config,
        schedule=dataclasses.replace(
            config.schedule, peak_learning_rate=30.0, warmup_steps=0
        ),
    )
    assert train.main(worse) == 0
    losses = training.logged(config, "eval", "masked_lm_loss")
    assert min(losses[6], losses[8]) > losses[step]
    assert f"the best checkpoint (step {step}) is torn" in (
        capsys.readouterr().err
    )
    assert not steps_in(best)


@pytest.mark.slow
def test_a_run_that_begins_badly_reports_it_and_ends_well(make_config, capsys):
    # The loss at step 0 is so large that its perplexity is no float32.
    config = make_config(
        total_steps=2, architecture={"initializer_range": 20.0}
    )
    assert train.main(config) == 0
    assert "(at the start nan)" in capsys.readouterr().out
    results = training.results_of(config)
    assert results["start"]["masked_lm_loss"] > 88
    assert results["start"]["masked_lm_perplexity"] is None


def test_json_has_null_for_a_number_that_is_not_finite(tmp_path):
    path = f"{tmp_path}/results.json"
    values = {"a": [1.5, float("nan")], "b": {"c": float("-inf")}, "d": (2,)}
    files.write_json(path, values)
    assert json.loads(files.read_text(path), parse_constant=pytest.fail) == {
        "a": [1.5, None],
        "b": {"c": None},
        "d": [2],
    }
