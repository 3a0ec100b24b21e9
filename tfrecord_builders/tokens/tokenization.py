r"""Sentences -> token ids, many at once: BERT's normalizing and WordPiece.

Sentences of printable ASCII, which most are, go to `wordpiece`, all others to
TensorFlow Text, three times as slow.

The ids are those of HuggingFace's `BertTokenizerFast`, since that is what the
model will be used with. `tensorflow_text.FastBertTokenizer` alone would
differ: in lower case it also folds by compatibility ("½" -> "1⁄2", "ﬁ" ->
"fi", "ß" -> "ss", "№" -> "no"), it turns a character without a glyph, such as
a soft hyphen, into a space, and it limits a word's bytes and not its
characters. So the text is normalized here, which is cheap where it is ASCII,
and it does the rest: the differences that remain are

*   "[MASK]" and the other special tokens, standing in the text, are
    characters like any other ("[", "mask", "]"); HuggingFace takes them for
    the tokens themselves, and text could then forge them;
*   the 256 ideographs U+2B820 to U+2B91F are words of their own, as for all
    others; HuggingFace misses them;
*   characters whose class is told differently by the Unicode versions that
    Python, TensorFlow Text and HuggingFace hold: rare marks and punctuation,
    most of them newer than Unicode 8 (2015).
"""

import functools
import re
import unicodedata

import numpy as np
import tensorflow as tf
import tensorflow_text

from tfrecord_builders.tokens import wordpiece

# What fits the processor's cache: larger batches are slower again.
_SENTENCES_AT_ONCE = 1000
_CHARS_AT_ONCE = 1 << 18
_MAX_CHAR_BYTES = 4
# Characters that are words of their own, as BERT has it: (first, last).
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
    """Turns sentences into the ids of a vocabulary, no special token added."""

    def __init__(self, vocab):
        self._is_lower_case = vocab.is_lower_case
        self._wordpiece = wordpiece.WordPiece(vocab)
        self._tokenizer = tensorflow_text.FastBertTokenizer(
            list(vocab.tokens),
            token_out_type=tf.int32,
            max_bytes_per_word=_MAX_CHAR_BYTES * wordpiece.MAX_WORD_CHARS,
            lower_case_nfd_strip_accents=False,
        )

    def tokenize(self, sentences):
        """Tokenizes a list of N strings to T ids in all.

        Returns:
          int32 [T], and int64 [N + 1]: sentence i is `ids[splits[i]:
          splits[i + 1]]`.
        """
        encoded = wordpiece.encode(sentences)
        others = [
            sentences[i] for i in np.flatnonzero(~encoded.is_plain_N).tolist()
        ]
        with tf.device("CPU"):
            tokens_of_others = _join(
                self._tokenizer.tokenize(tf.constant(batch))
                for batch in self._prepare(others)
            )
        return self._wordpiece.tokenize(encoded, *tokens_of_others)

    def tokenize_words(self, sentences, segment):
        """Tokenizes, and tells words where they have no spaces between them.

        Args:
          segment: a function of a text to its words, which joined give it.

        Returns:
          What `tokenize` returns, and bool [T]: the ideographs that go on
          with the word before them. What else does so ("##") is not among
          them, since its token tells.
        """
        ragged, is_continuation = [], [np.zeros(0, bool)]
        with tf.device("CPU"):
            for batch in self._prepare(sentences):
                tokens, starts, _ = self._tokenizer.tokenize_with_offsets(
                    tf.constant(batch)
                )
                ragged.append(tokens)
                is_inner, text_starts = _inner_bytes(batch, segment)
                text_starts = np.repeat(text_starts, tokens.row_lengths())
                is_continuation.append(
                    is_inner[text_starts + starts.flat_values.numpy()]
                )
        return *_join(ragged), np.concatenate(is_continuation)

    def _prepare(self, sentences):
        """Yields the sentences as they are given to WordPiece, in batches."""
        return _batches(
            _without_long_words(normalize(sentence, self._is_lower_case))
            for sentence in sentences
        )


def normalize(text, is_lower_case):
    """Makes of `text` what WordPiece is applied to, and learned from."""
    if not (text.isascii() and text.isprintable()):
        text = _strip(text, is_lower_case)
    if is_lower_case:
        text = text.lower()
    return text


def _strip(text, is_lower_case):
    """Removes what leaves no trace in tokens: control characters, accents."""
    if not is_lower_case:
        return _classes().control.sub("", text)
    text = unicodedata.normalize("NFD", text)
    # str.lower knows the sigma at a word's end; BERT's tokenizers do not.
    return _classes().control_or_accent.sub("", text).replace("Σ", "σ")


def _without_long_words(text):
    """Makes words beyond the limit in characters exceed that in bytes too."""
    start = 0
    while len(text) - start > wordpiece.MAX_WORD_CHARS:
        start = text.rfind(" ", start, start + wordpiece.MAX_WORD_CHARS + 1) + 1
        if start == 0:  # no space far and wide: look more closely
            return _classes().long_word.sub(
                lambda match: match[0] * _MAX_CHAR_BYTES, text
            )
    return text


def _batches(sentences):
    batch, num_chars = [], 0
    for sentence in sentences:
        batch.append(sentence)
        num_chars += len(sentence)
        if len(batch) == _SENTENCES_AT_ONCE or num_chars >= _CHARS_AT_ONCE:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch


def _join(ragged):
    """(ids, row splits) of all batches."""
    ids, row_splits, num_tokens = [], [np.zeros(1, np.int64)], 0
    for batch in ragged:
        ids.append(batch.flat_values.numpy())
        row_splits.append(batch.row_splits.numpy()[1:] + num_tokens)
        num_tokens += len(ids[-1])
    return (
        np.concatenate([np.zeros(0, np.int32), *ids]),
        np.concatenate(row_splits),
    )


def _inner_bytes(texts, segment):
    """Where, in the bytes of all texts, ideographs go on with a word.

    Returns:
      bool, one for each byte, true at the first ones of such ideographs; and
      int, one for each text: where it starts.
    """
    words = [
        word
        for text in texts
        for word in (segment(text) if _IDEOGRAPH.search(text) else [text])
    ]
    text = "".join(texts)
    if "".join(words) != text:
        raise ValueError("the segmenter's words are not those of the text")
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
    # Odd from the start of a range to its end.
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
    """Regular expressions of the kinds of characters that tokenizing knows."""

    def __init__(self):
        control, accents, breaks = ["\ufffd"], [], []
        # None of these kinds lies in the planes between.
        for code in [*range(0x20000), *range(0xE0000, 0x110000)]:
            kind = unicodedata.category(chr(code))
            # "\t", "\n", "\r" are control characters that are white space.
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
def _classes():
    return _Classes()


def _any_of(characters):
    """A regular expression that finds them fast in text that has few."""
    # `re` tells by a table whether a character of the first plane is in a
    # class, and by trying every range for the others: keep those out of it.
    first_plane = [c for c in characters if c <= "\uffff"]
    others = [c for c in characters if c > "\uffff"]
    return re.compile(
        f"[{_ranges(first_plane)}\U00010000-\U0010ffff]"
        f"(?:(?<=[\0-\uffff])|(?<=[{_ranges(others)}]))"
    )


def _ranges(characters):
    """The inside of a character class: few ranges, for a small table."""
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
