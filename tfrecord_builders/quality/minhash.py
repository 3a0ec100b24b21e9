"""Which documents say what an earlier one said, exactly or nearly.

Near duplicates are found by MinHash and LSH (Broder, "On the resemblance and
containment of documents", 1997; Indyk and Motwani, 1998): two documents are
compared if all rows of one of their bands of MinHashes agree, and linked if
the MinHashes estimate that their sets of shingles of five words (Lee et al.,
"Deduplicating Training Data Makes Language Models Better", 2021, section 4.2)
have a Jaccard similarity of at least the threshold. The estimate is made of
two bits of each MinHash (Li and König, "b-Bit Minwise Hashing", 2010), so
that a document needs 32 bytes for it, and 8 for each band.

N = documents, K = bands, B = bytes of a fingerprint.
"""

import array
import dataclasses
import hashlib
import math
import os
from typing import NamedTuple

import numpy as np
import rensa  # noqa: E402

from bert_pretrain import errors, options  # noqa: E402
from tfrecord_builders.quality import word_hashes

# noqa: E402

# Each worker has one core; a pool of threads in each would fight for them.
os.environ.setdefault("RAYON_NUM_THREADS", "1")

DIGEST_BYTES = 16
FINGERPRINT_BYTES = 32  # 128 MinHashes, two bits of each
LINK = np.dtype([("later", "<u4"), ("earlier", "<u4"), ("similarity", "<f4")])
_NUM_HASHES = 128
_NUM_BITS = 2  # of each, in the fingerprint
_SEED = 1
# A pair right at the threshold is compared with this probability, one above
# it sooner: at 0.8 it is 95 %, at 0.85 99.5 %, at 0.9 99.99 %.
_RECALL = 0.95
# How often a band of such a pair agrees, and its rows: more of them compare
# fewer pairs in vain and need more bands.
_BAND_RECALL = 0.2
_MIN_ROWS, _MAX_ROWS = 5, 9
_MIN_THRESHOLD, _MAX_THRESHOLD = 0.65, 0.99
# Documents that are alike in one band, but not in truth, are rare. Of more
# than this many in one place the others are left to the other bands.
_MAX_LEADERS = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeduplicationConfig(options.Options):
    near_duplicate_threshold: float = options.option(
        "Jaccard similarity of two documents' sets of 5-word shingles from "
        "which the later one is dropped, as estimated by MinHash; 0: only "
        "exact duplicates are dropped.",
        0.8,
    )

    def __post_init__(self):
        super().__post_init__()
        threshold = self.near_duplicate_threshold
        if threshold and not _MIN_THRESHOLD <= threshold <= _MAX_THRESHOLD:
            raise errors.UserError(
                f"near_duplicate_threshold={threshold} must be 0 or lie in "
                f"[{_MIN_THRESHOLD}, {_MAX_THRESHOLD}]."
            )

    @property
    def bands(self):
        return _bands(self.near_duplicate_threshold)


class Bands(NamedTuple):
    num_bands: int
    rows: int  # MinHashes in each


class Signatures(NamedTuple):
    """What is kept of documents to find those that are alike."""

    bands_NK: np.ndarray  # uint64
    fingerprints_NB: np.ndarray  # uint8 [N, FINGERPRINT_BYTES]


def digest(text):
    """A hash of a text: case, white space and punctuation do not count."""
    return hashlib.blake2b(
        word_hashes.characters(text), digest_size=DIGEST_BYTES
    ).digest()


def as_digests(content):
    """Digests written one after another as uint8 [N, DIGEST_BYTES]."""
    return np.frombuffer(content, np.uint8).reshape(-1, DIGEST_BYTES)


def sign(its_words, config):
    """The signatures of texts, given as `word_hashes.Words`."""
    num_bands, rows = config.bands
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        its_words.shingles_W,
        np.cumsum([0, *its_words.num_words_N], dtype=np.uint64),
        _NUM_HASHES,
        _SEED,
    )
    # Twice as fast as np.array on lists.
    content = b"".join([array.array("I", row) for row in matrix.to_rows()])
    minhashes = np.frombuffer(content, np.uint32).reshape(-1, _NUM_HASHES)
    in_bands = minhashes[:, : num_bands * rows].reshape(-1, num_bands, rows)
    bits = [minhashes >> i & 1 for i in range(_NUM_BITS)]
    return Signatures(
        word_hashes.mix(in_bands @ word_hashes.odd_factors(rows)),
        np.packbits(np.concatenate(bits, axis=1).astype(bool), axis=1),
    )


