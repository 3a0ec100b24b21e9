"""Sentence pairs: the two segments of a row, as ranges of tokens.

A chunk of whole sentences that fits into a row is divided at a random sentence
into two segments. For next-sentence prediction (BERT, section 3.1, appendix
A.2) the second segment is either the rest of the chunk, or sentences of
another document; then the rest of the chunk begins the next row. For
sentence-order prediction (ALBERT, section 3.1) the two segments of the chunk
are swapped or not.

N = sentences, D = documents, R = pairs.
"""

import numpy as np

from bert_pretrain import numba_jit

# BERT, appendix A.2: one row in ten is shorter than possible, so that the model
# sees short inputs too.
SHORT_ROW_FRACTION = 0.1
# BERT, section 3.1: half of the pairs come from two documents.
RANDOM_NEXT_FRACTION = 0.5
# ALBERT, section 3.1: half of the pairs are swapped.
SWAPPED_FRACTION = 0.5


def pair(
    bounds_N: np.ndarray,
    documents_D: np.ndarray,
    capacity: int,
    pairing: str,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Makes pairs from all sentences.

    Args:
      bounds_N: int64 [N + 1]; sentence i is the tokens from bound i to bound
        i + 1, at most half of `capacity`.
      documents_D: int64 [D + 1], the first sentence of each document, and N.
      capacity: the most tokens of two segments together.
      pairing: "nsp" or "sop".
      seed: the pairs depend on it and on the sentences only.

    Returns:
      segments: int64 [2 R, 2], start and end of each segment.
      labels: bool [R], true if the second segment is from another document
        (nsp), or if the segments are swapped (sop).
      counts: `num_tokens_cut`, tokens cut from segments of other documents,
        and `num_documents_unpaired`, documents whose rest has no pair.
    """
    make_pairs = {"nsp": _pair_next, "sop": _pair_ordered}[pairing]
    segments, labels, num_cut, num_unpaired = make_pairs(
        bounds_N, documents_D, capacity, np.random.default_rng(seed)
    )
    return (
        segments.copy(),  # Frees the unused end of the buffer.
        labels,
        {"num_tokens_cut": num_cut, "num_documents_unpaired": num_unpaired},
    )


@numba_jit.compiled
def _pair_next(bounds, documents, capacity, rng):
    """Makes pairs for next-sentence prediction.

    Returns:
      Segments, labels, number of tokens cut, number of documents unpaired.
    """
    segments = np.empty((2 * len(bounds), 2), np.int64)
    labels = np.empty(len(bounds), np.bool_)
    num_documents = len(documents) - 1
    num_pairs = num_cut = num_unpaired = 0
    # The last sentence of a document is always paired with another document.
    # To make up for this, fewer of the other pairs are random, so that half of
    # all pairs have the actual next segment.
    owed_actual = 0.0
    for document in range(num_documents):
        first, stop = documents[document], documents[document + 1]
        while first < stop:
            row_capacity, end = _chunk(bounds, first, stop, capacity, rng)
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
            segments[2 * num_pairs] = bounds[first], bounds[second]
            if is_random:
                start, past, cut = _draw_segment(
                    bounds, documents, document, row_capacity - length, rng
                )
                segments[2 * num_pairs + 1] = start, past
                num_cut += cut
                first = second
            else:
                segments[2 * num_pairs + 1] = bounds[second], bounds[end]
                first = end
            labels[num_pairs] = is_random
            num_pairs += 1
    return segments[: 2 * num_pairs], labels[:num_pairs], num_cut, num_unpaired


@numba_jit.compiled
def _pair_ordered(bounds, documents, capacity, rng):
    """Makes pairs for sentence-order prediction; returns as `_pair_next`."""
    # There may be as many pairs as sentences.
    segments = np.empty((2 * len(bounds), 2), np.int64)
    labels = np.empty(len(bounds), np.bool_)
    num_pairs = num_unpaired = 0
    for document in range(len(documents) - 1):
        first, stop = documents[document], documents[document + 1]
        while first < stop:
            _, end = _chunk(bounds, first, stop, capacity, rng)
            if end == stop - 1:  # Do not leave the last sentence alone.
                if bounds[stop] - bounds[first] <= capacity:
                    end = stop
                elif end - first > 2:
                    end -= 1
            border = bounds[_divide(first, end, rng)]
            if end == first + 1:
                # Divide a single sentence, so that its text is not lost. It
                # is mostly the only sentence of its document.
                border = (bounds[first] + bounds[end]) // 2
                if border == bounds[first]:
                    num_unpaired += 1
                    break
            is_swapped = rng.random() < SWAPPED_FRACTION
            segments[2 * num_pairs + is_swapped] = bounds[first], border
            segments[2 * num_pairs + 1 - is_swapped] = border, bounds[end]
            labels[num_pairs] = is_swapped
            num_pairs += 1
            first = end
    return segments[: 2 * num_pairs], labels[:num_pairs], 0, num_unpaired


@numba_jit.compiled
def _chunk(bounds, first, stop, capacity, rng):
    """Chooses the sentences of a row, from `first` on.

    Returns:
      The capacity of the row, and the sentence after the chosen ones. These
      are at least two, unless only one is left before `stop`.
    """
    row_capacity = capacity
    if rng.random() < SHORT_ROW_FRACTION:
        row_capacity = 2 + int(rng.random() * (capacity - 1))
    end = _fit(bounds, first, stop, row_capacity)
    if end < first + 2:  # Two always fit into a full row.
        return capacity, min(first + 2, stop)
    return row_capacity, end


@numba_jit.compiled
def _fit(bounds, first, stop, capacity):
    """The sentence after those that fit, from `first` on, before `stop`."""
    end = first
    while end < stop and bounds[end + 1] - bounds[first] <= capacity:
        end += 1
    return end


@numba_jit.compiled
def _divide(first, end, rng):
    """Draws the sentence at which the second segment starts."""
    return first + 1 + int(rng.random() * max(0, end - first - 1))


@numba_jit.compiled
def _draw_segment(bounds, documents, document, capacity, rng):
    """Draws a segment of another document than `document`.

    Returns:
      Start, end, number of tokens cut.
    """
    other = int(rng.random() * (len(documents) - 2))
    other += other >= document
    first, stop = documents[other], documents[other + 1]
    first += int(rng.random() * (stop - first))
    end = _fit(bounds, first, stop, capacity)
    if end > first:
        return bounds[first], bounds[end], 0
    start = bounds[first]
    return start, start + capacity, bounds[first + 1] - start - capacity
