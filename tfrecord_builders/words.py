"""Texts as hashes of their words, many texts at once.

A word is a run of letters, marks and digits, whatever its case. Scripts that
put no spaces between words (Chinese, Japanese, Thai, Lao, Burmese, Khmer)
have a word in each character.

N = texts, W = words of all texts, C = characters of all texts.
"""

import functools
import unicodedata

import numpy as np

from bert_pretrain import machine_code

# Of a text only so much is looked at, which bounds the memory.
MAX_CHARS = 1 << 20
SHINGLE_WORDS = 5
# Above the last assigned ideograph there are no letters.
_NUM_CODE_POINTS = 0x323B0
_IN_WORD, _ALONE, _LETTER, _VISIBLE = 1, 2, 4, 8
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # kana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # ideographs
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9D),  # kana of half width
    (0x1B000, 0x1B16F),
    (0x20000, 0x323AF),
)
# Odd, hence invertible modulo 2**64.
_BASE = 0x9E3779B97F4A7C15


class Words:
    """The words of clean texts, of the first MAX_CHARS of each.

    Each property is computed when it is asked for.
    """

    def __init__(self, texts):
        self._texts = texts

    @functools.cached_property
    def hashes_W(self):
        """uint64."""
        return _hash(self._code_points_C, *self._ranges)

    @functools.cached_property
    def num_words_N(self):
        return np.diff(np.searchsorted(self._ranges[0], self._bounds))

    @functools.cached_property
    def shingles_W(self):
        """uint64, the `ngrams` of SHINGLE_WORDS."""
        return ngrams(self.hashes_W, self.num_words_N, SHINGLE_WORDS)

    @functools.cached_property
    def num_letters_N(self):
        """Letters and marks."""
        return self._count(_LETTER)

    @functools.cached_property
    def num_visible_N(self):
        """Characters that are no white space."""
        return self._count(_VISIBLE)

    @functools.cached_property
    def _lower(self):
        return [text[:MAX_CHARS].lower() for text in self._texts]

    @functools.cached_property
    def _bounds(self):
        return np.cumsum([0, *(len(text) + 1 for text in self._lower)])

    @functools.cached_property
    def _code_points_C(self):
        # A line break behind each text, so that no word reaches into the next.
        return _code_points("\n".join([*self._lower, ""]))

    @functools.cached_property
    def _kinds_C(self):
        return _kinds().take(self._code_points_C, mode="clip")

    @functools.cached_property
    def _ranges(self):
        """Where the words start and end: int64 [W], int64 [W]."""
        return _find_words(self._kinds_C)

    def _count(self, kind):
        sums = np.zeros(len(self._kinds_C) + 1, np.int32)
        np.cumsum(self._kinds_C & kind > 0, out=sums[1:])
        return np.diff(sums[self._bounds])


def characters(text):
    """All characters of the words of a text, without what is between them.

    UTF-8, each in its lower case.
    """
    encoded = np.frombuffer(text.encode("utf-8"), np.uint8)
    return _pick_characters(encoded, _kinds(), _lower_case()).tobytes()


def ngrams(hashes_W, num_words_N, n):
    """The hash of the n-gram that begins at each word: uint64 [W].

    At the end of a text they are shorter, so that a short text has some too.
    """
    num_words, num_texts = len(hashes_W), len(num_words_N)
    # Zeros between the texts, so that no n-gram reaches into the next.
    places_W = np.arange(num_words) + (n - 1) * text_numbers(num_words_N)
    padded = np.zeros(num_words + (n - 1) * num_texts, np.uint64)
    padded[places_W] = hashes_W
    sums_W = np.zeros(num_words, np.uint64)
    for i, factor in enumerate(odd_factors(n)):
        sums_W += padded[places_W + i] * factor
    return mix(sums_W)


def text_numbers(num_words_N):
    """The number of the text that each word is in: int64 [W]."""
    return np.repeat(np.arange(len(num_words_N)), num_words_N)


def odd_factors(count):
    """Odd numbers without a pattern, to sum values under: uint64 [count]."""
    return mix(np.arange(1, count + 1, dtype=np.uint64)) | np.uint64(1)


