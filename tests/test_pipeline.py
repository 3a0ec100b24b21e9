"""The build as a library: a call, and the manifest of what it built."""

import pytest

from bert_pretrain import errors
from bert_pretrain.data import manifests
from helpers import builds
from tfrecord_builders.building import pipeline


@pytest.fixture
def text(tmp_path):
    builds.write_vocabulary(f"{tmp_path}/vocab.txt")
    builds.write_news(f"{tmp_path}/news-1.jsonl", 60)
    return str(tmp_path)


def test_a_build_returns_the_manifest_on_disk_and_prints_nothing(text, capsys):
    config = builds.config_of(text)
    stages = []
    manifest = pipeline.build(config, lambda name, seconds: stages.append(name))
    assert manifest == manifests.read(config.output_dir)
    assert manifest.splits["train"].num_examples > 0
    assert stages == ["extract", "deduplicate", "resolve", "rows", "shards"]
    # Again, when the dataset is there: no stage runs.
    before = builds.contents(config.output_dir)
    assert pipeline.build(config, pytest.fail) == manifest
    assert builds.contents(config.output_dir) == before
    assert capsys.readouterr().out == ""


def test_a_mistake_is_an_exception_and_ends_no_program(text):
    config = builds.config_of(text, text_field="body")
    with pytest.raises(errors.UserError, match="body"):
        pipeline.build(config)
