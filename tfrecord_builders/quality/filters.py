"""Quality filters: which documents are good enough to train on.

The measures and thresholds are those of Rae et al., "Scaling Language Models:
Methods, Analysis & Insights from Training Gopher" (2021), appendix A.1.1,
unless another source is named. There are two differences. Shares are counted
in words (`word_hashes.Words`) instead of characters, so that they mean the
same in scripts without spaces. Gopher drops documents of fewer than 50 words;
here their n-grams are not checked, but their letters and lines are.

N = texts, W = words of all texts.
"""

import re
from collections.abc import Sequence

import numpy as np

from bert_pretrain import numba_jit
from tfrecord_builders.quality import boilerplate, quality_config, word_hashes

# Maximum share of lines that are equal to an earlier line, and the share of
# characters in such lines. Gopher, table A1.
MAX_REPEATED_LINES = 0.3
MAX_REPEATED_LINE_CHARS = 0.2
# For each n: maximum share of words in occurrences of the most frequent
# n-gram. Gopher, table A1.
MAX_TOP_NGRAM = {2: 0.2, 3: 0.18, 4: 0.16}
# For each n: maximum share of words in n-grams that occurred earlier in the
# document. Gopher, table A1.
MAX_REPEATED_NGRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}
# Shares of n-grams mean little in shorter documents.
MIN_WORDS_FOR_NGRAMS = 50
# Texts in these scripts need fewer characters. The numbers are those of
# characters in the English text of the Universal Declaration of Human Rights
# for one letter of its Chinese, Korean and Japanese text.
_DENSE_LETTERS = (
    (re.compile("[\u3400-\u9fff\ua000-\ua48f\uf900-\ufaff]"), 4),
    (re.compile("[\u1100-\u11ff\uac00-\ud7a3]"), 3),
    (re.compile("[\u3040-\u30ff]"), 2),
)
# The language of a document is detected from its first characters.
LANGUAGE_CHARS = 1000

# Recorded in the manifest: the text of a dataset depends on these values, and
# they may differ in another version.
THRESHOLDS = {
    "min_letter_share": quality_config.MIN_LETTER_SHARE,
    "max_repeated_lines": MAX_REPEATED_LINES,
    "max_repeated_line_chars": MAX_REPEATED_LINE_CHARS,
    "max_top_ngram": {str(n): share for n, share in MAX_TOP_NGRAM.items()},
    "max_repeated_ngrams": {
        str(n): share for n, share in MAX_REPEATED_NGRAMS.items()
    },
    "min_words_for_ngrams": MIN_WORDS_FOR_NGRAMS,
    "max_boilerplate_chars": boilerplate.MAX_CHARS,
}

# A document exceeds no limit if its repeated 5-grams and its top 2-gram stay
# below these shares of its words. A repeated 5-gram adds at most five repeated
# words. An n-gram of 6 to 10 words repeats only if its 5-grams repeat, and one
# of 3 or 4 words only if its 2-grams repeat.
_SUSPECT_REPEATS = min(MAX_REPEATED_NGRAMS.values()) / 5
_SUSPECT_TOP = min(share / n for n, share in MAX_TOP_NGRAM.items())


def judge(
    texts: Sequence[str],
    words: word_hashes.Words,
    config: quality_config.FiltersConfig,
) -> list[str | None]:
    """Finds for each text the reason to drop it; None if the text is kept.

    Args:
      words: the words of `texts`.
    """
    has_few_letters_N = (
        words.num_letters_N
        < quality_config.MIN_LETTER_SHARE * words.num_visible_N
    ).tolist()
    repeats_ngrams = _find_ngram_repeaters(words)
    return [
        _reason(text, has_few_letters_N[i], i in repeats_ngrams, config)
        for i, text in enumerate(texts)
    ]


def _reason(
    text: str,
    has_few_letters: bool,
    repeats_ngrams: bool,
    config: quality_config.FiltersConfig,
) -> str | None:
    if _is_too_short(text, config.min_document_chars):
        return "too_short"
    if has_few_letters:
        return "few_letters"
    if _repeats_lines(text):
        return "repeated_lines"
    if repeats_ngrams:
        return "repeated_ngrams"
    if config.language and _detect_language(text) not in config.language:
        return "other_language"
    return None


def _is_too_short(text: str, min_chars: int) -> bool:
    num_chars = len(text)
    if num_chars < min_chars and not text.isascii():
        for letters, weight in _DENSE_LETTERS:
            num_chars += (weight - 1) * len(letters.findall(text))
    return num_chars < min_chars


