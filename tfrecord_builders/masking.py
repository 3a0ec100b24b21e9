"""Choosing the tokens that BERT must predict, and hiding them.

The procedure is that of the BERT paper (Devlin et al. 2019, section 3.1 and
appendix A.1); whole words are taken as in google-research/bert. Tokens are
chosen in units that are hidden together: a token is a unit of one.

N = rows, S = tokens of a row, P = max_predictions_per_seq, K = all tokens
chosen in some rows.
"""

import dataclasses
from typing import Literal

import numpy as np

from bert_pretrain import errors, options, vocabulary

# What fits the processor's cache. Part of what a seed means: the random
# numbers are drawn for so many rows at a time.
_ROWS_AT_ONCE = 512


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskingConfig:
    """Which tokens are predicted, and what stands in their place."""

    masking: Literal["token", "whole_word"] = options.option(
        "What is masked together: single tokens, or all tokens of a word.",
        "token",
    )
    masked_fraction: float = options.option(
        "The share of a row's tokens that is predicted.", 0.15
    )
    mask_token_fraction: float = options.option(
        "The share of those that [MASK] replaces.", 0.8
    )
    random_token_fraction: float = options.option(
        "The share of those that a random token replaces; the rest is left "
        "as it is.",
        0.1,
    )
    max_predictions_per_seq: int = options.option(
        "The most predictions in a row; 0: as many as masked_fraction of "
        "seq_length, rounded up.",
        20,
    )

    def __post_init__(self):
        if not 0 < self.masked_fraction <= 1:
            raise errors.UserError(
                f"masked_fraction={self.masked_fraction} must be above 0 and "
                "at most 1; BERT has 0.15."
            )
        for name in "mask_token_fraction", "random_token_fraction":
            if not 0 <= getattr(self, name) <= 1:
                raise errors.UserError(
                    f"{name}={getattr(self, name)} must lie in [0, 1]."
                )
        if self.mask_token_fraction + self.random_token_fraction > 1 + 1e-9:
            raise errors.UserError(
                f"mask_token_fraction={self.mask_token_fraction} and "
                f"random_token_fraction={self.random_token_fraction} are "
                "more than 1 together; BERT has 0.8 and 0.1."
            )
        if self.max_predictions_per_seq < 0:
            raise errors.UserError(
                f"max_predictions_per_seq={self.max_predictions_per_seq} "
                "must not be negative; 20 is usual for 128 tokens."
            )


def mask(input_ids, attention_mask, vocab, config, rng):
    """Masks rows.

    A row of C tokens that are not special gets min(P, max(1, round(
    masked_fraction * C))) predictions. By whole words it may get fewer: a
    word that would not fit is passed over, and a later one may.

    Args:
      input_ids: int [N, S].
      attention_mask: int [N, S], 1 where a token is, 0 where padding is.
      rng: np.random.Generator; all that is drawn depends on it and the rows.

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
    for start in range(0, num_rows, _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        part = {name: values[rows] for name, values in features.items()}
        chosen = _choose(
            part["input_ids"], attention_mask[rows], vocab, config, rng
        )
        _hide(part, chosen, vocab, config, rng)
    return features


def _choose(input_ids, attention_mask, vocab, config, rng):
    """int [K]: the tokens to predict, numbered across the rows, ascending."""
    is_candidate = (attention_mask != 0) & ~vocab.is_special.take(input_ids)
    num_candidates = is_candidate.sum(axis=1)
    budget = np.minimum(
        config.max_predictions_per_seq,
        np.maximum(1, np.rint(config.masked_fraction * num_candidates)),
    )
    is_start = is_candidate
    if config.masking == "whole_word":
        is_start = _word_starts(input_ids, is_candidate, vocab)
    return _take_units(is_candidate, is_start, budget.astype(np.int32), rng)


def _word_starts(input_ids, is_candidate, vocab):
    is_start = is_candidate & ~vocab.is_continuation.take(input_ids)
    # A row may begin in the middle of a word, whose rest is then a word.
    is_start[:, 0] = is_candidate[:, 0]
    is_start[:, 1:] |= is_candidate[:, 1:] & ~is_candidate[:, :-1]
    return is_start


def _take_units(is_candidate, is_start, budget, rng):
    """Takes units in random order, each if it fits into what is left.

    Args:
      is_candidate: bool [N, S].
      is_start: bool [N, S], true at the first candidate of each unit.
      budget: int32 [N], the most tokens to take.

    Returns:
      int [K]: the tokens of the units taken, numbered across the rows,
      ascending.
    """
    num_rows, seq_length = is_start.shape
    is_end = is_candidate.copy()
    is_end[:, :-1] &= is_start[:, 1:] | ~is_candidate[:, 1:]
    starts = np.flatnonzero(is_start)
    lengths = np.zeros(num_rows * seq_length, np.int32)  # 0: starts no unit
    lengths[starts] = np.flatnonzero(is_end) - starts + 1
    is_taken = np.zeros(num_rows * seq_length, bool)
    room = budget.copy()
    first = np.arange(0, num_rows * seq_length, seq_length)
    for position in _shuffled(is_start, rng).T:
        start = first + position
        length = lengths.take(start)
        fits = length <= room
        is_taken[start] = fits
        room -= length * fits
        if not (room.any() and length.any()):
            break
    taken = np.flatnonzero(is_taken)
    lengths = lengths.take(taken)
    ends = np.cumsum(lengths)
    return np.repeat(taken - (ends - lengths), lengths) + np.arange(
        ends[-1] if len(ends) else 0
    )


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


def _hide(features, chosen, vocab, config, rng):
    """Replaces the chosen tokens and notes what they were, in place."""
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
    is_masked = draw < config.mask_token_fraction
    is_random = draw < config.mask_token_fraction + config.random_token_fraction
    shown = np.where(is_random, random_ids, labels)
    shown[is_masked] = vocab.id(vocabulary.MASK)
    features["input_ids"][rows, positions] = shown
