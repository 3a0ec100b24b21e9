"""WordPiece equals that of HuggingFace for any words and vocabulary."""

import random
import string

import numpy as np
import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from bert_pretrain.data import vocabulary
from tfrecord_builders.tokens import wordpiece

NOTHING = np.zeros(0, np.int32), np.zeros(1, np.int64)


def peer(vocab):
    found = tokenizers.Tokenizer(
        models.WordPiece(
            {token: i for i, token in enumerate(vocab.tokens)},
            unk_token=vocabulary.UNK,
            max_input_chars_per_word=100,
        )
    )
    found.normalizer = normalizers.BertNormalizer(lowercase=vocab.is_lower_case)
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return found


def tokenize(vocab, sentences):
    encoded = wordpiece.encode(sentences)
    assert encoded.is_plain_N.all()
    ids, splits = wordpiece.WordPiece(vocab).tokenize(encoded, *NOTHING)
    assert (ids.dtype, splits.dtype) == (np.int32, np.int64)
    return [of_one.tolist() for of_one in np.split(ids, splits[1:-1])]


def random_word(letters, rng, longest):
    return "".join(rng.choices(letters, k=rng.randint(1, longest)))


@pytest.mark.parametrize("is_lower_case", [True, False])
def test_random_words_are_divided_as_by_huggingface(
    is_lower_case,
):
    rng = random.Random(7)
    letters = "abcAB1" if not is_lower_case else "abc1"
    pieces = {random_word(letters, rng, 6) for _ in range(150)}
    vocab = vocabulary.Vocabulary(
        (
            *vocabulary.SPECIAL_TOKENS,
            *sorted(pieces),
            *sorted({f"##{random_word(letters, rng, 4)}z" for _ in range(5)}),
            *sorted({f"##{piece}" for piece in rng.sample(sorted(pieces), 60)}),
            *".,#[",
        ),
        is_lower_case,
    )
    sentences = [
        "".join(
            random_word("abcAB1z", rng, 12) + rng.choice(" ,.;# [")
            for _ in range(rng.randint(0, 12))
        )
        for _ in range(3000)
    ]
    theirs = [found.ids for found in peer(vocab).encode_batch(sentences)]
    assert tokenize(vocab, sentences) == theirs
    unknown = vocab.id(vocabulary.UNK)
    num_unknown = sum(ids.count(unknown) for ids in theirs)
    assert 0.1 < num_unknown / sum(map(len, theirs)) < 0.9


def test_words_of_every_length_are_divided_as_by_huggingface():
    vocab = vocabulary.Vocabulary(
        (*vocabulary.SPECIAL_TOKENS, "a", "##a", "##aaa", "b" * 99), True
    )
    # Also in one sentence, because a long word could affect the next one.
    sentences = [letter * n for n in range(1, 300) for letter in "ab"]
    sentences.append(" ".join(sentences))
    theirs = [found.ids for found in peer(vocab).encode_batch(sentences)]
    assert tokenize(vocab, sentences) == theirs


def test_plain_characters_are_treated_as_by_huggingface():
    characters = [chr(i) for i in range(0x20, 0x7F)]
    others = "\t\r\0\x7f\xa0\xe9\u4eca\ud800"
    assert wordpiece.encode(["", *characters]).is_plain_N.all()
    assert not wordpiece.encode(list(others)).is_plain_N.any()
    vocab = vocabulary.Vocabulary(
        (
            *vocabulary.SPECIAL_TOKENS,
            *string.ascii_letters,
            *(f"##{letter}" for letter in string.ascii_letters),
            *string.punctuation,
        ),
        False,
    )
    sentences = [f"a{c}b" for c in characters] + characters
    theirs = [found.ids for found in peer(vocab).encode_batch(sentences)]
    assert tokenize(vocab, sentences) == theirs


def test_other_sentences_keep_their_places():
    vocab = vocabulary.Vocabulary((*vocabulary.SPECIAL_TOKENS, "a", "b"), True)
    a, b = vocab.id("a"), vocab.id("b")
    ids, splits = wordpiece.WordPiece(vocab).tokenize(
        wordpiece.encode(["é", "a b", "今天", "b\0\na", "b", ""]),
        np.array([70, 71, 80], np.int32),
        np.array([0, 2, 2, 3]),
    )
    assert ids.tolist() == [70, 71, a, b, 80, b]
    assert splits.tolist() == [0, 2, 4, 4, 5, 6, 6]


def test_a_line_feed_within_a_sentence_is_a_space():
    vocab = vocabulary.Vocabulary((*vocabulary.SPECIAL_TOKENS, "a", "b"), True)
    a, b = vocab.id("a"), vocab.id("b")
    assert tokenize(vocab, ["a\nb", "\n", "b"]) == [[a, b], [], [b]]