def _repeats_lines(text: str) -> bool:
    lines = text.split("\n")
    different = set(lines)
    num_repeated = len(lines) - len(different)
    if not num_repeated:
        return False
    num_chars = sum(map(len, lines))
    num_repeated_chars = num_chars - sum(map(len, different))
    return (
        num_repeated > MAX_REPEATED_LINES * len(lines)
        or num_repeated_chars > MAX_REPEATED_LINE_CHARS * num_chars
    )


def _find_ngram_repeaters(words: word_hashes.Words) -> set[int]:
    """Numbers of the texts that exceed a limit for n-grams.

    Cheap counts of 2-grams and 5-grams find the texts that may exceed a limit.
    Only these texts are checked exactly.
    """
    hashes_W, num_words_N = words.hashes_W, words.num_words_N
    bigrams_W = word_hashes.ngrams(hashes_W, num_words_N, 2)
    top_counts_N, _ = _count(bigrams_W, num_words_N)
    _, num_repeats_N = _count(words.shingles_W, num_words_N)
    is_long_N = num_words_N >= MIN_WORDS_FOR_NGRAMS
    may_exceed_top_N = top_counts_N >= _SUSPECT_TOP * num_words_N
    may_exceed_repeats_N = num_repeats_N >= _SUSPECT_REPEATS * num_words_N
    ends_N = np.cumsum(num_words_N)
    found = set()
    for i in np.flatnonzero(
        is_long_N & (may_exceed_top_N | may_exceed_repeats_N)
    ).tolist():
        hashes = hashes_W[ends_N[i] - num_words_N[i] : ends_N[i]]
        if (may_exceed_top_N[i] and _has_frequent_ngram(hashes)) or (
            may_exceed_repeats_N[i] and _has_repeated_ngrams(hashes)
        ):
            found.add(i)
    return found


@numba_jit.compiled
def _count(ngrams_W, num_words_N):
    """Counts the n-grams of each text.

    Returns:
      int64 [N], occurrences of the most frequent n-gram; int64 [N],
      occurrences of all n-grams after their first.
    """
    top_counts_N, num_repeats_N = np.zeros((2, len(num_words_N)), np.int64)
    start = 0
    for text, num_words in enumerate(num_words_N):
        num_slots = 1
        while num_slots < 2 * num_words:
            num_slots *= 2
        last = np.uint64(num_slots - 1)
        counts = np.zeros(num_slots, np.int64)
        keys = np.empty(num_slots, np.uint64)
        for key in ngrams_W[start : start + num_words]:
            slot = key & last
            while counts[slot] and keys[slot] != key:
                slot = (slot + np.uint64(1)) & last
            keys[slot] = key
            num_repeats_N[text] += counts[slot] > 0
            counts[slot] += 1
            top_counts_N[text] = max(top_counts_N[text], counts[slot])
        start += num_words
    return top_counts_N, num_repeats_N


def _has_frequent_ngram(hashes_W: np.ndarray) -> bool:
    """Whether one text exceeds a limit of MAX_TOP_NGRAM."""
    num_words = len(hashes_W)
    for n, limit in MAX_TOP_NGRAM.items():
        ngrams_W = word_hashes.ngrams(hashes_W, [num_words], n)
        count = np.unique(ngrams_W, return_counts=True)[1].max()
        if count > 1 and n * count > limit * num_words:
            return True
    return False


def _has_repeated_ngrams(hashes_W: np.ndarray) -> bool:
    """Whether one text exceeds a limit of MAX_REPEATED_NGRAMS."""
    num_words = len(hashes_W)
    for n, limit in MAX_REPEATED_NGRAMS.items():
        ngrams_W = word_hashes.ngrams(hashes_W, [num_words], n)
        is_repeat = np.ones(num_words, bool)
        is_repeat[np.unique(ngrams_W, return_index=True)[1]] = False
        # Repeats may overlap, so count the words that are in any of them.
        is_covered = np.convolve(is_repeat, np.ones(n))[:num_words] > 0
        num_covered = np.count_nonzero(is_covered)
        if num_covered > limit * num_words:
            return True
        if num_covered <= min(MAX_REPEATED_NGRAMS.values()) * num_words:
            return False  # Longer n-grams cover fewer words.
    return False


def _detect_language(text: str) -> str:
    import py3langid

    return py3langid.classify(text[:LANGUAGE_CHARS])[0]
