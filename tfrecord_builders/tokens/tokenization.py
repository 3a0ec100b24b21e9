"""Turns sentences into token ids: BERT's normalization and WordPiece.

Sentences of printable ASCII, which are most, are tokenized by `wordpiece`. All
others are tokenized by TensorFlow Text, which is three times slower.

The ids are those of HuggingFace's `BertTokenizerFast`, because models are used
with it. `tensorflow_text.FastBertTokenizer` alone gives other ids: with lower
case it also applies compatibility folding ("½" -> "1⁄2", "ﬁ" -> "fi", "ß" ->
"ss", "№" -> "no"), it replaces invisible characters such as the soft hyphen by
a space, and it limits the bytes of a word instead of its characters. So text
is normalized here first. Three differences from HuggingFace remain:

*   Special tokens in the text, such as "[MASK]", are plain characters here
    ("[", "mask", "]"). HuggingFace gives the ids of the special tokens, so
    that a text could contain forged ones.
*   The 256 ideographs U+2B820 to U+2B91F are words of their own here, like all
    other ideographs. HuggingFace does not know them.
*   Python, TensorFlow Text and HuggingFace have different Unicode versions, so
    the class of some characters differs: rare marks and punctuation, most of
    them newer than Unicode 8 (2015).
"""

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_text

from bert_pretrain.data import vocabulary
from tfrecord_builders.tokens import wordpiece

# A batch fits into the processor's cache; larger batches are slower.
_SENTENCES_AT_ONCE = 1000
_CHARS_AT_ONCE = 1 << 18
_MAX_CHAR_BYTES = 4
# Characters that are words of their own in BERT: (first, last).
_IDEOGRAPH_RANGES = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)
_IDEOGRAPHS = "".join(
    f"{chr(first)}-{chr(last)}" for first, last in _IDEOGRAPH_RANGES
)
_IDEOGRAPH = re.compile(f"[{_IDEOGRAPHS}]")
_IDEOGRAPH_BOUNDS = np.array(
    [bound for first, last in _IDEOGRAPH_RANGES for bound in (first, last + 1)]
)


