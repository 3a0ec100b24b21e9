"""WordPiece for sentences of printable ASCII, compiled to machine code.

Most text is printable ASCII. There a byte is a character, and before WordPiece
BERT's tokenizer only separates spaces, punctuation and words. So one pass over
the bytes is enough. The hash of a word is computed while the word is read, and
the whole word is looked up. If it is not in the vocabulary, it is divided from
its start into the longest pieces in the vocabulary (Wu et al. 2016, section
4.1; google-research/bert, tokenization.py).

H = slots of a hash table, N = sentences, T = tokens.
"""

import string
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bert_pretrain import numba_jit
from bert_pretrain.data import vocabulary

# A longer word is [UNK], as in google-research/bert.
MAX_WORD_CHARS = 100
_IN_WORD, _PUNCTUATION, _SPACE = range(3)  # kinds of bytes
# Odd, so that each byte of a word changes its hash.
_BASE = np.uint64(0x9E3779B97F4A7C15)
_SPREAD = np.uint64(0xD6E8FEB86659FD93)
_TOP_BITS = np.uint64(32)
_EMPTY = np.uint64(0)


class Sentences(NamedTuple):
    """Sentences in one array of bytes."""

    encoded: np.ndarray  # uint8, UTF-8 with a line feed after each sentence
    is_plain_N: np.ndarray  # bool, whether all of it is printable ASCII


