"""Every recipe is read and planned; its first lines say what it is."""

import dataclasses
import pathlib
import types

import pytest

from bert_pretrain import command_line
from bert_pretrain.assessment import check_config
from bert_pretrain.data import manifests, records
from bert_pretrain.training import blueprint, training_config
from tfrecord_builders.stages import build_config
from tfrecord_builders.tokens import learn_config

ROOT = pathlib.Path(__file__).parent.parent
RECIPES = sorted(path for path in (ROOT / "recipes").iterdir() if path.is_dir())


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    # Where the commands in the recipes are meant to be run.
    monkeypatch.chdir(ROOT)


def parse(config_class, path, *arguments):
    return command_line.parse(
        config_class, [f"--flagfile={path.relative_to(ROOT)}", *arguments]
    )


def build_configs(recipe):
    """Folder of a dataset to the config that builds it."""
    text = "--source=text", "--input=text/*.txt", "--vocab_file=vocab.txt"
    return {
        name: parse(
            build_config.BuildConfig, path, *text, f"--output_dir={name}"
        )
        for path in sorted(recipe.glob("build*.flags"))
        for name in [path.stem.replace("build", "records")]
    }


def manifest_of(config, vocab_size):
    """The manifest of a dataset that was not built."""
    empty = manifests.Split(
        num_documents=1,
        num_examples=10**6,
        num_tokens=0,
        num_predictions=0,
        num_random_next=0,
        padding_fraction=0.0,
        max_id=0,
        shards=(),
    )
    dataset = config.dataset
    return manifests.Manifest(
        seq_length=dataset.rows.seq_length,
        max_predictions_per_seq=dataset.masking.max_predictions_per_seq,
        pairing=dataset.rows.pairing,
        masking=dataset.masking.masking,
        is_packed=dataset.rows.packing,
        vocab_size=vocab_size,
        vocab_sha256="",
        is_lower_case=True,
        splits=dict.fromkeys(records.SPLITS, empty),
        options=dataclasses.asdict(dataset.masking),
        sources=(),
        documents={},
        rows={},
    )


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_a_recipe_builds_what_it_trains(recipe, monkeypatch):
    vocabulary = parse(
        learn_config.LearnConfig,
        recipe / "vocabulary.flags",
        "--source=text",
        "--input=text/*.txt",
        "--output_file=vocab.txt",
    )
    known = {
        name: manifest_of(config, vocabulary.vocab_size)
        for name, config in build_configs(recipe).items()
    }
    assert known["records"].seq_length <= 512
    config = parse(
        training_config.TrainingConfig,
        recipe / "train.flags",
        "--data_dir=records",
        "--model_dir=model",
    )
    known_words = types.SimpleNamespace(id=lambda token: 0, is_special=())
    monkeypatch.setattr(
        "bert_pretrain.data.dynamic_masking.vocabulary.read",
        lambda path, *casing: known_words,
    )
    plan = blueprint.plan(config, known)
    assert {phase.data_dir for phase in plan} == set(known)
    assert plan[-1].until_step == config.schedule.total_steps


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "recipes").glob("*/compile_check*.flags")),
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_the_step_that_is_compiled_has_the_rows_that_are_built(path):
    step = parse(
        check_config.CheckConfig, path, "--accelerator_type=v5litepod-8"
    )
    name = path.stem.replace("compile_check", "records")
    rows = build_configs(path.parent)[name].dataset.rows
    for option in ("seq_length", "packing", "pairing"):
        assert getattr(step.rows, option) == getattr(rows, option)
    trained = parse(
        training_config.TrainingConfig,
        path.parent / "train.flags",
        "--data_dir=",
        "--model_dir=",
    )
    assert step.training.architecture == trained.architecture
    assert step.training.optimization == trained.optimization


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "recipes").glob("*/*.flags")),
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_a_recipe_opens_with_what_it_is_for(path):
    comment = [
        line for line in path.read_text().splitlines() if line.startswith("#")
    ]
    assert path.read_text().startswith(comment[0])
    if path.stem in ("build", "train"):
        assert any("python -m" in line for line in comment)
        assert any(line.startswith("# Cost: ") for line in comment)
    if path.stem == "train":
        assert any(line.startswith("# Reached: ") for line in comment)
