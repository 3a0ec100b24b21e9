"""Pairs of parts: which ranges of tokens a row of two parts holds.

A chunk of whole sentences is taken that fits into a row, and divided at a
random sentence. For next-sentence prediction (BERT, section 3.1, appendix
A.2) the first part is followed either by the rest of the chunk or by
sentences of another document; in that case the rest of the chunk is returned
and starts the next row. For sentence-order prediction (ALBERT, section 3.1) it
is followed, or preceded, by the rest of the chunk.

N = sentences, D = documents, R = pairs.
"""

import numpy as np

from bert_pretrain import numba_jit

# BERT, appendix A.2: one row in ten is shorter than need be, so that the
# model sees short inputs too.
SHORT_ROW_FRACTION = 0.1
# BERT, section 3.1: half of the pairs are from two documents.
RANDOM_NEXT_FRACTION = 0.5
# ALBERT, section 3.1: half of the pairs are swapped.
SWAPPED_FRACTION = 0.5


def pair(bounds_N, documents_D, capacity, pairing, seed):
    """Makes pairs of all sentences.

    Args:
      bounds_N: int64 [N + 1]: sentence i is the tokens from its bound to the
        next; none has more than half of `capacity`.
      documents_D: int64 [D + 1]: the first sentence of each, and N.
      capacity: how many tokens two parts may have together.
      pairing: "nsp" or "sop".
      seed: an int; one seed, one set of pairs.

    Returns:
      (int64 [2 R, 2], the start and the end of each part; bool [R], where the
      second part is from elsewhere, or the parts are swapped; counts:
      `num_tokens_cut` and `num_documents_unpaired`).
    """
    make_pairs = {"nsp": _pair_next, "sop": _pair_ordered}[pairing]
    parts, labels, num_cut, num_unpaired = make_pairs(
        bounds_N, documents_D, capacity, np.random.default_rng(seed)
    )
    return (
        parts,
        labels,
        {"num_tokens_cut": num_cut, "num_documents_unpaired": num_unpaired},
    )


@numba_jit.compiled
def _pair_next(bounds, documents, capacity, rng):
    parts = np.empty((2 * len(bounds), 2), np.int64)
    labels = np.empty(len(bounds), np.bool_)
    num_documents = len(documents) - 1
    num_pairs = num_cut = num_unpaired = 0
    # A document's last sentence has none after it and always gets one from
    # elsewhere; such pairs are made up for, so that half of all stay true.
    owed_actual = 0.0
    for document in range(num_documents):
        first, stop = documents[document], documents[document + 1]
        while first < stop:
            its_capacity, end = _chunk(bounds, first, stop, capacity, rng)
            is_random = must_be_random = end == first + 1
            if num_documents == 1:
                if must_be_random:
                    num_unpaired += 1
                    break
            elif must_be_random:
                owed_actual += 1 - RANDOM_NEXT_FRACTION
            elif rng.random() < RANDOM_NEXT_FRACTION:
                is_random = owed_actual < 1
                owed_actual -= not is_random
            second = _divide(first, end, rng)
            length = bounds[second] - bounds[first]
            parts[2 * num_pairs] = bounds[first], bounds[second]
            if is_random:
                start, past, cut = _draw_part(
                    bounds, documents, document, its_capacity - length, rng
                )
                parts[2 * num_pairs + 1] = start, past
                num_cut += cut
                first = second
            else:
                parts[2 * num_pairs + 1] = bounds[second], bounds[end]
                first = end
            labels[num_pairs] = is_random
            num_pairs += 1
    return parts[: 2 * num_pairs], labels[:num_pairs], num_cut, num_unpaired


@numba_jit.compiled
def _pair_ordered(bounds, documents, capacity, rng):
    # A sentence alone makes a pair too.
    parts = np.empty((2 * len(bounds), 2), np.int64)
    labels = np.empty(len(bounds), np.bool_)
    num_pairs = num_unpaired = 0
    for document in range(len(documents) - 1):
        first, stop = documents[document], documents[document + 1]
        while first < stop:
            _, end = _chunk(bounds, first, stop, capacity, rng)
            if end == stop - 1:  # The last sentence wants a partner.
                if bounds[stop] - bounds[first] <= capacity:
                    end = stop
                elif end - first > 2:
                    end -= 1
            border = bounds[_divide(first, end, rng)]
            if end == first + 1:
                # A sentence alone, mostly a document of one, is divided
                # within, so that its text is not lost.
                border = (bounds[first] + bounds[end]) // 2
                if border == bounds[first]:
                    num_unpaired += 1
                    break
            is_swapped = rng.random() < SWAPPED_FRACTION
            parts[2 * num_pairs + is_swapped] = bounds[first], border
            parts[2 * num_pairs + 1 - is_swapped] = border, bounds[end]
            labels[num_pairs] = is_swapped
            num_pairs += 1
            first = end
    return parts[: 2 * num_pairs], labels[:num_pairs], 0, num_unpaired


@numba_jit.compiled
def _chunk(bounds, first, stop, capacity, rng):
    """(the row's capacity, the sentence behind those that go into it).

    At least two sentences, if there are two before `stop`.
    """
    its_capacity = capacity
    if rng.random() < SHORT_ROW_FRACTION:
        its_capacity = 2 + int(rng.random() * (capacity - 1))
    end = _fit(bounds, first, stop, its_capacity)
    if end < first + 2:  # Two always fit into a whole row.
        return capacity, min(first + 2, stop)
    return its_capacity, end


@numba_jit.compiled
def _fit(bounds, first, stop, capacity):
    """The sentence behind those that fit, from `first` on, before `stop`."""
    end = first
    while end < stop and bounds[end + 1] - bounds[first] <= capacity:
        end += 1
    return end


@numba_jit.compiled
def _divide(first, end, rng):
    """The sentence at which the second part starts."""
    return first + 1 + int(rng.random() * max(0, end - first - 1))


@numba_jit.compiled
def _draw_part(bounds, documents, document, capacity, rng):
    """(start, end, tokens cut) in a document that is not `document`."""
    other = int(rng.random() * (len(documents) - 2))
    other += other >= document
    first, stop = documents[other], documents[other + 1]
    first += int(rng.random() * (stop - first))
    end = _fit(bounds, first, stop, capacity)
    if end > first:
        return bounds[first], bounds[end], 0
    start = bounds[first]
    return start, start + capacity, bounds[first + 1] - start - capacity
