"""Token ids equal those of HuggingFace, except for known differences."""

import functools
import inspect
import pydoc_data.topics
import unicodedata

import numpy as np
import pytest
import tokenizers
import transformers
from tokenizers import models, normalizers, pre_tokenizers

from bert_pretrain.data import vocabulary
from tfrecord_builders.tokens import sentences, tokenization, vocabulary_learner

# Written for this test: accents, scripts, symbols, invisible characters.
SCRIPTS = """\
Zoë's café in São Paulo serves crème brûlée; naïve Ångström, İstanbul, Dvořák.
Straße, STRASSE, ﬁnance, Ĳsselmeer, ſ, ŉ, ½ inch, 5 m², №5, 10 µg, ™, Ⅷ, ①, ﷼.
Ὀδυσσεύς και ΟΔΥΣΣΕΥΣ, Σίσυφος ΣΟΦΟΣ. Москва — столица; ёлка и йод, ЁЛКА.
今天天气很好。我们去公园吧！東京は日本の首都です。カタカナとひらがな、ﾊﾝｶｸ。
서울은 대한민국의 수도이다. 한국어. กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย
السلام عليكم، كيف حالك؟ שָׁלוֹם עולם. हिन्दी में यह एक वाक्य है। क्षत्रिय
Emoji 😀 👩‍👩‍👧 🇩🇪 ❤️ 👍🏽 stand, non\u2011breaking\u00a0space, soft\u00adhyphen.
zero\u200bwidth\u200c \u200djoiner\ufeff, \u202eleftward\u202c, A\u0301\u0323.
Tabs\tand \x07bells\x01, $5 + £3 = ~8 < 10 ^ `code` |x| \u2028line\u2029 \x85.
e=mc², don't, "quotes", “quotes”, co-op, a_b, a/b, http://x.org/?q=1&r=2#s, @me
Private \ue000use, replacement \ufffd, unassigned \u0378, lone [ and ] and ##.
"""


@functools.cache
def _real_text():
    """English prose and code from the Python installation."""
    topics = "\n".join(pydoc_data.topics.topics.values())[:400_000]
    return topics + inspect.getsource(inspect)


@functools.cache
def _vocabulary(is_lower_case, strips_accents=None):
    if strips_accents is None:
        strips_accents = is_lower_case
    return vocabulary_learner.learn(
        [_real_text(), *SCRIPTS.split("\n") * 20],
        3000,
        is_lower_case,
        strips_accents,
    )


def _peer(vocab, tmp_path):
    path = str(tmp_path / "vocab.txt")
    vocab.write(path)
    return transformers.BertTokenizerFast(
        path,
        do_lower_case=vocab.is_lower_case,
        strip_accents=vocab.strips_accents,
    )


def _lists(tokenizer, texts):
    ids, splits = tokenizer.tokenize(texts)
    return [
        ids[start:end].tolist()
        for start, end in zip(splits[:-1], splits[1:], strict=True)
    ]


def _texts():
    # Long words and other hard cases, which are not split into sentences.
    words = ["x" * n for n in (99, 100, 101, 400, 401, 5000)]
    words += [
        "é" * 100,
        "é" * 101,
        "ไ" * 100,
        "ไ" * 101,
        "😀" * 100,
        "😀" * 101,
        "中" * 300,
        "." * 300,
        "a." * 200,
        "y" * 90 + "\u0301" * 20,
        "y" * 100 + "中" + "y" * 101,
    ]
    return (
        sentences.split(_real_text())
        + SCRIPTS.split("\n")
        + words
        + [f"{word}, {word} on" for word in words]
    )


@pytest.mark.parametrize(
    "is_lower_case, strips_accents",
    [(True, True), (True, False), (False, False), (False, True)],
)
def test_tokens_are_those_of_huggingface(
    is_lower_case, strips_accents, tmp_path
):
    vocab = _vocabulary(is_lower_case, strips_accents)
    texts = _texts()
    ours = _lists(tokenization.Tokenizer(vocab), texts)
    theirs = _peer(vocab, tmp_path)(texts, add_special_tokens=False)
    for text, mine, other in zip(texts, ours, theirs["input_ids"], strict=True):
        assert mine == other, text
    assert sum(map(len, ours)) > 100_000


@pytest.mark.parametrize("token", vocabulary.SPECIAL_TOKENS)
def test_special_tokens_in_the_text_are_plain_characters(token, tmp_path):
    """A known difference: HuggingFace gives the ids of special tokens."""
    for is_lower_case in (True, False):
        vocab = _vocabulary(is_lower_case)
        text = f"the {token} of{token}{token.lower()}"
        (ids,) = _lists(tokenization.Tokenizer(vocab), [text])
        assert vocab.id(token) not in set(ids) - {vocab.id(vocabulary.UNK)}
        assert [vocab.tokens[i] for i in ids].count("[") == 3
        assert (
            vocab.id(token)
            in _peer(vocab, tmp_path)(text, add_special_tokens=False)[
                "input_ids"
            ]
        )
    # Brackets become [UNK] if the vocabulary has no brackets.
    bare = vocabulary.Vocabulary((*vocabulary.SPECIAL_TOKENS, "mask"), True)
    assert _lists(tokenization.Tokenizer(bare), ["[MASK]"]) == [
        [bare.id("[UNK]"), bare.id("mask"), bare.id("[UNK]")]
    ]


