"""Every recipe is read and planned; its first lines say what it is."""

import dataclasses
import pathlib
import types

import pytest

from bert_pretrain import command_line
from bert_pretrain.assessment import check_config
from bert_pretrain.compilation import slices
from bert_pretrain.data import input_pipeline, manifests, records
from bert_pretrain.devices import distribution
from bert_pretrain.pretraining import blueprint, pretraining_config
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


@pytest.fixture
def known_words(monkeypatch):
    """A stand-in for the vocabularies that masks during training need."""
    words = types.SimpleNamespace(id=lambda token: 0, is_special=())
    monkeypatch.setattr(
        "bert_pretrain.data.dynamic_masking.vocabulary.read",
        lambda path, *casing: words,
    )


def plan_of(recipe):
    """The phases of a recipe's training, on datasets that were not built."""
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
        pretraining_config.TrainingConfig,
        recipe / "train.flags",
        "--data_dir=records",
        "--model_dir=model",
    )
    return blueprint.plan(config, known)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
@pytest.mark.usefixtures("known_words")
def test_a_recipe_builds_what_it_trains(recipe):
    plan = plan_of(recipe)
    assert {phase.data_dir for phase in plan} == set(build_configs(recipe))


@pytest.mark.parametrize(
    ("name", "accelerator_type"),
    [
        ("small-colab", "v5litepod-1"),
        ("base-one-day", "v5litepod-8"),
        ("base-128-then-512", "v5litepod-8"),
        ("base-v4-32", "v4-32"),
    ],
)
@pytest.mark.usefixtures("known_words")
def test_a_batch_divides_over_the_chips_of_its_recipe(name, accelerator_type):
    recipe = ROOT / "recipes" / name
    named = f"--accelerator_type={accelerator_type} "
    assert named in (recipe / "train.flags").read_text()
    for phase in plan_of(recipe):
        distribution.check_batch(
            phase.global_batch_size,
            slices.find(accelerator_type).num_replicas,
            phase.accumulation_steps,
        )


def test_each_host_of_a_v4_32_reads_as_many_shards():
    configs = build_configs(ROOT / "recipes/base-v4-32")
    assert len(configs) == 2
    for config in configs.values():
        input_pipeline.check_shards(config.dataset.num_shards, 4)


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "recipes").glob("*/compile_check*.flags")),
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
@pytest.mark.usefixtures("known_words")
def test_the_step_that_is_compiled_is_that_of_a_phase(path):
    step = parse(
        check_config.CheckConfig, path, "--accelerator_type=v5litepod-8"
    )
    name = path.stem.replace("compile_check", "records")
    rows = build_configs(path.parent)[name].dataset.rows
    for option in ("seq_length", "packing", "pairing"):
        assert getattr(step.rows, option) == getattr(rows, option)
    training = step.training
    (phase,) = (p for p in plan_of(path.parent) if p.data_dir == name)
    # So the hours are those of the phase.
    assert training.schedule.total_steps == phase.until_step - phase.from_step
    assert training.accumulation_steps == phase.accumulation_steps
    if step.per_replica_batch_size is None:
        assert training.global_batch_size == phase.global_batch_size
    trained = parse(
        pretraining_config.TrainingConfig,
        path.parent / "train.flags",
        "--data_dir=",
        "--model_dir=",
    )
    assert training.architecture == trained.architecture
    assert training.optimization == trained.optimization


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
