"""Records from and for tf-models-official: each side reads the other's."""

import subprocess
import sys

import numpy as np
import pytest
from official.nlp.data import pretrain_dataloader

from bert_pretrain import errors, files, train
from bert_pretrain.checkpoints import checkpoint_config
from bert_pretrain.data import manifests, records, vocabulary
from bert_pretrain.model import model_config
from bert_pretrain.pretraining import pretraining_config
from bert_pretrain.training import training_config
from tfrecord_builders import adopt, report
from tfrecord_builders.building import adopt_config

SEQ_LENGTH, NUM_PREDICTIONS = 32, 5
WORDS = [f"{a}{b}" for a in "bdfghk" for b in "aeiou"]
VOCAB = vocabulary.Vocabulary(
    (*vocabulary.SPECIAL_TOKENS, *WORDS, "##s", "."), True
)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A folder of two shards that tf-models-official's builder wrote."""
    folder = tmp_path_factory.mktemp("theirs")
    rng = np.random.default_rng(0)
    documents = [
        "\n".join(
            " ".join(rng.choice(WORDS[:6], rng.integers(3, 12))) + "s ."
            for _ in range(rng.integers(2, 12))
        )
        for _ in range(30)
    ]
    (folder / "text.txt").write_text("\n\n".join(documents))
    VOCAB.write(f"{folder}/vocab.txt")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "official.nlp.data.create_pretraining_data",
            f"--input_file={folder}/text.txt",
            f"--output_file={folder}/a.tfrecord,{folder}/b.tfrecord",
            f"--vocab_file={folder}/vocab.txt",
            f"--max_seq_length={SEQ_LENGTH}",
            f"--max_predictions_per_seq={NUM_PREDICTIONS}",
            "--dupe_factor=1",
        ],
        check=True,
        capture_output=True,
    )
    return str(folder)


def adopt_set(theirs, output_dir, **values):
    config = adopt_config.AdoptConfig(
        **{
            "train_input": (f"{theirs}/a.tfrecord",),
            "eval_input": (f"{theirs}/b.tfrecord",),
            "vocab_file": f"{theirs}/vocab.txt",
            "output_dir": output_dir,
            **values,
        }
    )
    adopt.main(config)
    return manifests.read(output_dir)


@pytest.mark.slow
def test_the_trainer_learns_from_what_tf_models_official_built(
    theirs, tmp_path
):
    data_dir = f"{tmp_path}/set"
    manifest = adopt_set(theirs, data_dir)
    assert manifest.seq_length == SEQ_LENGTH
    assert manifest.max_predictions_per_seq == NUM_PREDICTIONS
    assert manifest.pairing == "nsp"
    for name, file in ((records.TRAIN, "a"), (records.EVAL, "b")):
        examples = list(records.read_examples([f"{theirs}/{file}.tfrecord"]))
        split = manifest.splits[name]
        assert split.num_examples == len(examples) > 10
        assert split.num_tokens == sum(
            e["attention_mask"].sum() for e in examples
        )
        assert split.num_predictions == sum(
            e["masked_lm_weights"].sum() for e in examples
        )
    bert = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": SEQ_LENGTH,
    }
    files.write_json(f"{tmp_path}/bert.json", bert)
    config = pretraining_config.TrainingConfig(
        data_dir=data_dir,
        global_batch_size=8,
        architecture=model_config.ModelConfig(
            bert_config=f"{tmp_path}/bert.json"
        ),
        schedule=training_config.ScheduleConfig(
            total_steps=60, peak_learning_rate=1e-2
        ),
        saving=checkpoint_config.CheckpointConfig(
            model_dir=f"{tmp_path}/model"
        ),
    )
    assert train.main(config) == 0
    results = files.read_json(f"{tmp_path}/model/train_results.json")
    start, end = results["start"], results["end"]
    assert end["masked_lm_loss"] < start["masked_lm_loss"] - 0.1
    page = report.ReportConfig(
        data_dir=data_dir, output_file=f"{tmp_path}/report.html"
    )
    report.main(page)
    assert "not known" in files.read_text(page.output_file)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"eval_input": ("{theirs}/a.tfrecord",)}, "must not be trained on"),
        (
            {"eval_input": ("{tmp}/../{tmp.name}/link",)},
            "link is in eval and in train as .*/a.tfrecord; .* leave the file",
        ),
        ({"vocab_file": "{tmp}/short.txt"}, "the vocabulary has only"),
        ({"train_input": ("{tmp}/cut.tfrecord",)}, "cut.tfrecord"),
        ({"eval_input": ("{tmp}/shorter.tfrecord",)}, "is not of 32 tokens"),
        ({"train_input": ("{tmp}/empty.tfrecord",)}, "holds no record"),
        ({"output_dir": "{tmp}/done"}, "holds a finished dataset"),
    ],
)
def test_what_does_not_fit_is_refused(
    theirs, tmp_path, make_dataset, change, told
):
    content = files.read_bytes(f"{theirs}/a.tfrecord")
    files.write_bytes(f"{tmp_path}/cut.tfrecord", content[:-20])
    files.write_bytes(f"{tmp_path}/empty.tfrecord", b"")
    (tmp_path / "link").symlink_to(f"{theirs}/a.tfrecord")
    short = vocabulary.Vocabulary(VOCAB.tokens[:20], True)
    short.write(f"{tmp_path}/short.txt")
    make_dataset("done")  # A dataset with rows of 16 tokens.
    (shard,) = files.expand([f"{tmp_path}/done/eval-*"])
    files.write_bytes(f"{tmp_path}/shorter.tfrecord", files.read_bytes(shard))
    places = {"theirs": theirs, "tmp": tmp_path}
    values = {
        name: tuple(v.format(**places) for v in value)
        if isinstance(value, tuple)
        else value.format(**places)
        for name, value in change.items()
    }
    with pytest.raises(errors.UserError, match=told):
        adopt_set(theirs, values.pop("output_dir", f"{tmp_path}/out"), **values)
    assert not (tmp_path / "out" / manifests.MANIFEST_NAME).exists()