def test_ideographs_unknown_to_huggingface_are_words():
    """A known difference: U+2B820 to U+2B91F."""
    code_points = [0x2B81F, 0x2B820, 0x2B91F, 0x2B920]
    texts = [f"a{chr(code)}b" for code in code_points]
    vocab = _characters_vocabulary(set("".join(texts)))
    ours = _lists(tokenization.Tokenizer(vocab), texts)
    is_own_word = [
        len(ids) == 3 and not vocab.is_continuation[ids].any() for ids in ours
    ]
    assert is_own_word == [True] * 4
    theirs = [
        encoding.ids for encoding in _bare_peer(vocab).encode_batch(texts)
    ]
    assert [
        mine == other for mine, other in zip(ours, theirs, strict=True)
    ] == [True, False, False, True]


@pytest.mark.parametrize("is_lower_case", [True, False])
def test_characters_of_unicode_3_are_treated_alike(is_lower_case):
    """Except those whose class changed in a later version of Unicode."""
    known = unicodedata.ucd_3_2_0
    texts = [
        f"a{chr(code)}b"
        for code in [
            *range(0xD800),
            *range(0xE000, 0x10000),
            *range(0x1D000, 0x1D800),
            0x20000,
            0x2A6D6,
            0x2F800,
            0xE0001,
            0xE0041,
            0xF0000,
            0x10FFFD,
        ]
        if known.category(chr(code)) != "Cn"
    ]
    vocab = _characters_vocabulary(
        {
            character
            for text in texts
            for character in tokenization.normalize(
                text, is_lower_case, is_lower_case
            )
        },
        is_lower_case,
    )
    ours = _lists(tokenization.Tokenizer(vocab), texts)
    theirs = _bare_peer(vocab).encode_batch(texts)
    different = {
        text[1]
        for text, mine, other in zip(texts, ours, theirs, strict=True)
        if mine != other.ids
    }
    assert len(texts) > 50_000
    # U+1734 has another class in Python 3.11 and later.
    assert different - {"\u1734"} == set(
        "\u166d\u1885\u1886" if is_lower_case else "\u166d"
    )


def _characters_vocabulary(characters, is_lower_case=True):
    characters = sorted(
        c
        for c in characters
        if not (c.isspace() or unicodedata.category(c).startswith("C"))
    )
    return vocabulary.Vocabulary(
        (
            *vocabulary.SPECIAL_TOKENS,
            *characters,
            *(f"##{character}" for character in characters),
        ),
        is_lower_case,
    )


def _bare_peer(vocab):
    """The BERT tokenizer of HuggingFace without special tokens."""
    peer = tokenizers.Tokenizer(
        models.WordPiece(
            {token: i for i, token in enumerate(vocab.tokens)},
            unk_token=vocabulary.UNK,
            max_input_chars_per_word=100,
        )
    )
    peer.normalizer = normalizers.BertNormalizer(lowercase=vocab.is_lower_case)
    peer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return peer


def test_batch_size_does_not_matter(monkeypatch):
    texts = _texts()[:500] + ["", "\u200b", " "] + SCRIPTS.split("\n")
    tokenizer = tokenization.Tokenizer(_vocabulary(True))
    expected = tokenizer.tokenize(texts)
    monkeypatch.setattr(tokenization, "_SENTENCES_AT_ONCE", 7)
    monkeypatch.setattr(tokenization, "_CHARS_AT_ONCE", 300)
    found = tokenizer.tokenize(texts)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)
    ids, splits = expected
    assert (ids.dtype, splits.dtype) == (np.int32, np.int64)
    assert len(splits) == len(texts) + 1
    assert splits[0] == 0 and splits[-1] == len(ids)
    assert (np.diff(splits)[500:503] == 0).all()


def test_no_sentences_give_no_tokens():
    ids, splits = tokenization.Tokenizer(_vocabulary(True)).tokenize([])
    assert ids.tolist() == [] and splits.tolist() == [0]
    assert (ids.dtype, splits.dtype) == (np.int32, np.int64)


def test_invalid_unicode_is_ignored():
    # JSON may contain half of a surrogate pair.
    tokenizer = tokenization.Tokenizer(_vocabulary(True))
    broken, whole = _lists(tokenizer, ["the \ud83d of", "the  of"])
    assert broken == whole


def test_normalizing_twice_changes_nothing():
    # A vocabulary is lower case if all of its tokens are in lower case.
    for code in [*range(0xD800), *range(0xE000, 0x1F000)]:
        text = tokenization.normalize(f"{chr(code)}", True, True)
        assert tokenization.normalize(text, True, True) == text == text.lower()
