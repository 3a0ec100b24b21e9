"""Hashes of the words of texts, computed for many texts at once.

A word is a run of letters, marks and digits. Case is ignored. A script without
spaces between words (Chinese, Thai) has no such runs. There a word is a group
of as many letters, on average, as the same text has for each word in English;
so counts of words and of n-grams mean the same in all scripts. A group begins
at a letter whose score is the lowest among those of its neighbours. The score
is a hash of the letter and the one before, so a passage that is repeated has
the same groups, wherever it stands and however it is spaced.

N = texts, W = words of all texts.
"""

import functools
import unicodedata
from collections.abc import Sequence

import numpy as np

from bert_pretrain import numba_jit

# The rest of a longer text is ignored, to bound the memory.
MAX_CHARS = 1 << 20
SHINGLE_WORDS = 5
# There are no letters after the last assigned ideograph.
_NUM_CODE_POINTS = 0x323B0
# Flags of a character. The bits above them are the letters of a word in its
# script, if that has no spaces.
_IN_WORD, _LETTER, _MARK, _VISIBLE = 1, 2, 4, 8
_GROUP_SHIFT = 4
_CLASSES = {"L": _LETTER, "M": _LETTER | _MARK, "N": 0}
# Scripts without spaces: first and last character, and letters of a word. The
# Universal Declaration of Human Rights has 1.5 letters for each word of its
# English text in Chinese, 1.7 in Yi, 2.2 in Japanese, 4.1 in Thai, 4.3 in Lao,
# 3.6 in Tibetan, 3.5 in Khmer and Burmese, and 3.3 in Javanese script.
_UNSPACED = (
    (0x0E00, 0x0EFF, 4),  # Thai, Lao
    (0x0F00, 0x0FFF, 4),  # Tibetan, whose sign between syllables is no letter
    (0x1000, 0x109F, 4),  # Burmese
    (0xA9E0, 0xA9FF, 4),
    (0xAA60, 0xAA7F, 4),
    (0x1780, 0x17FF, 4),  # Khmer
    (0x1950, 0x19DF, 4),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF, 4),  # Tai Tham
    (0x1B00, 0x1B7F, 4),  # Balinese
    (0xA980, 0xA9DF, 4),  # Javanese
    (0x3005, 0x3006, 2),  # signs of repetition
    (0x3040, 0x30FF, 2),  # kana
    (0x3105, 0x312F, 2),  # Bopomofo
    (0x31A0, 0x31FF, 2),  # Bopomofo, kana
    (0x3400, 0x4DBF, 2),  # ideographs
    (0x4E00, 0x9FFF, 2),
    (0xA000, 0xA48F, 2),  # Yi
    (0xF900, 0xFAFF, 2),  # ideographs
    (0xFF66, 0xFF9F, 2),  # half-width kana
    (0x17000, 0x18DFF, 2),  # Tangut, Khitan
    (0x1AFF0, 0x1B2FF, 2),  # kana, Nushu
    (0x20000, 0x323AF, 2),  # ideographs
)
_ASCII_LOWER_CASE = bytes(range(256)).lower()
_ASCII_OUTSIDE_WORDS = bytes(i for i in range(128) if not chr(i).isalnum())
# Odd, so that it has an inverse modulo 2**64.
_BASE = np.uint64(0x9E3779B97F4A7C15)


