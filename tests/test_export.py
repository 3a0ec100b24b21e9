"""The exported model is the trained one, for every HuggingFace user.

The tests that need PyTorch are skipped if it is not installed; `make test` says
so.
"""

import json
import os
import re

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
import transformers
import yaml

from bert_pretrain import errors, export, files, train
from bert_pretrain.checkpoints import pretrained, trained_model
from bert_pretrain.data import vocabulary
from bert_pretrain.interchange import export_config, exporting
from bert_pretrain.model import bert_model, weights
from helpers import training

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


def write_export(bert, vocab, folder):
    model = trained_model.TrainedModel(
        bert=bert, vocabulary=vocab, step=7, is_good=True, train_config={}
    )
    exporting.write(model, str(folder), card="")


@pytest.fixture(params=["BertForMaskedLM", "BertForPreTraining"])
def exported(request, tmp_path):
    """A model, and the folder that it was exported to."""
    bert = small_bert(request.param)
    write_export(bert, VOCAB, tmp_path / "export")
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
    assert weights.load(other, weights.files_in(folder)) == []
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
    fresh = weights.load(other, [path])
    assert fresh and all(name.startswith("cls.") for name in fresh)
    for mine, theirs in zip(bert.bert.weights, other.bert.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def test_checkpoints_of_tensorflow_are_read(tmp_path):
    bert = small_bert()
    bert.save_pretrained(tmp_path, safe_serialization=True)
    other = small_bert(seed=5)
    assert weights.load(other, weights.files_in(str(tmp_path))) == []
    for mine, theirs in zip(bert.weights, other.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def test_a_file_of_another_model_is_named(tmp_path):
    path = f"{tmp_path}/{weights.FILE_NAME}"
    files.write_bytes(path, b"no safetensors")
    with pytest.raises(errors.UserError, match="not a safetensors file"):
        weights.load(small_bert(), [path])
    safetensors.numpy.save_file({"gpt.wte": np.zeros(3)}, path)
    with pytest.raises(errors.UserError, match="no weight of a BERT"):
        weights.load(small_bert(), [path])
    safetensors.numpy.save_file(
        {"bert.embeddings.word_embeddings.weight": np.zeros((3, 32))}, path
    )
    with pytest.raises(errors.UserError, match=r"shape \(3, 32\)"):
        weights.load(small_bert(), [path])


def test_first_weights_that_are_not_finite_are_refused(tmp_path):
    bert = small_bert()
    path = f"{tmp_path}/model.safetensors"
    weights.save(bert, path)
    arrays = safetensors.numpy.load_file(path)
    name = "bert.encoder.layer.0.output.dense.bias"
    arrays[name][3] = np.nan
    safetensors.numpy.save_file(arrays, path, metadata={"format": "pt"})
    with pytest.raises(errors.UserError, match=f"{name} holds values that"):
        weights.load(bert, [path])


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
    write_export(small_bert(), vocab, tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.tokenize("Café cafe CAFE") == ["Café", "cafe", "[UNK]"]


def test_marks_are_kept_in_lower_case_if_the_vocabulary_says_so(tmp_path):
    vocab = vocabulary.Vocabulary(
        (*vocabulary.SPECIAL_TOKENS, "में", "für", "fur"),
        is_lower_case=True,
        strips_accents=False,
    )
    write_export(small_bert(), vocab, tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.tokenize("FÜR में fur") == ["für", "में", "fur"]


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
    write_export(small_bert(), VOCAB, tmp_path)
    assert written[-1] == "config.json"
    assert sorted(written) == sorted(os.listdir(tmp_path))


def test_tensorflow_gives_the_same_logits(exported):
    """By the call that the README and the model card show."""
    bert, folder = exported
    (architecture,) = bert.config.architectures
    name = {
        "BertForMaskedLM": "TFAutoModelForMaskedLM",
        "BertForPreTraining": "TFAutoModelForPreTraining",
    }[architecture]
    theirs, report = getattr(transformers, name).from_pretrained(
        folder, use_safetensors=False, output_loading_info=True
    )
    assert type(theirs).__name__ == f"TF{architecture}"
    assert not any(report.values()), report
    rng = np.random.default_rng(1)
    batch = {"input_ids": rng.integers(0, VOCAB.size, (3, 40))}
    for mine, other in zip(
        logits_of(bert, batch).to_tuple(),
        logits_of(theirs, batch).to_tuple(),
        strict=True,
    ):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), atol=1e-6)


def test_the_ids_in_the_config_follow_the_vocabulary(tmp_path):
    vocab = vocabulary.Vocabulary(
        ("the", *reversed(vocabulary.SPECIAL_TOKENS), *"a cat ##s . ,".split()),
        is_lower_case=True,
    )
    write_export(small_bert(), vocab, tmp_path)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert config.pad_token_id == tokenizer.pad_token_id == 5


def test_sharded_checkpoints_are_read(tmp_path):
    bert = small_bert()
    weights.save(bert, f"{tmp_path}/all.safetensors")
    arrays = safetensors.numpy.load_file(f"{tmp_path}/all.safetensors")
    os.remove(f"{tmp_path}/all.safetensors")
    weight_map = {}
    for number, names in enumerate(np.array_split(sorted(arrays), 3), 1):
        file_name = f"model-{number:05d}-of-00003.safetensors"
        safetensors.numpy.save_file(
            {name: arrays[name] for name in names},
            f"{tmp_path}/{file_name}",
            metadata={"format": "pt"},
        )
        weight_map |= dict.fromkeys(map(str, names), file_name)
    index = tmp_path / weights.INDEX_NAME
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    other = small_bert(seed=5)
    assert weights.load(other, weights.files_in(str(tmp_path))) == []
    for mine, theirs in zip(bert.weights, other.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())

    # A name must not lead out of the folder.
    for wrong in ({"weight_map": {"a": "../x.safetensors"}}, {}, [], 3):
        index.write_text(json.dumps(wrong))
        with pytest.raises(errors.UserError, match="no index of safetensors"):
            weights.files_in(str(tmp_path))


def test_a_checkpoint_without_vocab_txt_says_how_to_make_it(exported):
    _, folder = exported
    os.remove(f"{folder}/vocab.txt")
    call = (
        f"transformers.AutoTokenizer.from_pretrained({folder!r})."
        f"save_vocabulary({folder!r})"
    )
    with pytest.raises(errors.UserError, match=re.escape(call)):
        vocabulary.read(f"{folder}/vocab.txt")
    transformers.AutoTokenizer.from_pretrained(folder).save_vocabulary(folder)
    assert vocabulary.read(f"{folder}/vocab.txt").tokens == VOCAB.tokens


@pytest.mark.slow
def test_a_run_is_exported_with_a_card_and_the_positions_it_trained(
    make_config, tmp_path, capsys
):
    # 16 of 24 positions.
    config = make_config(total_steps=2)
    assert train.main(config) == 0
    model_dir = config.saving.model_dir
    export.main(
        export_config.ExportConfig(
            model_dir=model_dir, output_dir=f"{tmp_path}/whole"
        )
    )
    warning = capsys.readouterr().err
    assert "only positions up to 16 of 24 were trained" in warning
    assert "--max_positions=16" in warning
    tokenizer = transformers.AutoTokenizer.from_pretrained(f"{tmp_path}/whole")
    assert tokenizer.model_max_length == 16
    # Fine-tuning begins alike with a run and with its export.
    run, whole = (
        pretrained.read(folder) for folder in (model_dir, f"{tmp_path}/whole")
    )
    assert run.num_trained_positions == whole.num_trained_positions == 16
    assert run.arrays.keys() == whole.arrays.keys()
    for name, array in run.arrays.items():
        np.testing.assert_array_equal(array, whole.arrays[name])

    export.main(
        export_config.ExportConfig(
            model_dir=model_dir,
            output_dir=f"{tmp_path}/cut",
            max_positions=16,
            tensorflow_weights=False,
        )
    )
    assert "warning" not in capsys.readouterr().err
    assert not os.path.exists(f"{tmp_path}/cut/tf_model.h5")
    cut = transformers.AutoConfig.from_pretrained(f"{tmp_path}/cut")
    assert cut.max_position_embeddings == 16
    name = "bert.embeddings.position_embeddings.weight"
    whole, part = (
        safetensors.numpy.load_file(f"{tmp_path}/{folder}/{weights.FILE_NAME}")
        for folder in ("whole", "cut")
    )
    np.testing.assert_array_equal(part[name], whole[name][:16])

    card = (tmp_path / "cut" / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "unknown"
    assert header["pipeline_tag"] == "fill-mask"
    assert "| positions that were trained | 16 |" in card
    assert "| examples | 29 |" in card
    assert "| several documents in a row | no |" in card
    assert "| sentence pairs | nsp |" in card
    loss = training.results_of(config)["end"]["masked_lm_loss"]
    assert f"| loss of masked tokens (nats) | {loss:.4f} |" in card

    with pytest.raises(errors.UserError, match="max_positions=25 exceeds"):
        export.main(
            export_config.ExportConfig(
                model_dir=model_dir,
                output_dir=f"{tmp_path}/more",
                max_positions=25,
            )
        )


def test_a_phase_that_is_not_reached_trained_nothing():
    datasets = [
        {"from_step": 0, "seq_length": 16},
        {"from_step": 50, "seq_length": 32},
    ]
    found = {}
    for step in (0, 50, 51):
        model = trained_model.TrainedModel(
            bert=small_bert(),
            vocabulary=VOCAB,
            step=step,
            is_good=True,
            train_config={"datasets": datasets},
        )
        found[step] = model.num_trained_positions, len(model.datasets)
    assert found == {0: (16, 1), 50: (16, 1), 51: (32, 2)}
