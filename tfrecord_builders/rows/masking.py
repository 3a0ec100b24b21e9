"""Choosing the tokens that BERT must predict, and hiding them.

The procedure is that of the BERT paper (Devlin et al. 2019, section 3.1 and
appendix A.1); whole words are taken as in google-research/bert. Tokens are
chosen in units that are hidden together: a token is a unit of one.

Spans (SpanBERT, Joshi et al. 2019, section 3.1) and n-grams (ALBERT, Lan et
al. 2019, section 4.1) are units of several words. A row is divided into them
from its start, each of a length drawn anew, and of these some are chosen, so
that they never overlap and words are hidden about as often as one another. As
in SpanBERT the last one is cut, after a word, to what is left of the budget.

N = rows, S = tokens of a row, P = max_predictions_per_seq, K = all tokens
chosen in some rows.
"""

import dataclasses
from typing import Literal

import numpy as np

from bert_pretrain import errors, options
from bert_pretrain.data import vocabulary
from tfrecord_builders.tokens import segmentation

# How often a unit is of one word, two, three, …, in proportion.
_UNIT_WEIGHTS = {
    # SpanBERT: geometric with p = 0.2, of at most 10 words; 3.8 in the mean.
    "span": 0.8 ** np.arange(10),
    # ALBERT: a length of n, at most 3, in proportion to 1 / n.
    "ngram": 1 / np.arange(1, 4),
}
# What fits the processor's cache. Part of what a seed means: the random
# numbers are drawn for so many rows at a time.
_ROWS_AT_ONCE = 512


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskingConfig(options.Options):
    """Which tokens are predicted, and what stands in their place."""

    masking: Literal["token", "whole_word", "span", "ngram", "none"] = (
        options.option(
            "What is masked together: single tokens, all tokens of a word, "
            "spans of 1 to 10 words (SpanBERT), or 1 to 3 words (ALBERT). "
            "none: training rows are left as they are, for the trainer to "
            "mask anew at each step; held-out rows are masked by token.",
            "token",
        )
    )
    segmenter: Literal["none", "jieba"] = options.option(
        "What tells words in Chinese text, which has no spaces between them, "
        "where masking goes by words; without it each ideograph is a word.",
        "none",
    )
    masked_fraction: float = options.option(
        "The share of a row's tokens that is predicted.",
        0.15,
        above=0,
        at_most=1,
        usual="BERT has 0.15",
    )
    mask_token_fraction: float = options.option(
        "The share of those that [MASK] replaces.", 0.8, at_least=0, at_most=1
    )
    random_token_fraction: float = options.option(
        "The share of those that a random token replaces; the rest is left "
        "as it is.",
        0.1,
        at_least=0,
        at_most=1,
    )
    max_predictions_per_seq: int = options.option(
        "The most predictions in a row; 0: as many as masked_fraction of "
        "seq_length, rounded up.",
        20,
        at_least=0,
        usual="20 is usual for 128 tokens",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.segmenter != "none":
            if self.masking in ("token", "none"):
                raise errors.UserError(
                    f"segmenter={self.segmenter!r} tells words, which "
                    f"masking={self.masking!r} does not ask for; give "
                    "masking=whole_word, span or ngram, or no segmenter."
                )
            segmentation.check(self.segmenter)
        if self.mask_token_fraction + self.random_token_fraction > 1 + 1e-9:
            raise errors.UserError(
                f"mask_token_fraction={self.mask_token_fraction} and "
                f"random_token_fraction={self.random_token_fraction} are "
                "more than 1 together; BERT has 0.8 and 0.1."
            )

    @property
    def held_out(self):
        """The masking of held-out rows, which never change."""
        if self.masking == "none":
            return dataclasses.replace(self, masking="token")
        return self


def mask(input_ids, attention_mask, vocab, config, rng, is_continuation=None):
    """Masks rows.

    A row of C tokens that are not special gets min(P, max(1, round(
    masked_fraction * C))) predictions. By words it may get fewer: a word that
    would not fit is passed over, and a later one may. With masking "none" it
    gets none, and all weights are 0.

    Args:
      input_ids: int [N, S].
      attention_mask: int [N, S], 1 where a token is, 0 where padding is.
      rng: np.random.Generator; all that is drawn depends on it and the rows.
      is_continuation: bool [N, S], where a token goes on with the word before
        it; what the vocabulary marks ("##") does so without being told.

    Returns:
      The record's features: `input_ids` int32 [N, S] as the model sees them,
      `masked_lm_positions` (ascending) and `masked_lm_ids` int32 [N, P], and
      `masked_lm_weights` float32 [N, P], 1 for a prediction and 0 behind the
      last one, where the others are 0 too.
    """
    num_rows = len(input_ids)
    shape = num_rows, config.max_predictions_per_seq
    features = {
        "input_ids": np.array(input_ids, np.int32),
        "masked_lm_positions": np.zeros(shape, np.int32),
        "masked_lm_ids": np.zeros(shape, np.int32),
        "masked_lm_weights": np.zeros(shape, np.float32),
    }
    if config.masking == "none":
        return features
    for start in range(0, num_rows, _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        part = {name: values[rows] for name, values in features.items()}
        ids = part["input_ids"]
        is_candidate = (attention_mask[rows] != 0) & ~vocab.is_special.take(ids)
        is_start, is_word_start = is_candidate, None
        if config.masking != "token":
            goes_on = vocab.is_continuation.take(ids)
            if is_continuation is not None:
                goes_on |= is_continuation[rows]
            # A row may begin in the middle of a word, whose rest is then one.
            is_start = is_candidate & ~goes_on | _run_starts(is_candidate)
        if config.masking in _UNIT_WEIGHTS:
            is_word_start = is_start
            is_start = _join_words(is_candidate, is_start, config.masking, rng)
        budget = _budget(is_candidate, config)
        if config.masking == "token":
            chosen = units = _take_tokens(is_candidate, budget, rng)
        else:
            chosen, units = _take_units(
                is_candidate, is_start, is_word_start, budget, rng
            )
        _hide(part, chosen, units, vocab, config, rng)
    return features


def _run_starts(is_candidate):
    """Where candidates begin that no other token comes between."""
    is_start = is_candidate.copy()
    is_start[:, 1:] &= ~is_candidate[:, :-1]
    return is_start


def _join_words(is_candidate, is_start, masking, rng):
    """Joins words to units of random numbers of words, run after run.

    Args:
      is_candidate: bool [N, S].
      is_start: bool [N, S], true at the first candidate of each word.
      masking: what units they are to be, a key of `_UNIT_WEIGHTS`.

    Returns:
      bool [N, S], true at the first candidate of each unit.
    """
    weights = _UNIT_WEIGHTS[masking]
    words = np.flatnonzero(is_start)
    is_first = _run_starts(is_candidate).ravel()[words]
    firsts = np.flatnonzero(is_first)  # the first word of each run
    runs = np.cumsum(is_first) - 1
    run_ends = np.append(firsts[1:], len(words))
    # As many lengths as there are words are enough for any run.
    shares = np.cumsum(weights)[:-1] / np.sum(weights)
    lengths = 1 + np.searchsorted(shares, rng.random(len(words)), side="right")
    starts = np.cumsum(lengths) - lengths  # in words, from any origin
    starts += (firsts - starts[firsts])[runs]
    is_unit = np.zeros(is_start.size, bool)
    is_unit[words[starts[starts < run_ends[runs]]]] = True
    return is_unit.reshape(is_start.shape)


def _budget(is_candidate, config):
    """int32 [N]: how many tokens of each row are to be predicted."""
    num_candidates = is_candidate.sum(axis=1)
    return np.minimum(
        config.max_predictions_per_seq,
        np.maximum(1, np.rint(config.masked_fraction * num_candidates)),
    ).astype(np.int32)


def _take_tokens(is_candidate, budget, rng):
    """`_take_units` where each token is a unit: the first ones will do."""
    width = budget.max(initial=0)
    taken = _shuffled(is_candidate, rng)[:, :width]
    seq_length = is_candidate.shape[1]
    taken += np.arange(0, is_candidate.size, seq_length)[:, np.newaxis]
    # Rows may hold fewer candidates than the least budget, which is 1.
    is_taken = (
        np.arange(width) < np.minimum(budget, is_candidate.sum(axis=1))[:, None]
    )
    return np.sort(taken[is_taken])


def _take_units(is_candidate, is_start, is_word_start, budget, rng):
    """Takes units in random order, of each the words that still fit.

    Args:
      is_candidate: bool [N, S].
      is_start: bool [N, S], true at the first candidate of each unit.
      is_word_start: bool [N, S], true where a unit may end, so that the next
        token is left; None if units fit as a whole or not at all.
      budget: int32 [N], the most tokens to take.

    Returns:
      int [K]: the tokens of the units taken, numbered across the rows,
      ascending; and int [K]: which of these units each is of.
    """
    num_rows, seq_length = is_start.shape
    is_end = is_candidate.copy()
    is_end[:, :-1] &= is_start[:, 1:] | ~is_candidate[:, 1:]
    starts = np.flatnonzero(is_start)
    lengths = np.zeros(num_rows * seq_length, np.int32)  # 0: starts no unit
    lengths[starts] = np.flatnonzero(is_end) - starts + 1
    taken_lengths = np.zeros(num_rows * seq_length, np.int32)
    if is_word_start is not None:
        word_starts = _last_true(is_word_start)
    room = budget.copy()
    first = np.arange(0, num_rows * seq_length, seq_length)
    for position in _shuffled(is_start, rng).T:
        start = first + position
        length = lengths.take(start)
        taken = length * (length <= room)
        if is_word_start is not None:
            fitting = word_starts.take(start + room, mode="clip") - start
            taken = np.where(length <= room, length, fitting)
        taken_lengths[start] = taken
        room -= taken
        if not (room.any() and length.any()):
            break
    taken = np.flatnonzero(taken_lengths)
    lengths = taken_lengths.take(taken)
    units = np.repeat(np.arange(len(taken)), lengths)
    ends = np.cumsum(lengths)
    return (taken - (ends - lengths))[units] + np.arange(len(units)), units


def _last_true(is_true):
    """int32: for each place, in one row after the other, the last true one."""
    places = np.arange(is_true.size, dtype=np.int32)
    return np.maximum.accumulate(places * is_true.ravel())


def _shuffled(is_start, rng):
    """int64 [N, S]: each row's units, by first token, in random order.

    Behind them come, in any order, the positions that start no unit.
    """
    # Random bits above, the position below: sorting shuffles, and fast.
    num_rows, seq_length = is_start.shape
    bits = seq_length.bit_length()
    keys = rng.integers(2**32, size=(num_rows, seq_length), dtype=np.uint64)
    keys |= (~is_start).astype(np.uint64) << np.uint64(32)
    keys <<= np.uint64(bits)
    keys |= np.arange(seq_length, dtype=np.uint64)
    keys.sort(axis=1)
    keys &= np.uint64((1 << bits) - 1)
    return keys.view(np.int64)


def _hide(features, chosen, units, vocab, config, rng):
    """Replaces the chosen tokens and notes what they were, in place.

    What stands in their place is drawn for each token; for all tokens of a
    span or n-gram at once, as in SpanBERT and tf-models-official.
    """
    num_rows, seq_length = features["input_ids"].shape
    rows, positions = np.divmod(chosen, seq_length)
    counts = np.bincount(rows, minlength=num_rows)
    slots = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
    labels = features["input_ids"].take(chosen)
    features["masked_lm_positions"][rows, slots] = positions
    features["masked_lm_ids"][rows, slots] = labels
    features["masked_lm_weights"][rows, slots] = 1
    replacements = np.flatnonzero(~vocab.is_special).astype(np.int32)
    random_ids = replacements[rng.integers(len(replacements), size=len(rows))]
    draw = rng.random(len(rows))
    if config.masking in _UNIT_WEIGHTS:
        draw = draw[units]  # the first draws, one a unit
    is_masked = draw < config.mask_token_fraction
    is_random = draw < config.mask_token_fraction + config.random_token_fraction
    shown = np.where(is_random, random_ids, labels)
    shown[is_masked] = vocab.id(vocabulary.MASK)
    features["input_ids"][rows, positions] = shown
