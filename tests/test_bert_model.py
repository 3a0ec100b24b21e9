"""Architectures from Google's sizes, a file or a HuggingFace checkpoint."""

import json

import numpy as np
import pytest
import safetensors
import tensorflow as tf
import transformers

from bert_pretrain import errors
from bert_pretrain.data import manifests, vocabulary
from bert_pretrain.model import bert_model, config_json, model_config, weights


@pytest.fixture
def manifest(make_dataset):
    return manifests.read(make_dataset(pairing="nsp"))


@pytest.mark.parametrize(
    "size, num_layers, hidden_size, num_heads",
    [
        ("tiny", 2, 128, 2),
        ("mini", 4, 256, 4),
        ("small", 4, 512, 8),
        ("medium", 8, 512, 8),
        ("base", 12, 768, 12),
        ("large", 24, 1024, 16),
    ],
)
def test_sizes_are_google_s(manifest, size, num_layers, hidden_size, num_heads):
    config = config_json.architecture(
        model_config.ModelConfig(model_size=size), manifest
    )
    assert (
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
        config.intermediate_size,
    ) == (num_layers, hidden_size, num_heads, 4 * hidden_size)
    assert config.vocab_size == manifest.vocab_size
    assert config.hidden_act == "gelu"
    assert config.hidden_dropout_prob == 0.1


def test_the_records_decide_the_heads(make_dataset):
    for pairing, kind in (
        ("none", transformers.TFBertForMaskedLM),
        ("nsp", transformers.TFBertForPreTraining),
    ):
        manifest = manifests.read(make_dataset(pairing, pairing=pairing))
        bert = bert_model.build(
            model_config.ModelConfig(model_size="tiny"), manifest, seed=0
        )
        assert isinstance(bert, kind)
        assert bert_model.has_pairs(bert) == (pairing == "nsp")


def test_initial_weights_follow_from_the_seed(manifest):
    config = model_config.ModelConfig(model_size="tiny")
    first, same, other = (
        [v.numpy() for v in bert_model.build(config, manifest, seed).weights]
        for seed in (1, 1, 2)
    )
    assert all(map(np.array_equal, first, same))
    assert not all(map(np.array_equal, first, other))


def write_config(path, **values):
    path.write_text(
        json.dumps(
            {
                "hidden_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 64,
                "max_position_embeddings": 64,
                **values,
            }
        )
    )
    return str(path)


def test_a_file_gives_the_architecture_and_options_the_dropout(
    manifest, tmp_path
):
    path = write_config(
        tmp_path / "bert.json",
        hidden_act="gelu_new",
        layer_norm_eps=1e-5,
    )
    config = config_json.architecture(
        model_config.ModelConfig(
            bert_config=path, hidden_dropout=0.25, attention_dropout=0.0
        ),
        manifest,
    )
    assert config.hidden_act == "gelu_new"
    assert config.layer_norm_eps == 1e-5
    assert config.vocab_size == manifest.vocab_size  # The file has none.
    assert config.hidden_dropout_prob == 0.25
    assert config.attention_probs_dropout_prob == 0.0


