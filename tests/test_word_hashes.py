"""Words are found in any script, and their hashes depend only on them."""

import unicodedata

import numpy as np
import pytest

from helpers import prose
from tfrecord_builders.quality import word_hashes

TEXTS = [
    "The cat, the CAT sat.",
    "今天天气 ok2",
    "",
    "ที่นี่",
    "Ünïcode naïve THÉ cat",
    "हिन्दी में",
    "🙂 — …",
]


def hashes_of(text, among=()):
    before, after = list(among[:1]), list(among[1:])
    found = word_hashes.Words([*before, text, *after])
    ends = np.cumsum([0, *found.num_words_N])
    i = len(before)
    return found.hashes_W[ends[i] : ends[i + 1]].tolist()


def test_words_are_runs_of_letters_marks_and_digits():
    found = word_hashes.Words(TEXTS)
    # Thai has no spaces: its three letters and their marks are one group.
    assert found.num_words_N.tolist() == [5, 4, 0, 1, 4, 2, 0]
    assert found.num_letters_N.tolist() == [15, 6, 0, 6, 18, 9, 0]
    assert found.num_visible_N.tolist() == [17, 7, 0, 6, 18, 9, 3]


def test_the_same_text_has_about_as_many_words_in_every_script():
    num_words = word_hashes.Words(list(prose.NEWS.values())).num_words_N
    shares = dict(zip(prose.NEWS, num_words / num_words[0], strict=True))
    assert min(shares.values()) > 0.5, shares
    assert max(shares.values()) < 1.5, shares


@pytest.mark.parametrize("language", ["th", "lo", "km", "my", "zh", "ja"])
def test_a_passage_has_the_same_words_wherever_it_stands(language):
    text = prose.NEWS[language]
    words = hashes_of(text)
    # Only the words at its ends depend on what is around it.
    again = hashes_of(
        f"{prose.NEWS['th'][7:30]}{text}{prose.NEWS['km'][:9]}{text[5:25]}"
    )
    assert len(set(words) - set(again)) <= 2
    # Spaces and punctuation do not matter.
    assert hashes_of("".join(c for c in text if c not in " 。，、။។")) == words
    # One other letter changes at most the words around it.
    middle = len(text) // 2
    other = hashes_of(text[:middle] + text[3] * 2 + text[middle + 1 :])
    assert len(set(words) - set(other)) <= 4


def test_a_letter_on_and_on_is_many_words():
    # Otherwise such text would be too short for the filters.
    for text in ("哈" * 400, "ก็" * 400, "にゃ" * 400, "5" * 400):
        assert len(hashes_of(text)) >= (1 if text[0] == "5" else 100), text


def test_characters_are_those_of_words_only():
    lengths = [len(word_hashes.characters(text).decode()) for text in TEXTS]
    assert lengths == [15, 7, 0, 6, 18, 9, 0]
    found = word_hashes.characters(
        "Ⅷ. Ⱥ—ÉΣ, Ж '𝔘' 𐐀𠀀!" + "\U0010ffff"
    ).decode()
    assert found == "ⅷⱥéσж𝔘𐐨𠀀"
    assert hashes_of("ΟΔΥΣΣΕΥΣ") == hashes_of("οδυσσευς")


def test_lower_case_is_that_of_python():
    for i in [*range(0x80), *range(0xA0, 0xD800), *range(0x10000, 0x1F000)]:
        lower = chr(i).lower()
        is_in_word = unicodedata.category(chr(i))[0] in "LMN"
        expected = lower if len(lower) == 1 else chr(i)
        # The small sigma has another form at the end of a word.
        expected = expected.replace("ς", "σ")
        found = word_hashes.characters(f"{chr(i)}.").decode()
        assert found == expected * is_in_word, hex(i)


def test_hash_of_a_word_ignores_case_and_other_words():
    the, cat, _, again, sat = hashes_of("The cat, the CAT sat.")
    assert (again, len({the, cat, sat})) == (cat, 3)
    for among in ([], ["x"], ["今天", "a b"], ["word " * 999, "ö"]):
        assert hashes_of("cat", among) == [cat]
        assert hashes_of("हिन्दी में", among) == hashes_of("हिन्दी में")
    # Words differ by order of letters, by length, by a leading zero.
    assert len({*hashes_of("ab ba aba abab a aa \x00a aab")}) == 7


def test_many_words_have_different_hashes():
    numbers = [f"{i:x}" for i in range(150_000)]
    found = word_hashes.Words([" ".join(numbers)])
    assert found.num_words_N[0] == 150_000
    assert len(np.unique(found.hashes_W)) == 150_000


def test_hashes_never_change():
    # Temporary files of an earlier run and of other machines must agree.
    assert hashes_of("BERT 今") == [
        4199904688046831801,
        18290394670120981357,
    ]


def test_ngrams_stay_within_a_text_and_depend_on_order():
    found = word_hashes.Words(["a b c a b", "a b", "b a"])
    bigrams = word_hashes.ngrams(found.hashes_W, found.num_words_N, 2).tolist()
    ab, bc, ca, ab_again, b_end, ab_second, _, ba, a_end = bigrams
    assert ab == ab_again == ab_second
    assert len({ab, bc, ca, b_end, ba, a_end}) == 6
    assert bigrams[6] == b_end


def test_only_the_beginning_of_a_long_text_is_read(monkeypatch):
    monkeypatch.setattr(word_hashes, "MAX_CHARS", 4)
    assert word_hashes.Words(["a b c d e"]).num_words_N.tolist() == [2]
