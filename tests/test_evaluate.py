"""The evaluation program, on a model from the training program."""

import dataclasses
import json
import pathlib

import pytest

from bert_pretrain import errors, evaluate, train
from bert_pretrain.checkpoints import checkpoint_config, model_directory
from bert_pretrain.data import manifests
from bert_pretrain.evaluation import evaluation, evaluation_config
from bert_pretrain.model import model_config
from bert_pretrain.pretraining import pretraining_config
from bert_pretrain.training import training_config
from helpers import datasets


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The options of a finished run."""
    folder = tmp_path_factory.mktemp("trained")
    data_dir = datasets.maker(folder)(pairing="nsp", held_out=7)
    config = pretraining_config.TrainingConfig(
        data_dir=data_dir,
        global_batch_size=4,
        architecture=model_config.ModelConfig(model_size="tiny"),
        schedule=training_config.ScheduleConfig(total_steps=2),
        saving=checkpoint_config.CheckpointConfig(
            model_dir=str(folder / "model")
        ),
    )
    train.main(config)
    return config


def results_of(model_dir):
    return json.loads(
        (
            pathlib.Path(model_dir) / model_directory.EVALUATE_RESULTS_NAME
        ).read_text()
    )


def test_it_repeats_the_numbers_at_the_end_of_training(trained, capsys):
    model_dir = trained.saving.model_dir
    # The last step is the best, because it is the only one that is evaluated.
    config = evaluation_config.EvaluateConfig(
        data_dir=trained.data_dir, model_dir=model_dir, checkpoint="best"
    )
    capsys.readouterr()
    returned = evaluation.evaluate(config)
    assert capsys.readouterr().out == ""
    evaluate.main(
        dataclasses.replace(config, split="test", checkpoint="newest")
    )
    results = results_of(model_dir)
    assert set(results) == {"validation", "test"}
    assert results["validation"] == returned.to_dict()
    at_end = json.loads(
        (
            pathlib.Path(model_dir) / model_directory.TRAIN_RESULTS_NAME
        ).read_text()
    )
    for name, value in at_end["end"].items():
        assert results["validation"][name] == pytest.approx(value, rel=1e-5)
        assert results["test"][name] != results["validation"][name] or (
            "accuracy" in name
        )
    counts = manifests.read(trained.data_dir).splits["test"]
    assert results["test"]["num_examples"] == 7
    assert results["test"]["num_predictions"] == counts.num_predictions
    assert results["test"]["step"] == 2
    assert results["validation"]["unigram_entropy"] == at_end["unigram_entropy"]
    assert "step 2, on test" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options_of_set, message",
    [
        ({"held_out": 0, "pairing": "nsp"}, "test split holds no example"),
        ({"vocab_size": 61, "pairing": "nsp"}, "records with the model's"),
        ({"pairing": "none"}, "pairing 'none'"),
        ({"seq_length": 513, "pairing": "nsp"}, "seq_length 513 exceeds"),
    ],
)
def test_records_that_do_not_fit_are_refused(
    trained, make_dataset, options_of_set, message
):
    with pytest.raises(errors.UserError, match=message):
        evaluation.evaluate(
            evaluation_config.EvaluateConfig(
                data_dir=make_dataset("other", **options_of_set),
                split="test",
                model_dir=trained.saving.model_dir,
            )
        )
