"""The build as a library: a call, and the manifest of what it built."""

import re

import pytest

from bert_pretrain import errors, files
from bert_pretrain.data import manifests, vocabulary
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


def test_pairs_are_whole_sentences_of_the_text_s_language(tmp_path):
    names = [word.capitalize() for word in builds.WORDS[:40]]
    lines = [
        f"Die Stadt {name} wurde am 3. Oktober gegründet, und niemand weiß, "
        f"wer das war. Sie liegt z. B. an der Nr. 5. Heute ist es dort ruhig, "
        f"und viele nennen den Ort {name}."
        for name in names
    ]
    files.write_text(f"{tmp_path}/text.txt", "\n".join(lines))
    words = sorted(set(re.findall(r"\w+|[.,]", " ".join(lines).lower())))
    vocabulary.Vocabulary(
        (*vocabulary.SPECIAL_TOKENS, *words), True, False
    ).write(f"{tmp_path}/vocab.txt")
    config = builds.config_of(
        str(tmp_path),
        source=("text",),
        input=(f"{tmp_path}/text.txt",),
        text_layout="line",
        pairing="nsp",
        masking="none",
        near_duplicate_threshold=0,
        num_shards=1,
    )
    pipeline.build(config)
    vocab = vocabulary.read(config.dataset.vocab_file)
    firsts = {
        vocab.tokens[ids[i + 1]]
        for example in builds.examples(config.output_dir, "train")
        for ids in [example["input_ids"].tolist()]
        for i, token in enumerate(ids[:-1])
        if token in (vocab.id("[CLS]"), vocab.id("[SEP]"))
    }
    assert firsts - {"[PAD]", "[SEP]"} == {"die", "sie", "heute"}


def test_a_weight_that_leaves_nothing_is_an_error_that_names_it(text):
    # Beside an input that keeps its documents, and alone.
    builds.write_news(f"{text}/other.jsonl", 50, seed=1)
    news, other = f"{text}/news-1.jsonl", f"{text}/other.jsonl"
    for inputs, weights, fraction in (
        ((news, other), (1.0, 1e-5), 0.0),
        ((other,), (1e-5,), 0.1),
    ):
        config = builds.config_of(
            text,
            f"set{len(inputs)}",
            input=inputs,
            weight=weights,
            eval_fraction=fraction,
            test_fraction=fraction,
        )
        with pytest.raises(
            errors.UserError,
            match=r"input='.*other\.jsonl': weight=1e-05.* none of its \d+ tr",
        ):
            pipeline.build(config)


def test_losses_are_in_the_manifest_and_their_first_fault_is_a_warning(
    text, monkeypatch
):
    builds.write_news(f"{text}/news-2.jsonl", 50, seed=1)
    content = files.read_text(f"{text}/news-2.jsonl")
    files.write_text(f"{text}/news-2.jsonl", content + "{")
    files.write_text(f"{text}/news-3.jsonl", "")
    warned = []
    monkeypatch.setattr(errors, "warn", warned.append)
    manifest = pipeline.build(builds.config_of(text))
    whole, cut, empty = manifest.sources
    assert whole["first_fault"] == "" and empty["read"] == 0
    assert cut["dropped"]["not_json"] == 1
    assert cut["first_fault"].startswith(f"{text}/news-2.jsonl: no JSON at")
    assert warned == [
        cut["first_fault"],
        f"{text}/news-3.jsonl: no document is in it.",
    ]


def test_a_few_files_are_named_of_many_with_faults(text, monkeypatch):
    for i in range(8):
        files.write_text(f"{text}/news-{i + 2}.jsonl", "")
    warned = []
    monkeypatch.setattr(errors, "warn", warned.append)
    pipeline.build(builds.config_of(text))
    assert len(warned) == 6 and warned[-1].startswith("3 more files")