def test_a_packed_dataset_stays_packed_and_is_not_mixed_with_others(
    theirs, tmp_path
):
    for name in "ab":
        rows = list(records.read_examples([f"{theirs}/{name}.tfrecord"]))
        features = {
            key: np.stack([row[key] for row in rows]) for key in rows[0]
        }
        # Each row has two documents.
        mask = features["attention_mask"]
        features["document_ids"] = mask + mask * (np.arange(SEQ_LENGTH) > 9)
        records.write_shard(f"{tmp_path}/{name}.tfrecord", [features])
    packed = (f"{tmp_path}/a.tfrecord",), (f"{tmp_path}/b.tfrecord",)
    inputs = dict(zip(("train_input", "eval_input"), packed, strict=True))
    manifest = adopt_set(theirs, f"{tmp_path}/set", **inputs)
    assert manifest.is_packed
    assert not adopt_set(theirs, f"{tmp_path}/alone").is_packed
    for name, kind in (("train_input", "packed"), ("eval_input", "not packed")):
        with pytest.raises(
            errors.UserError, match=f"a record is not of .*, {kind}, as the"
        ):
            adopt_set(theirs, f"{tmp_path}/mixed", **{name: inputs[name]})


def test_tf_models_official_reads_our_shards(make_dataset):
    data_dir = make_dataset(train=(12,), pairing="nsp")
    manifest = manifests.read(data_dir)
    params = pretrain_dataloader.BertPretrainDataConfig(
        input_path=f"{data_dir}/train-*",
        global_batch_size=12,
        is_training=False,
        seq_length=manifest.seq_length,
        max_predictions_per_seq=manifest.max_predictions_per_seq,
    )
    (their_batch,) = pretrain_dataloader.BertPretrainDataLoader(params).load()
    examples = list(records.read_examples(files.expand([params.input_path])))
    names = {
        "input_word_ids": "input_ids",
        "input_mask": "attention_mask",
        "input_type_ids": "token_type_ids",
        "masked_lm_positions": "masked_lm_positions",
        "masked_lm_ids": "masked_lm_ids",
        "masked_lm_weights": "masked_lm_weights",
        "next_sentence_labels": "next_sentence_labels",
    }
    assert set(their_batch) == set(names)
    for theirs, ours in names.items():
        np.testing.assert_array_equal(
            their_batch[theirs], np.stack([e[ours] for e in examples])
        )