class WordPiece:
    """Hash tables of the ASCII tokens of a vocabulary.

    Only hashes are compared, not the text of tokens. With 64 bits, a wrong
    match happens once in 10**14 words.
    """

    def __init__(self, vocab: vocabulary.Vocabulary) -> None:
        first, others = [], []  # pieces at the start of a word, and after it
        for i, token in enumerate(vocab.tokens):
            if token.isascii() and not vocab.is_special[i]:
                first.append((token, i))
                if token.startswith(vocabulary.CONTINUATION):
                    others.append((token[len(vocabulary.CONTINUATION) :], i))
        self._tables = (*_make_table(first), *_make_table(others))
        self._longest = max((len(token) for token, _ in first), default=1)
        self._unknown = vocab.id(vocabulary.UNK)
        self._kinds, self._folded = _classify(vocab.is_lower_case)

    def tokenize(
        self,
        sentences: Sentences,
        other_ids: np.ndarray,
        other_splits: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tokenizes plain sentences, and inserts the tokens of the others.

        M = sentences that are not plain.

        Args:
          sentences: N sentences, plain and others.
          other_ids: int32, the tokens of the sentences that are not plain.
          other_splits: int64 [M + 1], where they begin and end in `other_ids`.

        Returns:
          ids: int32 [T].
          splits: int64 [N + 1]; sentence i is `ids[splits[i]:splits[i + 1]]`.
        """
        return _tokenize(
            sentences.encoded,
            sentences.is_plain_N,
            (self._kinds, self._folded),
            self._tables,
            (self._longest, self._unknown),
            (other_ids, other_splits),
        )


def encode(sentences: Sequence[str]) -> Sentences:
    """Encodes N sentences; line feeds in them become spaces, as in BERT."""
    text = "\n".join([*sentences, ""])
    if text.count("\n") > len(sentences):
        text = "\n".join(
            [*(sentence.replace("\n", " ") for sentence in sentences), ""]
        )
    encoded = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    return Sentences(encoded, _find_plain(encoded, len(sentences)))


def _classify(is_lower_case: bool) -> tuple[np.ndarray, np.ndarray]:
    """Classifies bytes.

    Returns:
      uint8 [256], the kind of each byte. uint8 [256], the byte that is hashed
      for it, which is its lower case if `is_lower_case`; 0 outside of words.
    """
    kinds = np.full(256, _PUNCTUATION, np.uint8)
    folded = np.zeros(256, np.uint8)
    for letter in string.ascii_letters + string.digits:
        kinds[ord(letter)] = _IN_WORD
        folded[ord(letter)] = ord(letter.lower() if is_lower_case else letter)
    kinds[ord(" ")] = _SPACE
    return kinds, folded


def _make_table(
    pieces: list[tuple[str, int]],
) -> tuple[np.ndarray, np.ndarray]:
    """Makes a hash table of pieces, which are (text, id), by linear probing.

    Returns:
      hashes: uint64 [H], where H is a power of two.
      ids: int32 [H].
    """
    num_slots = 2 << max(1, len(pieces)).bit_length()
    hashes, ids = np.zeros(num_slots, np.uint64), np.zeros(num_slots, np.int32)
    text = "".join(piece for piece, _ in pieces).encode("ascii")
    _fill(
        np.frombuffer(text, np.uint8),
        np.cumsum([0, *(len(piece) for piece, _ in pieces)]),
        np.array([i for _, i in pieces], np.int32),
        hashes,
        ids,
    )
    return hashes, ids


@numba_jit.compiled
def _fill(text, bounds, piece_ids, hashes, ids):
    """Puts pieces into `hashes` and `ids`.

    Piece i is `text[bounds[i]:bounds[i + 1]]`.
    """
    for i in range(len(piece_ids)):
        key = _EMPTY
        for byte in text[bounds[i] : bounds[i + 1]]:
            key = key * _BASE + np.uint64(byte)
        slot = _slot(hashes, key)
        hashes[slot], ids[slot] = key, piece_ids[i]


@numba_jit.compiled
def _slot(hashes, key):
    """The slot of `key`, or a free slot if the table does not hold it."""
    last = np.uint64(len(hashes) - 1)
    slot = (key * _SPREAD >> _TOP_BITS) & last
    while hashes[slot] != key and hashes[slot] != _EMPTY:
        slot = (slot + np.uint64(1)) & last
    return slot


@numba_jit.compiled
def _find_plain(encoded, num_sentences):
    is_plain = np.ones(num_sentences, np.bool_)
    number = 0
    for byte in encoded:
        if byte == ord("\n"):
            number += 1
        elif byte < ord(" ") or byte > ord("~"):
            is_plain[number] = False
    return is_plain


@numba_jit.compiled
def _tokenize(text, is_plain_N, classes, tables, settings, others):
    """Tokenizes sentences: see `WordPiece.tokenize`."""
    other_ids, other_splits = others
    # Each token has at least one byte.
    ids = np.empty(len(text) + len(other_ids), np.int32)
    splits = np.zeros(len(is_plain_N) + 1, np.int64)
    # Entry i is the hash of the first i bytes of a word. The last entry is
    # overwritten by words that are too long.
    prefixes = np.zeros(128, np.uint64)
    powers = np.ones(128, np.uint64)
    for i in range(1, 128):
        powers[i] = powers[i - 1] * _BASE
    at = num_tokens = num_others = 0
    for sentence in range(len(is_plain_N)):
        if is_plain_N[sentence]:
            at, num_added = _tokenize_sentence(
                text,
                at,
                classes,
                tables,
                settings,
                (prefixes, powers),
                ids[num_tokens:],
            )
        else:
            start, end = other_splits[num_others], other_splits[num_others + 1]
            num_added = end - start
            ids[num_tokens : num_tokens + num_added] = other_ids[start:end]
            num_others += 1
            while text[at] != ord("\n"):
                at += 1
        at += 1
        num_tokens += num_added
        splits[sentence + 1] = num_tokens
    return ids[:num_tokens].copy(), splits


@numba_jit.compiled
def _tokenize_sentence(  # noqa: PLR0913 (the state of a loop)
    text, at, classes, tables, settings, hashing, ids
):
    """Tokenizes the sentence at `at` into `ids`.

    Returns:
      The position of its line feed, and its number of tokens.
    """
    kinds, folded = classes
    hashes, piece_ids = tables[0], tables[1]
    prefixes, powers = hashing
    longest, unknown = settings
    num_tokens = 0
    while text[at] != ord("\n"):
        kind = kinds[text[at]]
        if kind == _IN_WORD:
            key, length = _EMPTY, 0
            byte = folded[text[at]]
            while byte:
                key = key * _BASE + np.uint64(byte)
                length += 1
                prefixes[min(length, 127)] = key
                at += 1
                byte = folded[text[at]]
            slot = _slot(hashes, key)
            if length > MAX_WORD_CHARS:
                ids[num_tokens] = unknown
                num_tokens += 1
            elif hashes[slot]:
                ids[num_tokens] = piece_ids[slot]
                num_tokens += 1
            else:
                num_tokens += _divide(
                    prefixes[: length + 1],
                    powers,
                    tables,
                    longest,
                    unknown,
                    ids[num_tokens:],
                )
            continue
        if kind == _PUNCTUATION:
            slot = _slot(hashes, np.uint64(text[at]))
            ids[num_tokens] = piece_ids[slot] if hashes[slot] else unknown
            num_tokens += 1
        at += 1
    return at, num_tokens


@numba_jit.compiled
def _divide(prefixes, powers, tables, longest, unknown, ids):
    """Puts the pieces of a word, or [UNK], into `ids`; returns their number.

    Args:
      prefixes: the hash of each prefix of the word, the empty one first.
      powers: the powers of _BASE.
    """
    length = len(prefixes) - 1
    hashes, piece_ids = tables[0], tables[1]
    start = num_pieces = 0
    while start < length:
        for end in range(min(length, start + longest), start, -1):
            key = prefixes[end] - prefixes[start] * powers[end - start]
            slot = _slot(hashes, key)
            if hashes[slot]:
                ids[num_pieces] = piece_ids[slot]
                num_pieces += 1
                start = end
                hashes, piece_ids = tables[2], tables[3]
                break
        else:
            ids[0] = unknown
            return 1
    return num_pieces
