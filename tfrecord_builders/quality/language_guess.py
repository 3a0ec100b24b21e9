"""Guesses the language of a text from its first words.

The sentences of a text are found by the rules of its language. A guess is
enough for that, and is a thousand times faster than a model of languages.

N = texts, W = words of all texts, L = languages, H = slots of a hash table.
"""

import functools
import re
from collections.abc import Sequence

import numpy as np

from bert_pretrain import numba_jit
from tfrecord_builders import language_tables
from tfrecord_builders.quality import word_hashes

_NUM_WORDS = 60
# Prose has a larger share, and other text a smaller one by chance. Of the
# Universal Declaration of Human Rights, most languages have 0.2 or more.
_MIN_SHARE = 0.1
_MIN_FREQUENT_WORDS = 3
_SCRIPT_CHARS = 200


def guess(texts: Sequence[str], words: word_hashes.Words) -> list[str]:
    """Guesses the language of each text; empty if it is in none of the table.

    Args:
      words: the words of `texts`.
    """
    codes, keys_H, is_frequent_HL = _frequent_words()
    best_N = _count(words.hashes_W, words.num_words_N, keys_H, is_frequent_HL)
    return [
        codes[best] if best >= 0 else _by_script(text)
        for text, best in zip(texts, best_N.tolist(), strict=True)
    ]


def _by_script(text: str) -> str:
    if text.isascii():
        return ""
    match = _scripts().search(text, 0, _SCRIPT_CHARS)
    return match.lastgroup or "" if match else ""


@functools.cache
def _scripts() -> re.Pattern[str]:
    """Matches letters of a script that one language has, as a group."""
    patterns = []
    for code, entry in language_tables.read("sentences").items():
        if "letters" in entry:
            pattern = f"[{entry['letters']}]{{3}}"
            if "without" in entry:
                others = entry["without"]
                pattern += f"(?![^{others}]{{0,50}}[{others}])"
            patterns.append(f"(?P<{code}>{pattern})")
    return re.compile("|".join(patterns))


@functools.cache
def _frequent_words() -> tuple[list[str], np.ndarray, np.ndarray]:
    """The frequent words of languages, in a hash table.

    Returns:
      codes: of L languages.
      keys_H: uint64, the hashes of the words; 0 in free slots. H is a power of
        two.
      is_frequent_HL: uint8, 1 if the word is frequent in a language.
    """
    table = language_tables.read("sentences")
    codes = [code for code, entry in table.items() if "starters" in entry]
    found = [
        (number, word)
        for number, code in enumerate(codes)
        for key in ("starters", "words")
        for word in table[code].get(key, "").split()
        # Single letters of the Latin alphabet are words of many languages.
        if len(word) > 1 or not word.isascii()
    ]
    words = word_hashes.Words([word for _, word in found])
    firsts = np.cumsum(words.num_words_N) - words.num_words_N
    hashes = words.hashes_W[firsts]
    num_slots = 4 << len(found).bit_length()
    keys_H = np.zeros(num_slots, np.uint64)
    is_frequent_HL = np.zeros((num_slots, len(codes)), np.uint8)
    for (number, _), key, num_words in zip(
        found, hashes, words.num_words_N, strict=True
    ):
        if num_words == 1:  # Not "c'est".
            slot = _slot(keys_H, key)
            keys_H[slot], is_frequent_HL[slot, number] = key, 1
    return codes, keys_H, is_frequent_HL


@numba_jit.compiled
def _slot(keys_H, key):
    """The slot of `key`, or a free slot if the table does not hold it."""
    last = np.uint64(len(keys_H) - 1)
    slot = key & last
    while keys_H[slot] != key and keys_H[slot] != np.uint64(0):
        slot = (slot + np.uint64(1)) & last
    return slot


@numba_jit.compiled
def _count(hashes_W, num_words_N, keys_H, is_frequent_HL):
    """Finds the language with the most frequent words in each text.

    Returns:
      int64 [N], the number of the language; -1 if there are too few words.
    """
    best_N = np.full(len(num_words_N), -1)
    counts_L = np.empty(is_frequent_HL.shape[1], np.int64)
    start = 0
    for text, num_words in enumerate(num_words_N):
        counts_L[:] = 0
        num_read = min(num_words, _NUM_WORDS)
        for key in hashes_W[start : start + num_read]:
            slot = _slot(keys_H, key)
            if keys_H[slot]:
                counts_L += is_frequent_HL[slot]
        best = counts_L.argmax()
        if counts_L[best] >= max(_MIN_FREQUENT_WORDS, _MIN_SHARE * num_read):
            best_N[text] = best
        start += num_words
    return best_N
