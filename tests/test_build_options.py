"""Rows and shards, end to end: the effect of each option."""

import importlib.util
import itertools
import random
import re

import numpy as np
import pytest

from bert_pretrain import errors, files
from bert_pretrain.data import manifests, records, vocabulary
from helpers import builds
from tfrecord_builders import build
from tfrecord_builders.engines import attempts
from tfrecord_builders.reporting import record_view
from tfrecord_builders.tokens import sentences


def built(text, name="set", **values):
    """(folder, manifest) of a dataset that is built from `text`."""
    config = builds.config_of(text, name, **values)
    build.main(config)
    return config.output_dir, manifests.read(config.output_dir)


def documents_of(example):
    """The token ids of each document of a packed row, without masks."""
    ids = builds.restored(example)
    return [
        ids[example["document_ids"] == i].tolist()
        for i in range(1, example["document_ids"].max() + 1)
    ]


@pytest.mark.slow
def test_the_number_of_workers_changes_no_byte_of_a_packed_dataset(text):
    options = {"packing": True, "masking": "span"}
    one, manifest = built(text, "one", num_workers=1, **options)
    two, _ = built(text, "two", num_workers=2, **options)
    assert builds.contents(one) == builds.contents(two)
    assert manifest.options["packing"] is True
    assert manifest.options["masking"] == "span"


def test_packed_datasets_hold_the_text_of_unpacked_ones_in_fewer_rows(text):
    alone_dir, alone = built(text, "alone")
    packed_dir, packed = built(text, "packed", packing=True)
    assert packed.is_packed and not alone.is_packed
    vocab = vocabulary.read(f"{text}/vocab.txt")
    cls, sep = vocab.id(vocabulary.CLS), vocab.id(vocabulary.SEP)
    for split in records.SPLITS:
        examples = builds.examples(packed_dir, split)
        words = []
        for example in examples:
            assert len(example["input_ids"]) == 64
            for document in documents_of(example):
                assert document[0] == cls and document[-1] == sep
                inside = document[1:-1]
                assert not {cls, sep} & set(inside)
                words += inside
        expected = [
            i
            for example in builds.examples(alone_dir, split)
            for i in builds.restored(example)
            if i not in (cls, sep, vocab.id(vocabulary.PAD))
        ]
        assert sorted(words) == sorted(expected)
        counts = packed.splits[split]
        assert counts.num_examples == len(examples)
        assert counts.num_tokens == sum(
            int((example["document_ids"] > 0).sum()) for example in examples
        )
        # Its number for unpacked rows is their real one.
        assert (
            counts.unpacked_padding_fraction
            == alone.splits[split].padding_fraction
            > counts.padding_fraction
        )
        assert alone.splits[split].unpacked_padding_fraction is None
    assert any(
        example["document_ids"].max() > 1
        for example in builds.examples(packed_dir, "train")
    )


def test_unpacked_records_have_only_the_features_that_every_bert_has(text):
    data_dir, _ = built(text)
    (example, *_) = builds.examples(data_dir, "train")
    assert example.keys() == records.FEATURES.keys()


def test_packed_rows_are_shown_document_by_document(text):
    data_dir, _ = built(text, packing=True)
    vocab = vocabulary.read(f"{text}/vocab.txt")
    example = next(
        example
        for example in builds.examples(data_dir, "train")
        if example["document_ids"].max() > 1
    )
    shown = record_view.describe(example, vocab, "none")
    num_documents = example["document_ids"].max()
    assert f", documents: {num_documents}\n" in shown
    lines = shown.split("\n")
    assert sum(line.startswith("[CLS]") for line in lines) == num_documents


def test_without_masking_training_rows_are_unchanged_and_held_out_ones_masked(
    text,
):
    masked_dir, masked = built(text, "masked", masked_fraction=0.2)
    data_dir, manifest = built(
        text, "none", masking="none", masked_fraction=0.2
    )
    assert manifest.masking == "none"
    assert manifest.max_predictions_per_seq == masked.max_predictions_per_seq
    assert manifest.options["masked_fraction"] == 0.2
    assert manifest.splits["train"].num_predictions == 0
    expected, found = (
        sorted(
            builds.restored(example).tolist()
            for example in builds.examples(folder, "train")
        )
        for folder in (masked_dir, data_dir)
    )
    assert found == expected
    for example in builds.examples(data_dir, "train"):
        np.testing.assert_array_equal(
            example["input_ids"], builds.restored(example)
        )
        for name in ("masked_lm_ids", "masked_lm_positions"):
            assert len(example[name]) == manifest.max_predictions_per_seq
            assert not example[name].any()
    # Held-out rows and their masks are those of a dataset that is masked by
    # token.
    for split in ("eval", "test"):
        assert manifest.splits[split] == masked.splits[split]
        assert manifest.splits[split].num_predictions > 0


def test_ordered_pairs_are_labelled_and_shown(text):
    data_dir, manifest = built(text, pairing="sop", masking="ngram")
    assert (manifest.pairing, manifest.masking) == ("sop", "ngram")
    train = manifest.splits["train"]
    assert abs(train.num_random_next / train.num_examples - 0.5) < 0.1
    vocab = vocabulary.read(f"{text}/vocab.txt")
    for example in builds.examples(data_dir, "train")[:20]:
        is_swapped = bool(example["next_sentence_labels"][0])
        label = "swapped" if is_swapped else "in order"
        first = record_view.describe(example, vocab, "sop").split("\n")[0]
        assert first.endswith(f", {label}")