class Words:
    """The words in the first MAX_CHARS characters of each text.

    The texts must be clean. The words are found at the first use of a
    property.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    @property
    def hashes_W(self) -> np.ndarray:
        """uint64 [W]: the hash of each word."""
        return self._found[0]

    @property
    def num_words_N(self) -> np.ndarray:
        """int64 [N]: words of each text."""
        return self._found[1]

    @property
    def num_letters_N(self) -> np.ndarray:
        """int64 [N]: letters and marks of each text."""
        return self._found[2]

    @property
    def num_visible_N(self) -> np.ndarray:
        """int64 [N]: characters of each text that are not white space."""
        return self._found[3]

    @functools.cached_property
    def shingles_W(self) -> np.ndarray:
        """uint64 [W]: the `ngrams` of SHINGLE_WORDS words."""
        return ngrams(self.hashes_W, self.num_words_N, SHINGLE_WORDS)

    @functools.cached_property
    def _found(
        self,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        encoded = [
            text[:MAX_CHARS].encode("utf-8", "surrogatepass")
            for text in self._texts
        ]
        sums_W, num_words_N, num_letters_N, num_visible_N = _find_words(
            np.frombuffer(b"".join(encoded), np.uint8),
            np.cumsum([len(text) for text in encoded], dtype=np.int64),
            _kinds(),
            _lower_case(),
        )
        return mix(sums_W), num_words_N, num_letters_N, num_visible_N


def characters(text: str) -> bytes:
    """Joins all words of a text, in lower case and UTF-8.

    All of the text is read, not only MAX_CHARS of it.
    """
    encoded = text.encode("utf-8")
    if text.isascii():  # Four times faster than `_pick_characters`.
        return encoded.translate(_ASCII_LOWER_CASE, _ASCII_OUTSIDE_WORDS)
    return _pick_characters(
        np.frombuffer(encoded, np.uint8), _kinds(), _lower_case()
    ).tobytes()


def ngrams(
    hashes_W: np.ndarray, num_words_N: np.ndarray | Sequence[int], n: int
) -> np.ndarray:
    """Hashes the n-gram that begins at each word: uint64 [W].

    N-grams at the end of a text are shorter, so that a text of fewer than n
    words has n-grams too.
    """
    return mix(_sum_ngrams(hashes_W, np.asarray(num_words_N), odd_factors(n)))


def odd_factors(count: int) -> np.ndarray:
    """Pseudorandom odd factors of a sum that is a hash: uint64 [count]."""
    return mix(np.arange(1, count + 1, dtype=np.uint64)) | np.uint64(1)


def mix(values: np.ndarray) -> np.ndarray:
    """Mixes all bits of each uint64, by the finalizer of splitmix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(
        0xBF58476D1CE4E5B9
    )
    values = (values ^ (values >> np.uint64(27))) * np.uint64(
        0x94D049BB133111EB
    )
    return values ^ (values >> np.uint64(31))


@functools.lru_cache(maxsize=1)
def _kinds() -> np.ndarray:
    """The flags of each code point: uint8."""
    kinds = np.zeros(_NUM_CODE_POINTS, np.uint8)
    for i in range(_NUM_CODE_POINTS):
        category = unicodedata.category(chr(i))[0]
        if category in "LMN":
            kinds[i] = _IN_WORD | _VISIBLE | _CLASSES[category]
        elif category not in "ZC":
            kinds[i] = _VISIBLE
    for first, last, num_letters in _UNSPACED:
        of_script = kinds[first : last + 1]
        of_script[of_script & _LETTER > 0] |= num_letters << _GROUP_SHIFT
    kinds[-1] = _VISIBLE  # Used for all higher code points.
    return kinds


@numba_jit.compiled
def _find_words(encoded, ends_N, kinds, lower_case):
    """Finds the words of texts.

    Args:
      encoded: uint8, all texts in UTF-8, one after another.
      ends_N: int64 [N], the end of each text in `encoded`.
      kinds: see `_kinds`.
      lower_case: see `_lower_case`.

    Returns:
      sums: uint64 [W], sum(c[i] * _BASE**i) over the characters c of each
        word, in lower case; of a group, a sum of those of its letters.
      num_words, num_letters, num_visible: int64 [N], see `Words`.
    """
    sums = np.empty(len(encoded), np.uint64)
    group_sizes = np.empty(len(encoded), np.uint8)  # 0: a word of its own
    num_words, num_letters, num_visible = np.zeros((3, len(ends_N)), np.int64)
    at = size = 0
    for text in range(len(ends_N)):
        is_in_word = has_groups = False
        first = size
        total, power = np.uint64(0), np.uint64(1)
        group_size = 0
        while at < ends_N[text]:
            code, at = _decode(encoded, at)
            kind = kinds[min(code, len(kinds) - 1)]
            num_letters[text] += kind & _LETTER > 0
            num_visible[text] += kind & _VISIBLE > 0
            was_in_word, is_in_word = is_in_word, kind & _IN_WORD > 0
            if not is_in_word:
                continue
            # Without spaces, each letter is a word until they are grouped. A
            # mark belongs to the letter before it.
            if not was_in_word or (
                not kind & _MARK and (group_size or kind >> _GROUP_SHIFT)
            ):
                total, power = np.uint64(0), np.uint64(1)
                group_size = kind >> _GROUP_SHIFT
                has_groups |= group_size > 0
                group_sizes[size] = group_size
                size += 1
            total += np.uint64(lower_case[code]) * power
            power *= _BASE
            sums[size - 1] = total
        if has_groups:
            size = first + _group(sums[first:size], group_sizes[first:size])
        num_words[text] = size - first
    return sums[:size].copy(), num_words, num_letters, num_visible


