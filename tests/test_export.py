"""The exported model is the trained one, for every HuggingFace user.

The tests that need PyTorch are skipped if it is not installed; `make test` says
so.
"""

import json
import os

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
import transformers

from bert_pretrain import errors, files
from bert_pretrain.checkpoints import exporting, trained_model
from bert_pretrain.data import vocabulary
from bert_pretrain.model import bert_model, weights

TEXT = "the cats sat. the dog ran"
VOCAB = vocabulary.Vocabulary(
    (*vocabulary.SPECIAL_TOKENS, *"the cat ##s dog sat ran big . ,".split()),
    is_lower_case=True,
)


def small_bert(architecture="BertForMaskedLM", seed=0):
    bert = bert_model.from_config(
        transformers.BertConfig(
            vocab_size=VOCAB.size,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=40,
            architectures=[architecture],
        )
    )
    # No value is near zero, so a bias that is lost makes a difference.
    rng = np.random.default_rng(seed)
    for variable in bert.weights:
        variable.assign(rng.normal(0, 0.2, variable.shape))
    return bert


@pytest.fixture(params=["BertForMaskedLM", "BertForPreTraining"])
def exported(request, tmp_path):
    """A model, and the folder that it was exported to."""
    bert = small_bert(request.param)
    exporting.write(
        trained_model.TrainedModel(
            bert=bert, vocabulary=VOCAB, step=7, is_good=True, train_config={}
        ),
        str(tmp_path / "export"),
    )
    return bert, str(tmp_path / "export")


def logits_of(bert, batch):
    return bert(**{k: tf.constant(v) for k, v in batch.items()})


def test_pytorch_gives_the_same_logits(exported):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    bert, folder = exported
    (architecture,) = bert.config.architectures
    theirs, report = getattr(transformers, architecture).from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(report.values()), report
    rng = np.random.default_rng(1)
    batch = {
        "input_ids": rng.integers(0, VOCAB.size, (3, 40)),
        "attention_mask": np.arange(40) < np.array([[40], [9], [1]]),
        "token_type_ids": rng.integers(0, 2, (3, 40)),
    }
    batch["attention_mask"] = batch["attention_mask"].astype(np.int64)
    with torch.no_grad():
        expected = theirs.eval()(
            **{k: torch.tensor(v) for k, v in batch.items()}
        )
    ours = logits_of(bert, batch)
    if architecture == "BertForMaskedLM":
        pairs = [(ours.logits, expected.logits)]
    else:
        pairs = [
            (ours.prediction_logits, expected.prediction_logits),
            (ours.seq_relationship_logits, expected.seq_relationship_logits),
        ]
    for mine, other in pairs:
        np.testing.assert_allclose(mine.numpy(), other.numpy(), atol=1e-4)


def test_the_fill_mask_pipeline_gives_the_model_s_answers(exported):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    bert, folder = exported
    fill = transformers.pipeline("fill-mask", folder, framework="pt")
    answers = fill("the [MASK] sat.", top_k=VOCAB.size)
    batch = {
        "input_ids": np.array(
            [
                [
                    VOCAB.id(t)
                    for t in ("[CLS]", "the", "[MASK]", "sat", ".", "[SEP]")
                ]
            ]
        )
    }
    output = logits_of(bert, batch)
    logits = output.logits if "logits" in output else output.prediction_logits
    expected = tf.nn.softmax(logits[0, 2]).numpy()
    for answer in answers:
        assert answer["token_str"] == VOCAB.tokens[answer["token"]]
        assert abs(answer["score"] - expected[answer["token"]]) < 1e-4