def mix(values):
    """Spreads each bit of uint64 over all: the finalizer of splitmix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(
        0xBF58476D1CE4E5B9
    )
    values = (values ^ (values >> np.uint64(27))) * np.uint64(
        0x94D049BB133111EB
    )
    return values ^ (values >> np.uint64(31))


@functools.lru_cache(maxsize=1)
def _kinds():
    """What each code point is: flags, uint8."""
    kinds = np.zeros(_NUM_CODE_POINTS, np.uint8)
    for i in range(_NUM_CODE_POINTS):
        category = unicodedata.category(chr(i))[0]
        if category in "LMN":
            kinds[i] = _IN_WORD | _VISIBLE | (_LETTER if category != "N" else 0)
        elif category not in "ZC":
            kinds[i] = _VISIBLE
    for first, last in _UNSPACED:
        mine = kinds[first : last + 1]
        mine[mine & _LETTER > 0] |= _ALONE
    kinds[-1] = _VISIBLE  # Stands for all that is above.
    return kinds


@machine_code.compiled
def _pick_characters(encoded, kinds, lower_case):
    """Of UTF-8 that of the characters in words, in lower case."""
    # Only U+023A and U+023E have more bytes in lower case: three for two.
    picked = np.empty(len(encoded) * 3 // 2 + 1, np.uint8)
    at = size = 0
    while at < len(encoded):
        code = np.int32(encoded[at])
        if code < 0x80:  # without a branch; _IN_WORD is 1
            picked[size] = lower_case[code]
            size += kinds[code] & _IN_WORD
            at += 1
            continue
        length = 2 + (code >= 0xE0) + (code >= 0xF0)
        code &= 0x7F >> length
        for byte in encoded[at + 1 : at + length]:
            code = code << 6 | byte & 0x3F
        at += length
        if code >= len(kinds) or not kinds[code] & _IN_WORD:
            continue
        code = lower_case[code]
        if code < 0x80:  # the Kelvin sign
            picked[size] = code
            size += 1
            continue
        length = 2 + (code >= 0x800) + (code >= 0x10000)
        for i in range(length - 1, 0, -1):
            picked[size + i] = 0x80 | code & 0x3F
            code >>= 6
        picked[size] = 0xF00 >> length & 0xFF | code
        size += length
    return picked[:size]


@functools.cache
def _lower_case():
    """The lower case of each code point, itself where that is several."""
    lower_case = np.arange(_NUM_CODE_POINTS, dtype=np.int32)
    for i in range(_NUM_CODE_POINTS):
        if len(lower := chr(i).lower()) == 1:
            lower_case[i] = ord(lower)
    return lower_case


def _code_points(text):
    if text.isascii():
        return np.frombuffer(text.encode(), np.uint8)
    encoded = text.encode("utf-32-le", "surrogatepass")
    return np.frombuffer(encoded, "<u4")


def _find_words(kinds_C):
    is_in_word = np.zeros(len(kinds_C) + 1, bool)
    is_in_word[1:] = kinds_C & _IN_WORD
    is_alone = np.zeros(len(kinds_C) + 1, bool)
    is_alone[1:] = kinds_C & _ALONE
    # A word begins where none was, and on both sides of a lone character.
    begins = is_in_word[1:] & (~is_in_word[:-1] | is_alone[1:] | is_alone[:-1])
    # The last character is a line break, and a word ends before the next.
    ends = is_in_word[1:-1] & (~is_in_word[2:] | begins[1:])
    return np.flatnonzero(begins), np.flatnonzero(ends) + 1


def _hash(code_points_C, starts_W, ends_W):
    """sum(c[i] * BASE**(i - start)) over each word, from one running sum."""
    num_chars = len(code_points_C)
    powers, inverses = _powers(1 << num_chars.bit_length())
    sums = np.zeros(num_chars + 1, np.uint64)
    np.cumsum(code_points_C * powers[:num_chars], out=sums[1:])
    return mix((sums[ends_W] - sums[starts_W]) * inverses[starts_W])


@functools.lru_cache(maxsize=2)
def _powers(count):
    factors = np.full((2, count), _BASE, np.uint64)
    factors[1] = pow(_BASE, -1, 2**64)
    factors[:, 0] = 1
    return np.cumprod(factors, axis=1)
