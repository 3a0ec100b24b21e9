"""Chinese words come from a segmenter and are masked as a whole."""

import importlib.util
import itertools

import numpy as np
import pytest

from bert_pretrain import errors
from bert_pretrain.data import vocabulary
from tfrecord_builders.rows import masking, row_builder, rows, rows_config
from tfrecord_builders.tokens import segmentation, tokenization

# Written for this test: words of one to five ideographs, Latin letters and
# numbers in Chinese text, and Chinese words in English text.
PARAGRAPH = [
    "上个星期天，我和妹妹坐地铁去了北京大学的图书馆。",
    "那里收藏着几百万本书，学生们安静地学习自然语言处理和计算机科学。",
    "中午我们在食堂吃了西红柿炒鸡蛋，一共花了23.5元，比外面便宜得多。",
    "妹妹穿着一件新T恤，用iPhone拍了许多照片，还发给了妈妈。",
    "“明年我也要考这所大学！”她认真地说。",
    "The library opens at 8:30, 图书馆 naïve café.",
]


@pytest.fixture
def split_words():
    pytest.importorskip("jieba")
    return segmentation.load("jieba")


@pytest.fixture
def vocab():
    # 柿 is not in the vocabulary.
    text = "".join(PARAGRAPH).lower().replace("柿", "")
    characters = sorted(set(tokenization.normalize(text, True, True)) - {" "})
    return vocabulary.Vocabulary(
        (
            *vocabulary.SPECIAL_TOKENS,
            *characters,
            *(f"##{character}" for character in characters),
        ),
        is_lower_case=True,
    )


def words_of(tokens, is_continuation):
    """Joins tokens to words."""
    words = []
    for token, goes_on in zip(tokens, is_continuation, strict=True):
        if goes_on or token.startswith("##"):
            words[-1] += token.removeprefix("##")
        else:
            words.append(token)
    return words


def test_words_are_those_of_the_segmenter(split_words, vocab):
    ids, splits, is_continuation = tokenization.Tokenizer(vocab).tokenize_words(
        PARAGRAPH, split_words
    )
    found = [
        words_of([vocab.tokens[i] for i in ids[start:end]], flags)
        for start, end, flags in zip(
            splits[:-1],
            splits[1:],
            np.split(is_continuation, splits[1:-1]),
            strict=True,
        )
    ]
    assert {"星期天", "妹妹", "北京大学", "图书馆"} <= set(found[0])
    assert {"学生", "学习", "自然语言", "计算机科学"} <= set(found[1])
    # An unknown ideograph belongs to its word too.
    assert {"食堂", "西红[UNK]", "23", ".", "5"} <= set(found[2])
    assert {"穿着", "iphone", "许多", "照片"} <= set(found[3])
    # The segmenter does not change words without ideographs.
    assert found[5] == [
        *("the library opens at 8 : 30 , 图书馆 naive cafe .".split())
    ]
    # No word contains a border between two words of the segmenter.
    for sentence, words in zip(PARAGRAPH, found, strict=True):
        theirs = split_words(tokenization.normalize(sentence, True, True))
        bounds = set(itertools.accumulate(map(len, theirs)))
        at = 0
        for word in words:
            text = word.replace("[UNK]", "柿")
            at = tokenization.normalize(sentence, True, True).index(text, at)
            assert not bounds & set(range(at + 1, at + len(text))), word
            at += len(text)


def test_a_segmenter_does_not_change_ids(split_words, vocab):
    tokenizer = tokenization.Tokenizer(vocab)
    texts = [*PARAGRAPH, "", "plain text", *PARAGRAPH * 300]
    ids, splits = tokenizer.tokenize(texts)
    found_ids, found_splits, flags = tokenizer.tokenize_words(
        texts, split_words
    )
    np.testing.assert_array_equal(found_ids, ids)
    np.testing.assert_array_equal(found_splits, splits)
    assert len(flags) == len(ids) and flags.dtype == bool
    # The same in every batch.
    first = flags[: splits[6]]
    np.testing.assert_array_equal(
        flags[splits[8] :],
        np.tile(first, len(flags[splits[8] :]) // len(first)),
    )
    assert not flags[splits[6] : splits[8]].any()


def test_chinese_words_are_masked_whole(split_words, vocab):
    ids, splits, is_continuation = tokenization.Tokenizer(vocab).tokenize_words(
        PARAGRAPH * 200, split_words
    )
    built, _ = row_builder.build(
        rows.Tokens(ids, splits[1:], splits[6::6], is_continuation),
        rows_config.RowsConfig(seq_length=128),
        seed=0,
    )
    features = built.features(128, vocab)
    goes_on = features.pop("is_continuation")
    unmasked = features["input_ids"]
    features |= masking.mask(
        unmasked,
        features["attention_mask"],
        vocab,
        rows_config.MaskingConfig(masking="whole_word", segmenter="jieba"),
        np.random.default_rng(0),
        goes_on,
    )
    is_chosen = np.zeros(unmasked.shape, bool)
    places = np.nonzero(features["masked_lm_weights"])
    is_chosen[places[0], features["masked_lm_positions"][places]] = True
    # [UNK] is never predicted, so it divides its word.
    is_known = ~vocab.is_special[unmasked]
    together = goes_on[:, 1:] & is_known[:, 1:] & is_known[:, :-1]
    assert together.sum() > 5000
    np.testing.assert_array_equal(
        is_chosen[:, 1:][together], is_chosen[:, :-1][together]
    )
    assert is_chosen[:, 1:][together].any()


def test_a_segmenter_that_changes_the_text_is_an_error(vocab):
    with pytest.raises(ValueError, match="do not give the text"):
        tokenization.Tokenizer(vocab).tokenize_words(
            ["图书馆"], lambda text: ["图书"]
        )


def test_no_sentences_have_no_words(split_words, vocab):
    ids, splits, flags = tokenization.Tokenizer(vocab).tokenize_words(
        [], split_words
    )
    assert (ids.tolist(), splits.tolist(), flags.tolist()) == ([], [0], [])


def test_a_missing_segmenter_is_a_user_error(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.UserError, match=r"pip install .*\[chinese\]"):
        rows_config.MaskingConfig(masking="whole_word", segmenter="jieba")
    assert segmentation.load("none") is None
