"""Units: neighbouring tokens that are masked together.

A unit is a token, a word, a span (SpanBERT, Joshi et al. 2019, section 3.1) or
an n-gram (ALBERT, Lan et al. 2019, section 4.1). Spans and n-grams are several
words. A row is divided from its start into units of random length, and some of
the units are chosen. So units never overlap, and each word is masked about
equally often. As in SpanBERT, the last chosen unit is cut at the end of a word
to fit the budget.

N = rows, S = tokens of a row, K = chosen tokens of all rows.
"""

import numpy as np

# Relative frequency of units of one word, two words, three words, …
LENGTH_WEIGHTS = {
    # SpanBERT: geometric with p = 0.2, at most 10 words, 3.8 on average.
    "span": 0.8 ** np.arange(10),
    # ALBERT: in proportion to 1 / n, at most 3 words.
    "ngram": 1 / np.arange(1, 4),
}


def choose(
    is_candidate: np.ndarray,
    is_word_start: np.ndarray,
    masking: str,
    budget: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses units at random.

    Args:
      is_candidate: bool [N, S], tokens that may be masked.
      is_word_start: bool [N, S], the first candidate of each word; not used
        with "token".
      masking: "token", "whole_word", "span" or "ngram".
      budget: int32 [N], the most tokens to choose in each row.

    Returns:
      tokens: int64 [K], the chosen tokens as indices into all rows one after
        another, ascending.
      units: int64 [K], the number of the unit of each of these tokens.
    """
    if masking == "token":
        tokens = _take_tokens(is_candidate, budget, rng)
        return tokens, np.arange(len(tokens))
    if masking == "whole_word":
        return _take_units(is_candidate, is_word_start, None, budget, rng)
    is_start = _join_words(is_candidate, is_word_start, masking, rng)
    return _take_units(is_candidate, is_start, is_word_start, budget, rng)


def run_starts(is_candidate: np.ndarray) -> np.ndarray:
    """The first candidate of each run of neighbouring candidates."""
    is_start = is_candidate.copy()
    is_start[:, 1:] &= ~is_candidate[:, :-1]
    return is_start


def _take_tokens(
    is_candidate: np.ndarray, budget: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Takes tokens in random order; faster than `_take_units`."""
    width = budget.max(initial=0)
    taken = _shuffled(is_candidate, rng)[:, :width]
    seq_length = is_candidate.shape[1]
    taken += np.arange(0, is_candidate.size, seq_length)[:, np.newaxis]
    # A row without candidates has a budget of 1 too.
    is_taken = (
        np.arange(width) < np.minimum(budget, is_candidate.sum(axis=1))[:, None]
    )
    return np.sort(taken[is_taken])


def _join_words(
    is_candidate: np.ndarray,
    is_word_start: np.ndarray,
    masking: str,
    rng: np.random.Generator,
) -> np.ndarray:
    """Joins words to units of random length within each run of candidates.

    Returns:
      bool [N, S], the first candidate of each unit.
    """
    weights = LENGTH_WEIGHTS[masking]
    words = np.flatnonzero(is_word_start)
    is_first = run_starts(is_candidate).ravel()[words]
    firsts = np.flatnonzero(is_first)  # the first word of each run
    runs = np.cumsum(is_first) - 1
    run_ends = np.append(firsts[1:], len(words))
    # One length for each word is enough for any run.
    shares = np.cumsum(weights)[:-1] / np.sum(weights)
    lengths = 1 + np.searchsorted(shares, rng.random(len(words)), side="right")
    starts = np.cumsum(lengths) - lengths  # in words
    # Each run begins with a unit of its own.
    starts += (firsts - starts[firsts])[runs]
    is_unit = np.zeros(is_word_start.size, bool)
    is_unit[words[starts[starts < run_ends[runs]]]] = True
    return is_unit.reshape(is_word_start.shape)


def _take_units(
    is_candidate: np.ndarray,
    is_start: np.ndarray,
    is_word_start: np.ndarray | None,
    budget: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Takes units in random order.

    Args:
      is_start: bool [N, S], the first candidate of each unit.
      is_word_start: bool [N, S], where a unit that does not fit may be cut;
        None if such a unit is left out.

    Returns:
      See `choose`.
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


def _last_true(is_true: np.ndarray) -> np.ndarray:
    """For each place in all rows, the last place up to it that is true."""
    places = np.arange(is_true.size, dtype=np.int32)
    return np.maximum.accumulate(places * is_true.ravel())


def _shuffled(is_start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shuffles the units of each row.

    Returns:
      int64 [N, S], the columns of the first tokens of units in random order,
      then the other columns.
    """
    # Sorts keys of random bits followed by the column; fast.
    num_rows, seq_length = is_start.shape
    bits = seq_length.bit_length()
    keys = rng.integers(2**32, size=(num_rows, seq_length), dtype=np.uint64)
    keys |= (~is_start).astype(np.uint64) << np.uint64(32)
    keys <<= np.uint64(bits)
    keys |= np.arange(seq_length, dtype=np.uint64)
    keys.sort(axis=1)
    keys &= np.uint64((1 << bits) - 1)
    return keys.view(np.int64)
