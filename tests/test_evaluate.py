"""The evaluation program, on a model that the training program made."""

import json
import pathlib

import pytest

from bert_pretrain import (
    checkpoints,
    errors,
    evaluate,
    model,
    recipe,
    records,
    schedule,
    telemetry,
    train,
)


@pytest.fixture
def trained(make_set, tmp_path):
    data_dir = make_set(pairing="nsp", held_out=7)
    config = recipe.Config(
        data_dir=data_dir,
        global_batch_size=4,
        architecture=model.ModelConfig(model_size="tiny"),
        schedule=schedule.ScheduleConfig(total_steps=2),
        saving=checkpoints.CheckpointConfig(model_dir=str(tmp_path / "model")),
    )
    train.train(config)
    return config


def results_of(model_dir):
    return json.loads(
        (pathlib.Path(model_dir) / telemetry.EVALUATE_RESULTS_NAME).read_text()
    )


def test_it_repeats_what_training_ended_with(trained, capsys):
    model_dir = trained.saving.model_dir
    # The last step is the best, if only because it is evaluated alone.
    for split, checkpoint in ("validation", "best"), ("test", "newest"):
        evaluate.evaluate(
            evaluate.Config(
                data_dir=trained.data_dir,
                model_dir=model_dir,
                split=split,
                checkpoint=checkpoint,
            )
        )
    results = results_of(model_dir)
    assert set(results) == {"validation", "test"}
    at_end = json.loads(
        (pathlib.Path(model_dir) / telemetry.TRAIN_RESULTS_NAME).read_text()
    )
    for name, value in at_end["end"].items():
        assert results["validation"][name] == pytest.approx(value, rel=1e-5)
        assert results["test"][name] != results["validation"][name] or (
            "accuracy" in name
        )
    counts = records.read_manifest(trained.data_dir).splits["test"]
    assert results["test"]["num_examples"] == 7
    assert results["test"]["num_predictions"] == counts.num_predictions
    assert results["test"]["step"] == 2
    assert results["validation"]["unigram_entropy"] == at_end["unigram_entropy"]
    assert "step 2, on test" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options_of_set, message",
    [
        ({"held_out": 0, "pairing": "nsp"}, "test split holds no example"),
        ({"vocab_size": 61, "pairing": "nsp"}, "made with the vocabulary"),
        ({"pairing": "none"}, "pairing 'none'"),
        ({"seq_length": 513, "pairing": "nsp"}, "seq_length 513 exceeds"),
    ],
)
def test_records_that_do_not_fit_are_refused(
    trained, make_set, options_of_set, message
):
    with pytest.raises(errors.UserError, match=message):
        evaluate.evaluate(
            evaluate.Config(
                data_dir=make_set("other", **options_of_set),
                split="test",
                model_dir=trained.saving.model_dir,
            )
        )
