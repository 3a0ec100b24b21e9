"""Fine-tuning from files to scores, predictions and models."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain import command_line, errors, files, finetune, interruption
from bert_pretrain.checkpoints import checkpoint_files
from bert_pretrain.finetuning import (
    finetune_config,
    finetuning,
    predict_config,
    prediction,
)
from helpers import tasks


def read_lines(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def weights_in(model_dir):
    """The values of the newest checkpoint of a run, by their names there."""
    (path, _), *_ = checkpoint_files.list_whole(str(model_dir))
    return {
        name: tf.train.load_variable(path, name)
        for name, _ in tf.train.list_variables(path)
        if "save_counter" not in name and "OBJECT_GRAPH" not in name
    }


# The tasks take a few words to learn, so a model that learns is nearly right.
@pytest.mark.slow
@pytest.mark.parametrize(
    "task, flags, metric, at_least",
    [
        ("classification", ["--seeds=1,2", "--r_drop=0.5"], "accuracy", 0.95),
        ("classification", ["--pooling=cls"], "accuracy", 0.95),
        (
            "regression",
            ["--label_column=score", "--pooling=max"],
            "pearson",
            0.9,
        ),
        ("tagging", [], "f1", 0.95),
        ("question_answering", ["--num_epochs=20"], "f1", 0.8),
    ],
)
def test_a_task_is_learned_and_the_model_says_the_same_when_read(
    tmp_path, task, flags, metric, at_least
):
    config = tasks.config_of(
        tmp_path, task, "--num_epochs=8", *flags, num_examples=200
    )
    assert finetune.main(config) == 0
    metrics = files.read_json(f"{tmp_path}/out/metrics.json")
    assert metrics[metric]["mean"] >= at_least
    assert len(metrics[metric]["seeds"]) == len(config.seed_numbers)
    assert (tmp_path / "out" / "seed-1" / "model.safetensors").exists()
    assert (tmp_path / "out" / finetuning.CHART_NAME).exists()
    said = read_lines(tmp_path / "out" / "predictions.jsonl")
    prediction.predict(
        command_line.parse(
            predict_config.PredictConfig,
            [
                f"--model_dir={tmp_path}/out",
                f"--input_file={config.dev_file}",
                f"--output_file={tmp_path}/said.jsonl",
            ],
        )
    )
    for before, after in zip(
        said, read_lines(tmp_path / "said.jsonl"), strict=True
    ):
        before.pop("gold", None)
        after.pop("gold", None)
        for name, value in after.items():
            if isinstance(value, float):
                assert value == pytest.approx(before[name], abs=1e-4)
            elif name != "probabilities":
                assert value == before[name]


@pytest.mark.slow
def test_the_end_of_a_long_text_is_learned_if_it_is_divided(tmp_path):
    # One word tells, behind 40 that say nothing; a row has room for 30.
    def accuracy(long_texts):
        folder = tmp_path / long_texts
        folder.mkdir()
        config = tasks.config_of(
            folder, "classification", f"--long_texts={long_texts}"
        )
        for path, seed in ((config.train_file, 1), (config.dev_file, 2)):
            tasks.write_late_texts(path, num_examples=100, seed=seed)
        assert finetune.main(config) == 0
        return files.read_json(f"{folder}/out/metrics.json")["accuracy"]["mean"]

    assert accuracy("divide") >= 0.95
    assert accuracy("cut") <= 0.7


@pytest.mark.slow
def test_similar_texts_get_similar_vectors(tmp_path):
    config = tasks.config_of(
        tmp_path,
        "embedding",
        "--label_column=similarity",
        "--text_pair_column=other",
        num_examples=200,
    )
    # In training, a second text is one that is alike.
    path = pathlib.Path(config.train_file)
    alike = [
        line
        for line in path.read_text().splitlines()
        if line.rpartition("\t")[2] != "0"
    ]
    path.write_text("\n".join(alike) + "\n")
    finetuning.finetune(config)
    metrics = files.read_json(f"{tmp_path}/out/metrics.json")
    assert metrics["spearman"]["mean"] > 0.7
    predictor = prediction.load(f"{tmp_path}/out")
    vectors = predictor.embed(["a good film", "a great film", "a poor film"])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


@pytest.mark.slow
def test_vectors_can_be_learned_without_second_texts(tmp_path):
    config = tasks.config_of(
        tmp_path,
        "embedding",
        "--label_column=similarity",
        "--text_pair_column=other",
        "--peak_learning_rate=1e-3",
    )
    lines = pathlib.Path(config.train_file).read_text().splitlines()
    (tmp_path / "train.txt").write_text(
        "\n".join(line.split("\t")[0] for line in lines)
    )
    config = dataclasses.replace(config, train_file=f"{tmp_path}/train.txt")
    metrics = finetuning.finetune(config)
    losses = [
        record["loss"]
        for record in read_lines(tmp_path / "out/runs/seed-1/metrics.jsonl")
        if record["kind"] == "train"
    ]
    # Each text is told from the others of its batch.
    assert losses[-1] < losses[0]
    assert -1 <= metrics["spearman"]["mean"] <= 1


@pytest.mark.slow
def test_a_run_that_was_interrupted_ends_with_the_same_weights(tmp_path):
    flags = [
        "--seeds=1,2",
        "--num_epochs=3",
        "--steps_per_loop=2",
        "--adapter=lora",
        "--layer_rate_decay=0.8",
        "--class_weights=balanced",
    ]
    whole = tasks.config_of(
        tmp_path, "classification", *flags, f"--output_dir={tmp_path}/whole"
    )
    expected = finetuning.finetune(whole)
    parts = dataclasses.replace(whole, output_dir=f"{tmp_path}/parts")
    # In the middle of the first seed, and in that of the second.
    for num_loops in (4, 10):
        calls = iter(range(num_loops))

        def raise_if_asked(calls=calls):
            if next(calls, None) is None:
                raise interruption.Interrupted(75, "asked")

        with pytest.raises(interruption.Interrupted, match="is saved"):
            finetuning.finetune(parts, raise_if_asked)
    metrics = finetuning.finetune(parts)
    for name in ("accuracy", "loss", "ensemble"):
        assert metrics[name] == expected[name]
    for seed in (1, 2):
        before, after = (
            weights_in(f"{config.output_dir}/runs/seed-{seed}")
            for config in (whole, parts)
        )
        assert before.keys() == after.keys()
        for name, value in before.items():
            np.testing.assert_array_equal(value, after[name], name)


@pytest.mark.slow
def test_lora_is_small_and_merged_it_is_a_plain_model(tmp_path):
    config = tasks.config_of(
        tmp_path, "classification", "--adapter=lora", "--lora_rank=2"
    )
    merged = tasks.config_of(
        tmp_path,
        "classification",
        "--adapter=lora",
        "--lora_rank=2",
        "--merge_adapter",
        f"--output_dir={tmp_path}/merged",
    )
    finetuning.finetune(config)
    finetuning.finetune(merged)
    texts = ["it was a great film", "they told of a poor film"]
    alone, plain = (
        prediction.load(f"{tmp_path}/{name}/seed-1").predict_texts(texts)
        for name in ("out", "merged")
    )
    np.testing.assert_allclose(
        alone.probabilities, plain.probabilities, atol=1e-5
    )
    assert not (tmp_path / "out" / "seed-1" / "model.safetensors").exists()
    assert (tmp_path / "merged" / "seed-1" / "model.safetensors").exists()


@pytest.mark.slow
def test_random_weights_and_few_examples_and_copies_can_be_compared(tmp_path):
    results = {}
    for name, flags in {
        "scratch": ["--from_scratch"],
        "few": ["--max_train_examples=8"],
        "copies": ["--augmented_copies=1", "--max_train_examples=8"],
        "layers": ["--num_reinitialized_layers=1", "--checkpoint=best"],
        "frozen": [r"--freeze=bert\.embeddings"],
    }.items():
        config = tasks.config_of(
            tmp_path,
            "classification",
            *flags,
            "--num_epochs=1",
            f"--output_dir={tmp_path}/{name}",
        )
        results[name] = finetuning.finetune(config)
    losses = {name: each["loss"]["mean"] for name, each in results.items()}
    assert len(set(losses.values())) == 5
    assert results["few"]["num_train_examples"] == 8
    assert results["scratch"]["num_train_examples"] == 60


@pytest.mark.parametrize(
    "task, flags, message",
    [
        ("classification", ["--label_column=grade"], "'grade'"),
        ("regression", [], "is no number"),
        ("tagging", ["--label_column=tag"], "have no names"),
        ("classification", ["--seeds=1,1"], "different numbers"),
        ("classification", ["--seeds=one"], "whole numbers"),
        ("classification", ["--freeze=nothing"], "matches none of the"),
        ("classification", ["--freeze=["], "not a regular expression"),
        ("classification", ["--tpu=pod"], "--tpu=local there"),
        ("classification", ["--max_seq_length=64"], "48 positions"),
        ("classification", ["--class_weights=best:2"], "'best:2' is not"),
        ("question_answering", ["--document_stride=32"], "must be below"),
        ("classification", ["--num_reinitialized_layers=2"], "has 1 layers"),
    ],
)
def test_a_mistake_gets_one_line(tmp_path, task, flags, message):
    with pytest.raises(errors.UserError, match=message) as caught:
        finetuning.finetune(tasks.config_of(tmp_path, task, *flags))
    assert "\n" not in str(caught.value)


def test_labels_that_training_lacks_are_named(tmp_path):
    config = tasks.config_of(tmp_path)
    with open(config.dev_file, "a") as file:
        file.write("a film\tneutral\t100\ta film\t1\n")
    with pytest.raises(errors.UserError, match="dev.tsv:62.*'neutral'"):
        finetuning.finetune(config)


def test_other_architectures_are_refused(tmp_path):
    config = tasks.config_of(tmp_path)
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({"model_type": "roberta", "vocab_size": 50}))
    with pytest.raises(errors.UserError, match="'roberta'"):
        finetuning.finetune(config)


def test_options_of_a_finished_run_cannot_change_unnoticed(tmp_path):
    config = tasks.config_of(tmp_path, "classification", "--num_epochs=1")
    finetuning.finetune(config)
    changed = tasks.config_of(
        tmp_path, "classification", "--num_epochs=1", "--r_drop=1"
    )
    assert isinstance(changed, finetune_config.FinetuneConfig)
    with pytest.raises(errors.UserError, match="r_drop"):
        finetuning.finetune(changed)
