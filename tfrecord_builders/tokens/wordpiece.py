"""WordPiece of plain sentences, compiled to machine code.

Most text of most builds is printable ASCII, in which a byte is a character
and all that BERT's tokenizer does before WordPiece is to tell spaces,
punctuation and words apart. So one pass over the bytes does everything: a
word is hashed while it is read, looked up as a whole, and only if it is not in
the vocabulary divided into the longest pieces that are, from its start
(Wu et al. 2016, section 4.1; google-research/bert, tokenization.py).

H = slots of a hash table, N = sentences, T = tokens.
"""

import string
from typing import NamedTuple

import numpy as np

from bert_pretrain import numba_jit
from bert_pretrain.data import vocabulary

# A longer word is [UNK], as google-research/bert has it.
MAX_WORD_CHARS = 100
_IN_WORD, _PUNCTUATION, _SPACE = range(3)  # kinds of bytes
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd: no byte of a word is forgotten
_SPREAD = np.uint64(0xD6E8FEB86659FD93)
_TOP_BITS = np.uint64(32)
_EMPTY = np.uint64(0)


class WordPiece:
    """The tokens of a vocabulary that are ASCII, to look up by their hashes.

    A text is not compared with the token that has its hash: among 64 bits
    two that are alike are met once in 10**14 words.
    """

    def __init__(self, vocab):
        first, others = [], []  # pieces: of a word's start, and behind it
        for i, token in enumerate(vocab.tokens):
            if token.isascii() and not vocab.is_special[i]:
                first.append((token, i))
                if token.startswith(vocabulary.CONTINUATION):
                    others.append((token[len(vocabulary.CONTINUATION) :], i))
        self._tables = *_table(first), *_table(others)
        self._longest = max((len(token) for token, _ in first), default=1)
        self._unknown = vocab.id(vocabulary.UNK)
        self._kinds, self._folded = _classify(vocab.is_lower_case)

    def tokenize(self, sentences, other_ids, other_splits):
        """Tokenizes N sentences, M of which were tokenized elsewhere.

        Args:
          sentences: `Sentences`, M of which are not plain.
          other_ids, other_splits: int32, int64 [M + 1]: the tokens of those.

        Returns:
          int32 [T], and int64 [N + 1]: sentence i is `ids[splits[i]:
          splits[i + 1]]`.
        """
        return _tokenize(
            sentences.encoded,
            sentences.is_plain_N,
            (self._kinds, self._folded),
            self._tables,
            (self._longest, self._unknown),
            (other_ids, other_splits),
        )


class Sentences(NamedTuple):
    """Sentences as they are tokenized: in one array of bytes."""

    encoded: np.ndarray  # uint8, UTF-8 with a line feed behind each
    is_plain_N: np.ndarray  # bool, printable ASCII: what `WordPiece` takes


def encode(sentences):
    """Makes `Sentences` of a list of N strings."""
    text = "\n".join([*sentences, ""])
    if text.count("\n") > len(sentences):  # For BERT they are spaces.
        text = "\n".join(
            [*(sentence.replace("\n", " ") for sentence in sentences), ""]
        )
    encoded = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    return Sentences(encoded, _find_plain(encoded, len(sentences)))


def _classify(is_lower_case):
    """(the kind of each byte, the byte of a word that it counts as or 0)."""
    kinds = np.full(256, _PUNCTUATION, np.uint8)
    folded = np.zeros(256, np.uint8)
    for letter in string.ascii_letters + string.digits:
        kinds[ord(letter)] = _IN_WORD
        folded[ord(letter)] = ord(letter.lower() if is_lower_case else letter)
    kinds[ord(" ")] = _SPACE
    return kinds, folded


def _table(pieces):
    """(hashes, uint64 [H]; ids, int32 [H]) of pairs of text and id.

    H is a power of two; a piece is in the first slot that is free, from the
    one on that its hash tells.
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
    for i in range(len(piece_ids)):
        key = _EMPTY
        for byte in text[bounds[i] : bounds[i + 1]]:
            key = key * _BASE + np.uint64(byte)
        slot = _slot(hashes, key)
        hashes[slot], ids[slot] = key, piece_ids[i]


@numba_jit.compiled
def _slot(hashes, key):
    """The slot that holds `key`, or the one that is free for it."""
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
    """(ids, splits) of sentences with a line feed behind each."""
    other_ids, other_splits = others
    # No token has less than a byte.
    ids = np.empty(len(text) + len(other_ids), np.int32)
    splits = np.zeros(len(is_plain_N) + 1, np.int64)
    # The hash of a word's first 0, 1, 2, … bytes; of what is too long any.
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
def _tokenize_sentence(  # noqa: PLR0913 (a loop's state)
    text, at, classes, tables, settings, hashing, ids
):
    """Fills `ids` with a sentence's; returns (its line feed, how many)."""
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
    """Fills `ids` with the pieces of a word, or [UNK]; returns how many."""
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