@numba_jit.compiled
def _group(sums, group_sizes):
    """Groups the letters of a text, in place.

    Args:
      sums: uint64, the words of the text, and the letters to group.
      group_sizes: uint8, for each letter the average size of its group, and 0
        for a word.

    Returns:
      The number of words and groups, with which `sums` begins now.
    """
    scores = np.empty(len(sums), np.uint64)
    previous = np.uint64(0)
    for i in range(len(sums)):
        # The high bits depend on all bits.
        scores[i] = (previous * _BASE + sums[i]) * _BASE
        scores[i] = (scores[i] ^ scores[i] >> np.uint64(32)) * _BASE
        previous = sums[i]
    size = 0
    for i in range(len(sums)):
        if _begins_group(scores, group_sizes, i):
            sums[size] = sums[i]
            size += 1
        else:
            sums[size - 1] = sums[size - 1] * _BASE + sums[i]
    return size


@numba_jit.compiled
def _begins_group(scores, group_sizes, at):
    """Whether no neighbour has a lower score than the letter at `at`.

    Among as many letters as an average group has, one has the lowest score.
    """
    size = group_sizes[at]
    if size == 0 or at == 0 or group_sizes[at - 1] != size:
        return True
    first = at - size // 2
    for i in range(at - 1, max(first, 0) - 1, -1):
        if group_sizes[i] != size:
            break
        if scores[i] < scores[at]:
            return False
    for i in range(at + 1, min(first + size, len(scores))):
        if group_sizes[i] != size:
            break
        if scores[i] < scores[at]:
            return False
    return True


@numba_jit.compiled
def _pick_characters(encoded, kinds, lower_case):
    """Copies the characters that are in words, in lower case and UTF-8."""
    # Only U+023A and U+023E grow in lower case, from two bytes to three.
    picked = np.empty(len(encoded) * 3 // 2 + 1, np.uint8)
    at = size = 0
    while at < len(encoded):
        code, at = _decode(encoded, at)
        if code < 0x80:  # Needs no branch, because _IN_WORD is 1.
            picked[size] = lower_case[code]
            size += kinds[code] & _IN_WORD
            continue
        if code >= len(kinds) or not kinds[code] & _IN_WORD:
            continue
        code = lower_case[code]
        if code < 0x80:  # The lower case of the Kelvin sign is "k".
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


@numba_jit.compiled
def _decode(encoded, at):
    """Decodes the UTF-8 character at `at`.

    Returns:
      The code point, and the position of the next character.
    """
    code = np.int32(encoded[at])
    if code < 0x80:
        return code, at + 1
    length = 2 + (code >= 0xE0) + (code >= 0xF0)
    code &= 0x7F >> length
    for byte in encoded[at + 1 : at + length]:
        code = code << 6 | byte & 0x3F
    return np.int32(code), at + length


@numba_jit.compiled
def _sum_ngrams(hashes_W, num_words_N, factors):
    """sum(hash[i] * factors[i]) over the words of each n-gram."""
    sums_W = np.zeros(len(hashes_W), np.uint64)
    start = 0
    for num_words in num_words_N:
        for i in range(num_words):
            for j in range(min(len(factors), num_words - i)):
                sums_W[start + i] += hashes_W[start + i + j] * factors[j]
        start += num_words
    return sums_W


@functools.cache
def _lower_case() -> np.ndarray:
    """The lower case of each code point: int32.

    A code point whose lower case is several characters is left as it is.
    """
    lower_case = np.arange(_NUM_CODE_POINTS, dtype=np.int32)
    for i in range(_NUM_CODE_POINTS):
        if len(lower := chr(i).lower()) == 1:
            lower_case[i] = ord(lower)
    # The small sigma has a second form for the end of words.
    lower_case[ord("ς")] = ord("σ")
    return lower_case