@pytest.mark.parametrize(
    "values, message",
    [
        (
            {"position_embedding_type": "relative_key"},
            "position_embedding_type",
        ),
        ({"is_decoder": True}, "is_decoder=True"),
        ({"max_position_embeddings": 15}, "seq_length 16 exceeds .* 15"),
        ({"vocab_size": 59}, "vocab_size is 59, .* 60 tokens"),
        ({"type_vocab_size": 1}, "type_vocab_size is 1, .* --pairing=none"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings=False"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads="),
        ({"embedding_size": 128, "rope": 1}, "embedding_size, rope: fields"),
        ({"model_type": "roberta"}, "model_type 'roberta'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_named(
    manifest, tmp_path, values, message
):
    path = write_config(tmp_path / "bert.json", **values)
    with pytest.raises(errors.UserError, match=f"bert.json: .*{message}"):
        config_json.architecture(
            model_config.ModelConfig(bert_config=path), manifest
        )


def test_fields_that_say_nothing_about_a_pretrained_model_are_left_out(
    manifest, tmp_path
):
    """Those of a fine-tuned model, and of Google's multilingual BERT."""
    path = write_config(
        tmp_path / "bert.json",
        id2label={"0": "ham", "1": "spam", "2": "eggs"},
        problem_type="multi_label_classification",
        torch_dtype="float16",
        directionality="bidi",
        pooler_type="first_token_transform",
        tie_word_embeddings=True,
    )
    config = config_json.architecture(
        model_config.ModelConfig(bert_config=path), manifest
    )
    default = transformers.BertConfig()
    for name in ("id2label", "num_labels", "problem_type", "dtype"):
        assert getattr(config, name) == getattr(default, name), name
    assert not hasattr(config, "directionality")


def test_rows_of_the_table_that_no_token_has_are_never_predicted(
    manifest, tmp_path
):
    path = write_config(tmp_path / "bert.json", vocab_size=64)
    config = model_config.ModelConfig(bert_config=path)
    bert = bert_model.build(config, manifest, seed=3)
    logits = 5.0 + bert.mlm.predictions.bias.numpy()
    probabilities = tf.nn.softmax(logits.astype(np.float32)).numpy()
    assert len(probabilities) == 64
    assert (probabilities[60:] == 0).all() and (probabilities[:60] > 0).all()
    assert (bert.bert.embeddings.weight.numpy()[60:] == 0).all()


@pytest.fixture
def checkpoint(make_dataset, tmp_path):
    """A HuggingFace folder whose vocabulary is that of the records."""
    data_dir = make_dataset(pairing="none")
    manifest = manifests.read(data_dir)
    path = write_config(tmp_path / "bert.json")
    bert = bert_model.build(
        model_config.ModelConfig(bert_config=path), manifest, seed=3
    )
    folder = tmp_path / "checkpoint"
    bert.save_pretrained(folder, safe_serialization=True)
    vocabulary.read(f"{data_dir}/vocab.txt").write(f"{folder}/vocab.txt")
    return folder, manifest, bert


@pytest.mark.parametrize("form", ["pytorch", "tensorflow", "h5", "bin"])
def test_a_checkpoint_gives_its_weights(checkpoint, form):
    folder, manifest, bert = checkpoint
    if form == "pytorch":
        weights.save(bert, f"{folder}/model.safetensors")
    if form == "h5":
        (folder / "model.safetensors").unlink()
        bert.save_pretrained(folder)
        assert (folder / "tf_model.h5").exists()
    if form == "bin":
        torch = pytest.importorskip("torch")
        (folder / "model.safetensors").unlink()
        arrays = weights.arrays_of(bert.weights)
        tensors = {name: torch.tensor(x) for name, x in arrays.items()}
        positions = torch.arange(9)  # as checkpoints of older releases
        torch.save(
            tensors | {"bert.embeddings.position_ids": positions},
            folder / "pytorch_model.bin",
        )
    loaded = bert_model.build(
        model_config.ModelConfig(init_from=str(folder)), manifest, seed=9
    )
    assert [v.shape for v in loaded.weights] == [v.shape for v in bert.weights]
    for ours, theirs in zip(loaded.weights, bert.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.name)


def test_nothing_but_tensors_is_loaded_from_pytorch_s_file(
    checkpoint, tmp_path
):
    torch = pytest.importorskip("torch")
    folder, manifest, _ = checkpoint
    (folder / "model.safetensors").unlink()
    mark = tmp_path / "mark"

    class Code:
        def __reduce__(self):
            return mark.write_text, ("executed",)

    torch.save({"weight": Code()}, folder / "pytorch_model.bin")
    with pytest.raises(
        errors.UserError, match="pytorch_model.bin: PyTorch cannot read"
    ):
        bert_model.build(
            model_config.ModelConfig(init_from=str(folder)), manifest, seed=9
        )
    assert not mark.exists()


def test_a_checkpoint_of_another_vocabulary_is_refused(checkpoint):
    folder, manifest, _ = checkpoint
    path = folder / "vocab.txt"
    path.write_text(path.read_text().replace("t3\n", "other\n"))
    with pytest.raises(
        errors.UserError, match="vocab.txt: the vocabulary has sha256"
    ):
        config_json.architecture(
            model_config.ModelConfig(init_from=str(folder)), manifest
        )


def test_a_checkpoint_without_weights_is_refused(checkpoint):
    folder, manifest, _ = checkpoint
    (folder / "model.safetensors").unlink()
    with pytest.raises(errors.UserError, match="cannot be loaded"):
        bert_model.build(
            model_config.ModelConfig(init_from=str(folder)), manifest, 0
        )


@pytest.mark.parametrize(
    "values, message",
    [
        ({"bert_config": "a", "init_from": "b"}, "both give the architecture"),
        ({"hidden_dropout": 1.0}, "hidden_dropout=1.0"),
        ({"attention_dropout": -0.1}, "attention_dropout=-0.1"),
        ({"initializer_range": 0.0}, "initializer_range=0.0"),
        ({"freeze": "a("}, "freeze=a.* not a regular expression"),
        (
            {"positions": "sinusoidal", "init_from": "b"},
            "both give the position",
        ),
    ],
)
def test_impossible_options_are_refused(values, message):
    with pytest.raises(errors.UserError, match=message):
        model_config.ModelConfig(**values)


def test_sentence_order_has_the_same_head_as_the_next_sentence(make_dataset):
    manifest = manifests.read(make_dataset(pairing="sop"))
    bert = bert_model.build(
        model_config.ModelConfig(model_size="tiny"), manifest, seed=0
    )
    assert bert_model.has_pairs(bert)


def test_the_initializer_range_sets_the_deviation_of_new_matrices(manifest):
    bert = bert_model.build(
        model_config.ModelConfig(model_size="tiny", initializer_range=0.1),
        manifest,
        seed=0,
    )
    kernel = bert.bert.encoder.layer[1].intermediate.dense.kernel.numpy()
    # A normal distribution that is cut at two deviations has 0.88 times the
    # deviation of the whole one.
    assert kernel.std() == pytest.approx(0.088, abs=0.002)


def names_of(variables):
    return {weights.pytorch_name(v.name, v.shape)[0] for v in variables}


def test_freezing_goes_by_pytorch_s_names(manifest):
    config = model_config.ModelConfig(
        model_size="tiny", freeze=r"layer\.0\.|pooler"
    )
    bert = bert_model.build(config, manifest, seed=0)
    everything = names_of(bert.trainable_variables)
    trained = names_of(bert_model.trained_variables(bert, config))
    frozen = {name for name in everything if "layer.0." in name}
    assert len(frozen) == 16
    pooler = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    assert trained == everything - frozen - pooler


@pytest.mark.parametrize(
    "freeze, message", [("layer.7", "none of the 46 weights"), (".", "all of")]
)
def test_freezing_nothing_or_everything_is_refused(manifest, freeze, message):
    config = model_config.ModelConfig(model_size="tiny", freeze=freeze)
    bert = bert_model.build(config, manifest, seed=0)
    with pytest.raises(errors.UserError, match=message):
        bert_model.trained_variables(bert, config)


def test_sinusoids_turn_by_the_same_angle_at_every_step():
    """Vaswani et al. 2017, section 3.5: a shift is linear, here a rotation."""
    config = transformers.BertConfig(
        hidden_size=8, max_position_embeddings=50, initializer_range=0.5
    )
    table = bert_model.sinusoids(config) / 0.5
    np.testing.assert_allclose(table[0], [0, 1] * 4, atol=1e-7)
    turns = table[:, 1::2] + 1j * table[:, 0::2]
    np.testing.assert_allclose(abs(turns), 1, rtol=1e-6)
    np.testing.assert_allclose(
        np.angle(turns[1:] / turns[:-1]),
        np.tile(10_000.0 ** -np.array([0, 1 / 4, 1 / 2, 3 / 4]), (49, 1)),
        rtol=1e-3,
        atol=1e-5,
    )


def test_sinusoids_are_the_position_embeddings_and_are_not_trained(
    manifest, tmp_path
):
    config = model_config.ModelConfig(
        bert_config=write_config(tmp_path / "bert.json"), positions="sinusoidal"
    )
    bert = bert_model.build(config, manifest, seed=0)
    table = bert.bert.embeddings.position_embeddings
    np.testing.assert_array_equal(table, bert_model.sinusoids(bert.config))
    trained = names_of(bert_model.trained_variables(bert, config))
    position = "bert.embeddings.position_embeddings.weight"
    assert names_of(bert.trainable_variables) - trained == {position}
    # It is exported like any other weight.
    path = str(tmp_path / "model.safetensors")
    weights.save(bert, path)
    with safetensors.safe_open(path, "np") as file:
        np.testing.assert_array_equal(file.get_tensor(position), table)
