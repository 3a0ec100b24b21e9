"""Learns a WordPiece vocabulary from text."""

import collections
from collections.abc import Iterator, Sequence

import numpy as np
import tokenizers
import tqdm
from tokenizers import models, normalizers, pre_tokenizers, trainers

from bert_pretrain import errors
from bert_pretrain.data import vocabulary
from tfrecord_builders.quality import drop_reasons
from tfrecord_builders.sources import documents
from tfrecord_builders.tokens import learn_config, sentences, tokenization

_UNIT_BYTES = 1 << 24
_MIN_FREQUENCY = 2
# Share of all characters in the text that single-character tokens cover.
_CHARACTER_COVERAGE = 0.9999
# Maximum share of single characters in the vocabulary; the rest is for longer
# pieces.
_MAX_ALPHABET_FRACTION = 0.5
_TEXTS_AT_ONCE = 1000
_MEASURED_CHARS = 1 << 21


def learn(
    texts: Sequence[str],
    vocab_size: int,
    lower_case: bool,
    strip_accents: bool | None = None,
) -> vocabulary.Vocabulary:
    """Learns a vocabulary.

    It is smaller than `vocab_size` if too few pieces occur twice in the texts.

    Args:
      lower_case: whether text is lower-cased.
      strip_accents: whether accents are removed. None: if the text is
        lower-cased, and most of its letters have a case. In other scripts,
        marks are vowels or other sounds.

    Raises:
      UserError: if the texts have no character of which a token can be made.
    """
    if strip_accents is None:
        strip_accents = lower_case and _share_with_case(texts) > 0.5
    texts = [
        tokenization.without_long_words(
            tokenization.normalize(text, lower_case, strip_accents)
        )
        for text in texts
    ]
    # HuggingFace's trainer numbers the pieces "##a" in the order of a hash map,
    # which differs in every process, and breaks ties by these numbers. Its
    # result is repeatable if all single characters already have numbers. So a
    # first run without merges finds which characters occur as "##a", and the
    # second run gets all single characters as special tokens.
    characters = _characters(texts)
    found = set(_train(texts, [], characters, vocab_size=0))
    alphabet = _fit_alphabet(
        characters, found, int(vocab_size * _MAX_ALPHABET_FRACTION)
    )
    tokens = _train(
        texts,
        [*vocabulary.SPECIAL_TOKENS, *alphabet],
        [token for token in alphabet if len(token) == 1],
        vocab_size,
    )
    if len(tokens) == len(vocabulary.SPECIAL_TOKENS):
        raise errors.UserError(
            "the text has no word of which a token can be made; give more text."
        )
    return vocabulary.Vocabulary(tuple(tokens), lower_case, strip_accents)


def read_sample(config: learn_config.LearnConfig) -> list[str]:
    """Reads the documents of random spans of the input.

    Raises:
      UserError: if no document was read.
    """
    texts: list[str] = []
    num_bytes = 0
    dropped: collections.Counter[str] = collections.Counter()
    for text in _read_texts(config, dropped):
        texts.append(text)
        num_bytes += len(text.encode())
        if num_bytes >= config.max_sample_mb << 20:
            break
    inputs = ", ".join(config.source.input)
    num_read = len(texts) + dropped.total()
    loss = drop_reasons.find_loss(num_read, dropped)
    if not texts:
        raise errors.UserError(
            f"no document of {inputs} was kept: "
            f"{loss or drop_reasons.count(num_read, dropped)}."
        )
    if loss:
        errors.warn(f"{inputs}: {loss}.")
    return texts


def _read_texts(
    config: learn_config.LearnConfig, dropped: collections.Counter[str]
) -> Iterator[str]:
    """Yields the texts of random spans, and counts the documents dropped."""
    units = documents.plan(config.source, _UNIT_BYTES)
    order = np.random.default_rng(0).permutation(len(units))
    spans = [span for i in order for span in units[i]]
    num_texts = 0
    total = sum(span.num_bytes for span in spans)
    with tqdm.tqdm(
        total=total, desc="read", unit="B", unit_scale=True, mininterval=1
    ) as bar:
        for span in spans:
            consumed = 0
            for item, position in documents.read(span, config.source):
                bar.update(position - consumed)
                consumed = position
                if isinstance(item, documents.Dropped):
                    dropped[item.reason] += 1
                    continue
                num_texts += 1
                bar.set_postfix(documents=num_texts, refresh=False)
                yield item.text
            bar.update(span.num_bytes - consumed)