def find_repeats(digests):
    """Finds equal rows of `digests` [N, DIGEST_BYTES].

    Returns:
      (rows that an earlier row equals, the first row that each of them does).
    """
    halves = np.ascontiguousarray(digests).view("<u8")
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    halves = halves[order]
    begins = np.ones(len(order), bool)
    begins[1:] = (halves[1:] != halves[:-1]).any(axis=1)
    first = _first_of_run(begins)
    return order[~begins], order[first[~begins]]


def group(keys):
    """Finds the rows whose key others have as well.

    Returns:
      (rows, number of the group of each), in the order of the groups, in the
      rows' order in each.
    """
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    begins = np.ones(len(keys), bool)
    begins[1:] = keys[1:] != keys[:-1]
    numbers = np.cumsum(begins)
    is_shared = ~begins
    is_shared[:-1] |= ~begins[1:]
    return order[is_shared], numbers[is_shared]


def find_alike(groups, fingerprints, threshold):
    """Finds the members of groups that are near duplicates in truth.

    In each group the first member is compared with all others, then the first
    of those it is not like with the rest, and so on: all are linked that are
    like one of these, which is what connects them.

    Args:
      groups: number of the group of each member, ascending.
      fingerprints: uint8 [members, FINGERPRINT_BYTES].

    Returns:
      (members, the earlier member that each of them is like, similarities).
    """
    found = [(np.zeros(0, np.int64),) * 2 + (np.zeros(0, np.float32),)]
    left = np.arange(len(groups))
    for _ in range(_MAX_LEADERS):
        if not len(left):
            break
        begins = np.ones(len(left), bool)
        begins[1:] = groups[left[1:]] != groups[left[:-1]]
        leaders = left[_first_of_run(begins)]
        similarity = _similarity(fingerprints[left], fingerprints[leaders])
        is_alike = ~begins & (similarity >= threshold)
        found.append((left[is_alike], leaders[is_alike], similarity[is_alike]))
        left = left[~begins & ~is_alike]
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


class Components:
    """Documents that links connect, directly or by way of others.

    It holds 8 bytes for each document that has a link.
    """

    def __init__(self, linked):
        """Takes the numbers of all documents that have a link, ascending."""
        self._linked = linked
        self._parents = np.arange(len(linked), dtype=np.uint32)

    def connect(self, links):
        """Merges the components that `links` [LINK] connect."""
        first = np.searchsorted(self._linked, links["later"])
        second = np.searchsorted(self._linked, links["earlier"])
        while len(first):
            first, second = self._roots(first), self._roots(second)
            is_apart = first != second
            first, second = first[is_apart], second[is_apart]
            # A root hangs below an earlier one, hence there is no circle; of
            # several that it should hang below the loop sees to the others.
            np.minimum.at(
                self._parents,
                np.maximum(first, second),
                np.minimum(first, second),
            )

    def later_members(self):
        """The documents that are not the first of their component."""
        roots = self._roots(np.arange(len(self._linked)))
        return self._linked[roots != np.arange(len(roots))]

    def _roots(self, members):
        while True:
            parents = self._parents[members]
            grandparents = self._parents[parents]
            if np.array_equal(parents, grandparents):
                return parents
            self._parents[members] = grandparents


def _bands(threshold):
    """As few bands as find a pair at the threshold with _RECALL."""
    rows = round(math.log(_BAND_RECALL) / math.log(threshold))
    rows = min(max(rows, _MIN_ROWS), _MAX_ROWS)
    return Bands(
        math.ceil(math.log(1 - _RECALL) / math.log(1 - threshold**rows)), rows
    )


def _first_of_run(begins):
    """For each row the one at which its run begins."""
    return np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))


def _similarity(first, second):
    """Estimates the Jaccard similarity from the bits of each MinHash.

    They agree where the MinHashes do, and by chance where these do not.
    """
    is_apart = (first ^ second).reshape(len(first), _NUM_BITS, -1)
    num_apart = np.bitwise_count(np.bitwise_or.reduce(is_apart, axis=1)).sum(
        axis=1
    )
    share_apart = num_apart / _NUM_HASHES / (1 - 0.5**_NUM_BITS)
    return (1 - share_apart).astype(np.float32)