class Tokenizer:
    """Turns sentences into token ids, without adding special tokens.

    N = sentences, T = tokens of all sentences.
    """

    def __init__(self, vocab: vocabulary.Vocabulary) -> None:
        self.vocab = vocab
        self._casing = vocab.is_lower_case, vocab.strips_accents
        self._wordpiece = wordpiece.WordPiece(vocab)
        self._tokenizer = tensorflow_text.FastBertTokenizer(
            list(vocab.tokens),
            token_out_type=tf.int32,
            max_bytes_per_word=_MAX_CHAR_BYTES * wordpiece.MAX_WORD_CHARS,
            lower_case_nfd_strip_accents=False,
        )

    def tokenize(self, sentences: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Tokenizes sentences.

        Returns:
          ids: int32 [T].
          splits: int64 [N + 1]; sentence i is `ids[splits[i]:splits[i + 1]]`.
        """
        encoded = wordpiece.encode(sentences)
        others = [
            sentences[i] for i in np.flatnonzero(~encoded.is_plain_N).tolist()
        ]
        with tf.device("CPU"):
            other_ids, other_splits = _join(
                self._tokenizer.tokenize(tf.constant(batch))
                for batch in self._prepare(others)
            )
        return self._wordpiece.tokenize(encoded, other_ids, other_splits)

    def tokenize_words(
        self, sentences: list[str], split_words: Callable[[str], list[str]]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokenizes sentences, and finds words without spaces between them.

        Args:
          split_words: splits a text into words: see `segmentation.load`.

        Returns:
          ids, splits: as from `tokenize`.
          is_continuation: bool [T], true for ideographs that belong to the
            word of the token before. Tokens that begin with "##" are false,
            because the token itself says so.

        Raises:
          ValueError: if the words, joined, are not the text.
        """
        ragged: list[tf.RaggedTensor] = []
        is_continuation = [np.zeros(0, bool)]
        with tf.device("CPU"):
            for batch in self._prepare(sentences):
                tokens, starts, _ = self._tokenizer.tokenize_with_offsets(
                    tf.constant(batch)
                )
                ragged.append(tokens)
                is_inner, text_starts = _inner_bytes(batch, split_words)
                text_starts = np.repeat(text_starts, tokens.row_lengths())
                is_continuation.append(
                    is_inner[text_starts + starts.flat_values.numpy()]
                )
        ids, splits = _join(ragged)
        return ids, splits, np.concatenate(is_continuation)

    def _prepare(self, sentences: Iterable[str]) -> Iterator[list[str]]:
        """Yields batches of normalized sentences."""
        return _batches(
            _with_unknown_long_words(normalize(sentence, *self._casing))
            for sentence in sentences
        )


def normalize(text: str, lower_case: bool, strip_accents: bool) -> str:
    """Normalizes text before WordPiece is applied to it or learned from it."""
    if not (text.isascii() and text.isprintable()):
        text = _strip(text, strip_accents)
    if lower_case:
        # str.lower has a special sigma for the end of words; BERT has none.
        text = text.replace("Σ", "σ").lower()
    return text


def _strip(text: str, strip_accents: bool) -> str:
    """Removes control characters, and accents if that is requested."""
    if not strip_accents:
        return _classes().control.sub("", text)
    return _classes().control_or_accent.sub(
        "", unicodedata.normalize("NFD", text)
    )


def without_long_words(text: str) -> str:
    """Removes words that are [UNK] because of their length.

    Pieces of them would never be used, and could be too long for a vocabulary.
    """
    return _replace_long_words(text, lambda match: " ")


def _with_unknown_long_words(text: str) -> str:
    """Makes words over the limit of characters exceed that of bytes too.

    TensorFlow Text makes them [UNK], but counts only bytes. So such words are
    repeated.
    """
    return _replace_long_words(text, lambda match: match[0] * _MAX_CHAR_BYTES)


def _replace_long_words(
    text: str, replacement: Callable[[re.Match[str]], str]
) -> str:
    start = 0
    while len(text) - start > wordpiece.MAX_WORD_CHARS:
        start = text.rfind(" ", start, start + wordpiece.MAX_WORD_CHARS + 1) + 1
        if start == 0:  # No space within the limit: search for long words.
            return _classes().long_word.sub(replacement, text)
    return text


def _batches(sentences: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    num_chars = 0
    for sentence in sentences:
        batch.append(sentence)
        num_chars += len(sentence)
        if len(batch) == _SENTENCES_AT_ONCE or num_chars >= _CHARS_AT_ONCE:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch


def _join(
    ragged: Iterable[tf.RaggedTensor],
) -> tuple[np.ndarray, np.ndarray]:
    """Joins batches to (ids, splits): see `Tokenizer.tokenize`."""
    ids, row_splits = [np.zeros(0, np.int32)], [np.zeros(1, np.int64)]
    num_tokens = 0
    for batch in ragged:
        ids.append(batch.flat_values.numpy())
        row_splits.append(batch.row_splits.numpy()[1:] + num_tokens)
        num_tokens += len(ids[-1])
    return np.concatenate(ids), np.concatenate(row_splits)


def _inner_bytes(
    texts: list[str], split_words: Callable[[str], list[str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Finds ideographs that are not the first character of their word.

    Returns:
      bool, one for each byte of all texts in UTF-8: true for the first byte
      of such an ideograph. int64, one for each text: its first byte.
    """
    words = [
        word
        for text in texts
        for word in (split_words(text) if _IDEOGRAPH.search(text) else [text])
    ]
    text = "".join(texts)
    if "".join(words) != text:
        raise ValueError(
            "the words of the segmenter, joined, do not give the text"
        )
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
    # The index into the bounds is odd within a range.
    is_inner = np.searchsorted(_IDEOGRAPH_BOUNDS, codes, side="right") % 2 == 1
    is_inner[np.cumsum([0, *map(len, words[:-1])])[: len(words)]] = False
    num_bytes = np.ones(len(codes), np.int64)
    for first_of_width in (0x80, 0x800, 0x10000):
        num_bytes += codes >= first_of_width
    starts = np.concatenate([[0], np.cumsum(num_bytes)])
    is_inner_byte = np.zeros(starts[-1], bool)
    is_inner_byte[starts[:-1][is_inner]] = True
    num_chars = np.array([len(text) for text in texts])
    return is_inner_byte, starts[np.cumsum(num_chars) - num_chars]


class _Classes:
    """Regular expressions for the character classes of BERT's tokenizer."""

    def __init__(self) -> None:
        control, accents, breaks = ["\ufffd"], [], []
        # The planes between hold no character of these categories.
        for code in [*range(0x20000), *range(0xE0000, 0x110000)]:
            kind = unicodedata.category(chr(code))
            # BERT treats "\t", "\n" and "\r" as white space.
            if kind in ("Cc", "Cf", "Co", "Cs") and code not in (9, 10, 13):
                control.append(chr(code))
            elif kind == "Mn":
                accents.append(chr(code))
            elif kind[0] in "PZ" or code < 0x80 and not chr(code).isalnum():
                breaks.append(chr(code))
        self.control = _any_of(control)
        self.control_or_accent = _any_of(control + accents)
        no_break = f"[^{_ranges(breaks)}{_IDEOGRAPHS}]"
        self.long_word = re.compile(
            f"{no_break}{{{wordpiece.MAX_WORD_CHARS + 1},}}"
        )


@functools.cache
def _classes() -> _Classes:
    return _Classes()


def _any_of(characters: Sequence[str]) -> re.Pattern[str]:
    """A regular expression that is fast in text with few such characters."""
    # For a character of the first plane `re` looks into a table; for others it
    # tries each range. So only a second step tries the ranges of the others.
    first_plane = [c for c in characters if c <= "\uffff"]
    others = [c for c in characters if c > "\uffff"]
    return re.compile(
        f"[{_ranges(first_plane)}\U00010000-\U0010ffff]"
        f"(?:(?<=[\0-\uffff])|(?<=[{_ranges(others)}]))"
    )


def _ranges(characters: Iterable[str]) -> str:
    """The ranges of a character class; few ranges make a small table."""
    codes = sorted(map(ord, characters))
    starts = [
        code
        for i, code in enumerate(codes)
        if i == 0 or codes[i - 1] != code - 1
    ]
    ends = [
        code
        for i, code in enumerate(codes)
        if i == len(codes) - 1 or codes[i + 1] != code + 1
    ]
    return "".join(
        f"{re.escape(chr(start))}-{re.escape(chr(end))}"
        for start, end in zip(starts, ends, strict=True)
    )
