"""An encoder goes under a new head, wherever it was pretrained."""

import json
import os

import numpy as np
import pytest
import safetensors.numpy
import transformers

from bert_pretrain import errors
from bert_pretrain.checkpoints import pretrained, trained_model
from bert_pretrain.interchange import exporting
from bert_pretrain.model import bert_model, weights
from helpers import fine_tuned

TASK = fine_tuned.TASKS["classification"]


def pretrained_bert(name="BertForMaskedLM"):
    bert = bert_model.from_config(
        fine_tuned.architecture(architectures=[name], num_labels=2)
    )
    fine_tuned.spread(bert.weights)
    return bert


@pytest.fixture
def exported(tmp_path):
    """A pretrained model, and the folder that it was exported to."""
    bert = pretrained_bert()
    model = trained_model.TrainedModel(
        bert=bert,
        vocabulary=fine_tuned.VOCAB,
        step=7,
        is_good=True,
        train_config={},
    )
    exporting.write(model, str(tmp_path), card="")
    return bert, tmp_path


def classifier_on(folder, seed=1, **options):
    body = pretrained.read(str(folder), **options)
    return pretrained.with_head(body, TASK.with_head(body.config), seed)


def values_of(part):
    """The values of the variables, by PyTorch's names."""
    return weights.arrays_of(part.weights)


def same(first, second):
    """How many of the weights that both have are equal, and how many not."""
    pairs = [(first[name], second[name]) for name in first.keys() & second]
    num_equal = sum(np.array_equal(*pair) for pair in pairs)
    return num_equal, len(pairs) - num_equal


def test_the_encoder_is_the_export_s_and_the_head_follows_the_seed(
    exported, capsys
):
    bert, folder = exported
    first, again, other = (classifier_on(folder, seed) for seed in (1, 1, 2))
    assert isinstance(first, transformers.TFBertForSequenceClassification)
    # Embeddings and a layer.
    assert same(values_of(bert.bert), values_of(first)) == (21, 0)
    assert same(values_of(first), values_of(again)) == (25, 0)
    # The kernels of the pooler and the classifier; their biases are 0.
    assert same(values_of(first), values_of(other)) == (23, 2)
    assert capsys.readouterr().err == ""


def test_from_scratch_only_the_architecture_is_the_same(exported):
    bert, folder = exported
    os.remove(folder / weights.FILE_NAME)
    os.remove(folder / "tf_model.h5")
    random = classifier_on(folder, with_weights=False)
    assert random.config.max_position_embeddings == 40
    num_equal, num_other = same(values_of(bert.bert), values_of(random))
    assert num_equal == 0 and num_other == 21


def test_the_head_of_another_task_is_not_taken_over(tmp_path):
    bert = pretrained_bert("BertForSequenceClassification")
    bert.config.save_pretrained(tmp_path)
    weights.save(bert, f"{tmp_path}/{weights.FILE_NAME}")
    fine_tuned.VOCAB.write(f"{tmp_path}/vocab.txt")
    # Two classes before, three now.
    model = classifier_on(tmp_path)
    assert model.classifier.kernel.shape == (32, 3)
    assert same(values_of(bert.bert), values_of(model)) == (23, 0)


def test_weights_of_tensorflow_s_format_are_read(exported):
    bert, folder = exported
    os.remove(folder / weights.FILE_NAME)  # tf_model.h5 remains.
    model = classifier_on(folder)
    assert same(values_of(bert.bert), values_of(model)) == (21, 0)


def test_the_tokenizer_says_how_many_positions_were_trained(exported):
    _, folder = exported
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text())
    for length, expected in ((16, 16), (10**30, 40), (None, 40)):
        path.write_text(json.dumps(values | {"model_max_length": length}))
        body = pretrained.read(str(folder))
        assert body.num_trained_positions == expected


def test_an_encoder_with_fewer_layers_is_named(exported, capsys):
    _, folder = exported
    path = f"{folder}/{weights.FILE_NAME}"
    arrays = safetensors.numpy.load_file(path)
    name = "bert.encoder.layer.0.output.dense.bias"
    del arrays[name]
    safetensors.numpy.save_file(arrays, path, metadata={"format": "pt"})
    classifier_on(folder)
    assert f"does not hold {name}; these" in capsys.readouterr().err


@pytest.mark.parametrize(
    "values, message",
    [
        ({"model_type": "distilbert"}, "model_type 'distilbert', expected"),
        ({"model_type": "roberta"}, "config.json: model_type 'roberta'"),
        ({"vocab_size": 13}, "vocab.txt has 14 tokens, .* vocab_size=13"),
        ({"hidden_size": 64}, "has the shape .* config.json requires"),
        ({"is_decoder": True}, "is_decoder=True is not supported"),
    ],
)
def test_what_is_no_such_bert_is_refused(exported, values, message):
    _, folder = exported
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(errors.UserError, match=message) as refusal:
        classifier_on(folder)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["config.json", "vocab.txt"])
def test_a_missing_file_is_named(exported, name):
    _, folder = exported
    os.remove(folder / name)
    with pytest.raises(errors.UserError, match=name):
        pretrained.read(str(folder))