# Written for this test.
CHINESE = (
    "上个星期天，我和妹妹坐地铁去了北京大学的图书馆。",
    "那里收藏着几百万本书。",
    "学生们安静地学习自然语言处理和计算机科学。",
    "中午我们在食堂吃了西红柿炒鸡蛋，比外面便宜得多。",
    "妹妹用手机拍了许多照片，还发给了妈妈。",
    "“明年我也要考这所大学！”她认真地说。",
    "下午忽然下起了大雨，大家都没有带雨伞。",
    "图书馆的工作人员借给我们两把旧雨伞。",
    "晚上回到家里，爸爸已经做好了饭菜。",
    "我在日记里写下了这个难忘的星期天。",
)


@pytest.fixture
def chinese(tmp_path):
    vocabulary.Vocabulary(
        (*vocabulary.SPECIAL_TOKENS, *sorted(set("".join(CHINESE)))), True
    ).write(f"{tmp_path}/vocab.txt")
    rng = random.Random(0)
    lines = ["".join(rng.sample(CHINESE, 5)) for _ in range(40)]
    files.write_text(f"{tmp_path}/chinese.txt", "\n".join(lines))
    return str(tmp_path)


def chinese_options(folder):
    return {
        "source": ("text",),
        "text_layout": "line",
        "input": (f"{folder}/chinese.txt",),
        "masking": "whole_word",
        "segmenter": "jieba",
        "min_document_chars": 20,
        "eval_fraction": 0.0,
        "test_fraction": 0.0,
        "dupe_factor": 4,
        "num_shards": 4,
    }


def test_chinese_words_are_masked_whole_in_a_dataset(chinese):
    pytest.importorskip("jieba")
    data_dir, manifest = built(chinese, **chinese_options(chinese))
    assert manifest.options["segmenter"] == "jieba"
    vocab = vocabulary.read(f"{chinese}/vocab.txt")
    # Words that jieba knows, and that are not within longer words here.
    whole = ["图书馆", "自然语言", "计算机科学", "星期天", "照片"]
    num_hidden = 0
    for example in builds.examples(data_dir, "train"):
        tokens = [vocab.tokens[i] for i in builds.restored(example)]
        is_chosen = np.zeros(len(tokens), int)
        used = example["masked_lm_weights"] > 0
        is_chosen[example["masked_lm_positions"][used]] = 1
        for word, start in itertools.product(whole, range(len(tokens))):
            if tokens[start : start + len(word)] == list(word):
                hidden = is_chosen[start : start + len(word)].sum()
                assert hidden in (0, len(word)), word
                num_hidden += hidden > 0
    assert num_hidden > 20


def test_a_build_without_the_segmenter_s_package_says_how_to_get_it(
    chinese, monkeypatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.UserError, match="needs the package jieba"):
        built(chinese, **chinese_options(chinese))


def test_an_error_in_rows_names_the_files_of_the_rows(text, monkeypatch):
    monkeypatch.setattr(attempts, "NUM_ATTEMPTS", 1)
    monkeypatch.setattr(sentences, "split", lambda *_: [][0])
    for unit_mb, name in (
        (0.25, f"{text}/news-1.jsonl: IndexError"),
        (1.0, f"{text}/news-1.jsonl … {text}/news-2.jsonl (2 files): Index"),
    ):
        with pytest.raises(RuntimeError) as told:
            built(text, f"set{unit_mb}", unit_mb=unit_mb)
        line = str(told.value).partition("\n")[0]
        assert name in line and "work/extract" not in line


def test_shards_too_large_for_a_worker_are_refused(text):
    small = {"unit_mb": 0.005, "min_document_chars": 1}
    with pytest.raises(
        errors.UserError, match="a worker holds a whole shard"
    ) as told:
        built(text, num_shards=2, **small)
    (num_shards,) = re.findall(r"at least num_shards=(\d+)", str(told.value))
    _, manifest = built(text, "enough", num_shards=int(num_shards), **small)
    assert len(manifest.splits["train"].shards) == int(num_shards) > 2


def test_the_casing_of_the_text_is_in_the_manifest_and_cannot_change(text):
    folder, manifest = built(text, strip_accents=False)
    assert manifest.is_lower_case and manifest.strips_accents is False
    vocab = manifests.read_vocabulary(folder, manifest)
    assert vocab.is_lower_case and not vocab.strips_accents
    with pytest.raises(errors.UserError, match="strip_accents=False, not True"):
        built(text, strip_accents=True)


def test_a_dataset_of_an_earlier_version_is_complete_as_it_is(text):
    """Its manifest says nothing of accents, and no file states the casing."""
    folder, manifest = built(text)
    path = f"{folder}/{manifests.MANIFEST_NAME}"
    values = files.read_json(path)
    del values["strips_accents"]
    for name in ("lower_case", "strip_accents"):
        del values["options"][name]
    files.write_json(path, values)
    files.remove(vocabulary.casing_path(f"{folder}/{vocabulary.FILE_NAME}"))
    _, again = built(text)
    assert again.splits == manifest.splits
    vocab = manifests.read_vocabulary(folder, again)
    assert vocab.is_lower_case and vocab.strips_accents