def test_weights_are_read_back_as_they_were(exported):
    bert, folder = exported
    other = small_bert(bert.config.architectures[0], seed=5)
    assert weights.load(other, f"{folder}/{weights.FILE_NAME}") == []
    for mine, theirs in zip(bert.weights, other.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def test_old_names_and_encoders_without_heads_are_read(tmp_path):
    bert = small_bert()
    path = str(tmp_path / weights.FILE_NAME)
    weights.save(bert, path)
    arrays = safetensors.numpy.load_file(path)
    renamed = {}
    for name, values in arrays.items():
        if name.startswith("bert."):
            name = (
                name.removeprefix("bert.")
                .replace("LayerNorm.weight", "LayerNorm.gamma")
                .replace("LayerNorm.bias", "LayerNorm.beta")
            )
            renamed[name] = values
    safetensors.numpy.save_file(renamed, path)
    other = small_bert(seed=5)
    fresh = weights.load(other, path)
    assert fresh and all(name.startswith("cls.") for name in fresh)
    for mine, theirs in zip(bert.bert.weights, other.bert.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def test_checkpoints_of_tensorflow_are_read(tmp_path):
    bert = small_bert()
    bert.save_pretrained(tmp_path, safe_serialization=True)
    other = small_bert(seed=5)
    assert weights.load(other, f"{tmp_path}/{weights.FILE_NAME}") == []
    for mine, theirs in zip(bert.weights, other.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def test_a_file_of_another_model_is_named(tmp_path):
    path = f"{tmp_path}/{weights.FILE_NAME}"
    files.write_bytes(path, b"no safetensors")
    with pytest.raises(errors.UserError, match="not a safetensors file"):
        weights.load(small_bert(), path)
    safetensors.numpy.save_file({"gpt.wte": np.zeros(3)}, path)
    with pytest.raises(errors.UserError, match="no weight of a BERT"):
        weights.load(small_bert(), path)
    safetensors.numpy.save_file(
        {"bert.embeddings.word_embeddings.weight": np.zeros((3, 32))}, path
    )
    with pytest.raises(errors.UserError, match=r"shape \(3, 32\)"):
        weights.load(small_bert(), path)


def test_first_weights_that_are_not_finite_are_refused(tmp_path):
    bert = small_bert()
    path = f"{tmp_path}/model.safetensors"
    weights.save(bert, path)
    arrays = safetensors.numpy.load_file(path)
    name = "bert.encoder.layer.0.output.dense.bias"
    arrays[name][3] = np.nan
    safetensors.numpy.save_file(arrays, path, metadata={"format": "pt"})
    with pytest.raises(errors.UserError, match=f"{name} holds values that"):
        weights.load(bert, path)


def test_the_exported_tokenizer_is_the_one_of_the_records(exported):
    _, folder = exported
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = [
        VOCAB.id(t)
        for t in (
            "[CLS]",
            "the",
            "cat",
            "##s",
            "sat",
            ".",
            "the",
            "dog",
            "ran",
            "[SEP]",
        )
    ]
    assert tokenizer(TEXT.upper())["input_ids"] == ids
    assert tokenizer.model_max_length == 40
    with open(f"{folder}/config.json") as file:
        assert json.load(file)["vocab_size"] == VOCAB.size


def test_a_cased_vocabulary_keeps_capitals_and_accents(tmp_path):
    vocab = vocabulary.Vocabulary(
        (*vocabulary.SPECIAL_TOKENS, "Café", "cafe"), is_lower_case=False
    )
    exporting.write(
        trained_model.TrainedModel(
            bert=small_bert(),
            vocabulary=vocab,
            step=0,
            is_good=True,
            train_config={},
        ),
        str(tmp_path),
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.tokenize("Café cafe CAFE") == ["Café", "cafe", "[UNK]"]


def test_an_incomplete_export_has_no_config(tmp_path, monkeypatch):
    """A folder with a config counts as a model, so the config comes last."""
    written = []
    copy = tf.io.gfile.copy
    monkeypatch.setattr(
        tf.io.gfile,
        "copy",
        lambda source, target: (
            written.append(os.path.basename(source)),
            copy(source, target),
        ),
    )
    exporting.write(
        trained_model.TrainedModel(
            bert=small_bert(),
            vocabulary=VOCAB,
            step=0,
            is_good=True,
            train_config={},
        ),
        str(tmp_path),
    )
    assert written[-1] == "config.json"
    assert sorted(written) == sorted(os.listdir(tmp_path))