def _share_with_case(texts: Sequence[str]) -> float:
    """The share of letters that have a case, in the beginning of the texts."""
    num_letters = num_with_case = num_chars = 0
    for text in texts:
        for character, count in collections.Counter(text).items():
            if character.isalpha():
                num_letters += count
                num_with_case += count * (
                    character.lower() != character.upper()
                )
        num_chars += len(text)
        if num_chars > _MEASURED_CHARS:
            break
    return num_with_case / max(1, num_letters)


def _characters(texts: Sequence[str]) -> list[str]:
    """The characters of nearly all text, most frequent first."""
    counts = np.zeros(0x110000, np.int64)
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        joined = "".join(texts[start : start + _TEXTS_AT_ONCE])
        codes = np.frombuffer(joined.encode("utf-32-le"), np.uint32)
        counts += np.bincount(codes, minlength=len(counts))
    counts[[code for code in np.flatnonzero(counts) if chr(code).isspace()]] = 0
    # A stable sort orders equally frequent characters by code point.
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    share = np.cumsum(counts[order]) / max(1, counts.sum())
    size = int(np.searchsorted(share, _CHARACTER_COVERAGE)) + 1
    # ASCII characters are kept even if they are rare.
    return [
        chr(code) for i, code in enumerate(order) if i < size or code < 0x80
    ]


def _fit_alphabet(
    characters: Sequence[str], found: set[str], max_size: int
) -> list[str]:
    """Takes the most frequent characters, each as "a" and "##a" if found.

    Returns:
      At most `max_size` tokens, sorted.
    """
    alphabet: list[str] = []
    for character in characters:
        pieces = {character, vocabulary.CONTINUATION + character} & found
        if len(alphabet) + len(pieces) > max_size:
            break
        alphabet.extend(pieces)
    return sorted(alphabet, key=lambda piece: (len(piece), piece))


def _train(
    texts: Sequence[str],
    first: list[str],
    characters: list[str],
    vocab_size: int,
) -> list[str]:
    """Runs HuggingFace's trainer; its tokens begin with those of `first`."""
    model = tokenizers.Tokenizer(models.WordPiece(unk_token=vocabulary.UNK))
    # `tokenization.normalize` has already done the rest of normalization.
    model.normalizer = normalizers.BertNormalizer(
        clean_text=False,
        handle_chinese_chars=True,
        strip_accents=False,
        lowercase=False,
    )
    model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    model.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=vocab_size,
            min_frequency=_MIN_FREQUENCY,
            special_tokens=first,
            initial_alphabet=characters,
            limit_alphabet=len(characters),
            show_progress=False,
            continuing_subword_prefix=vocabulary.CONTINUATION,
        ),
    )
    ids = model.get_vocab()
    # The trainer knows other characters as punctuation than Python, so a word
    # may still be too long for it.
    return sorted(
        (token for token in ids if not vocabulary.is_too_long(token)),
        key=lambda token: ids[token],
    )


def measure(
    vocab: vocabulary.Vocabulary, texts: Sequence[str]
) -> tuple[float, float]:
    """Measures on a sample: share of [UNK] among tokens, tokens per word."""
    sample: list[str] = []
    num_chars = 0
    for text in texts[:: max(1, len(texts) // 1000)]:
        sample += sentences.split(text)
        num_chars += len(text)
        if num_chars >= _MEASURED_CHARS:
            break
    ids, _ = tokenization.Tokenizer(vocab).tokenize(sample)
    num_words = int(np.count_nonzero(~vocab.is_continuation[ids]))
    num_unknown = np.count_nonzero(ids == vocab.id(vocabulary.UNK))
    return num_unknown / max(1, len(ids)), len(ids) / max(1, num_words)
