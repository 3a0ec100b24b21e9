"""Duplicates of documents: exact ones by digests, near ones by MinHash.

Near duplicates are found by MinHash and LSH (Broder, "On the resemblance and
containment of documents", 1997; Indyk and Motwani, 1998). A document is the
set of its shingles of five words (Lee et al., "Deduplicating Training Data
Makes Language Models Better", 2021, section 4.2). Two documents are compared
if all MinHashes of one of their bands are equal. They are linked if their
estimated Jaccard similarity reaches the threshold. The estimate uses two bits
of each MinHash (Li and König, "b-Bit Minwise Hashing", 2010), so that a
document needs 32 bytes for it, and 8 bytes for each band.

N = documents, K = bands, B = FINGERPRINT_BYTES.
"""

import array
import hashlib
import math
import os
from typing import NamedTuple

import numpy as np
import rensa

from tfrecord_builders.quality import quality_config, word_hashes

# Each worker has one core, so a thread pool in each worker would only cause
# contention. Rayon reads this at its first use.
os.environ.setdefault("RAYON_NUM_THREADS", "1")

DIGEST_BYTES = 16
FINGERPRINT_BYTES = 32  # 128 MinHashes, two bits of each
LINK = np.dtype([("later", "<u4"), ("earlier", "<u4"), ("similarity", "<f4")])
_NUM_HASHES = 128
_NUM_BITS = 2  # of each MinHash in the fingerprint
_SEED = 1
# Probability that a pair exactly at the threshold is compared. Pairs above it
# are compared more often: with threshold 0.8, 95 % of the pairs at 0.8, 99.5 %
# at 0.85 and 99.99 % at 0.9.
_RECALL = 0.95
# Probability that one band of such a pair is equal; it determines the number of
# MinHashes in a band. More of them cause fewer useless comparisons but need
# more bands.
_BAND_RECALL = 0.2
_MIN_BAND_SIZE, _MAX_BAND_SIZE = 5, 9
# Leaders that are tried in a group. A group rarely holds documents that are not
# similar; documents that are left after this many may still be found by
# another band.
_MAX_LEADERS = 32


class Bands(NamedTuple):
    """How the MinHashes of a document are divided."""

    num_bands: int
    size: int  # MinHashes in each band


class Signatures(NamedTuple):
    """Hashes of documents that find near duplicates."""

    bands_NK: np.ndarray  # uint64 [N, K]: the hash of each band
    fingerprints_NB: np.ndarray  # uint8 [N, B]


def bands(config: quality_config.DeduplicationConfig) -> Bands:
    """The bands for the threshold, which must not be 0."""
    return _choose_bands(config.near_duplicate_threshold)


def digest(text: str) -> bytes:
    """Hashes a text without its case, white space and punctuation."""
    return hashlib.blake2b(
        word_hashes.characters(text), digest_size=DIGEST_BYTES
    ).digest()


def as_digests(content: bytes) -> np.ndarray:
    """Views digests written one after another as uint8 [N, DIGEST_BYTES]."""
    return np.frombuffer(content, np.uint8).reshape(-1, DIGEST_BYTES)


def sign(
    words: word_hashes.Words, config: quality_config.DeduplicationConfig
) -> Signatures:
    """Computes the signatures of the texts that `words` are from."""
    num_bands, band_size = bands(config)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        words.shingles_W,
        np.cumsum([0, *words.num_words_N], dtype=np.uint64),
        _NUM_HASHES,
        _SEED,
    )
    # Twice as fast as np.array of the lists.
    content = b"".join([array.array("I", row) for row in matrix.to_rows()])
    minhashes = np.frombuffer(content, np.uint32).reshape(-1, _NUM_HASHES)
    in_bands = minhashes[:, : num_bands * band_size].reshape(
        -1, num_bands, band_size
    )
    bits = [minhashes >> i & 1 for i in range(_NUM_BITS)]
    return Signatures(
        word_hashes.mix(in_bands @ word_hashes.odd_factors(band_size)),
        np.packbits(np.concatenate(bits, axis=1).astype(bool), axis=1),
    )


def find_repeats(digests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds documents whose digest is that of an earlier document.

    Args:
      digests: uint8 [N, DIGEST_BYTES].

    Returns:
      The numbers of these documents, and for each of them the number of the
      first document with the same digest.
    """
    halves = np.ascontiguousarray(digests).view("<u8")
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    halves = halves[order]
    begins = np.ones(len(order), bool)
    begins[1:] = (halves[1:] != halves[:-1]).any(axis=1)
    first = _first_of_run(begins)
    return order[~begins], order[first[~begins]]


def group(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Groups documents with equal keys; keys that occur once are left out.

    Args:
      keys: uint64 [N].

    Returns:
      The numbers of the documents in groups, and the number of each
      document's group. Both are sorted by group, then by document.
    """
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    begins = np.ones(len(keys), bool)
    begins[1:] = keys[1:] != keys[:-1]
    numbers = np.cumsum(begins)
    is_shared = ~begins
    is_shared[:-1] |= ~begins[1:]
    return order[is_shared], numbers[is_shared]


def find_alike(
    groups: np.ndarray, fingerprints: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds the members of groups that are near duplicates.

    The first member of each group is its leader and is compared with all
    others. The first member that is not similar to the leader is the next
    leader, and so on. Each member is linked to at most one leader, which is
    enough to connect them.

    M = members of all groups.

    Args:
      groups: [M], the number of the group of each member, ascending.
      fingerprints: uint8 [M, FINGERPRINT_BYTES].

    Returns:
      Members that are near duplicates, the earlier member that each of them
      is similar to, and the similarity of the two.
    """
    nothing = np.zeros(0, np.int64)
    found = [(nothing, nothing, np.zeros(0, np.float32))]
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
    members, earlier, similarities = zip(*found, strict=True)
    return (
        np.concatenate(members),
        np.concatenate(earlier),
        np.concatenate(similarities),
    )


class Components:
    """Connected components of documents, by union-find.

    Two documents are in one component if a chain of links connects them. It
    needs 8 bytes for each document that has a link.
    """

    def __init__(self, linked: np.ndarray) -> None:
        """Starts with one component for each document.

        Args:
          linked: numbers of all documents that have a link, ascending.
        """
        self._linked = linked
        self._parents = np.arange(len(linked), dtype=np.uint32)

    def connect(self, links: np.ndarray) -> None:
        """Merges the components at both ends of each link.

        Args:
          links: an array of dtype LINK.
        """
        first = np.searchsorted(self._linked, links["later"])
        second = np.searchsorted(self._linked, links["earlier"])
        while len(first):
            first, second = self._roots(first), self._roots(second)
            is_apart = first != second
            first, second = first[is_apart], second[is_apart]
            # The parent of a root is an earlier root, so there is no cycle. If
            # a root gets several parents, one is stored now and the others in
            # the next rounds.
            np.minimum.at(
                self._parents,
                np.maximum(first, second),
                np.minimum(first, second),
            )

    def later_members(self) -> np.ndarray:
        """Numbers of all documents but the first of each component."""
        roots = self._roots(np.arange(len(self._linked)))
        return self._linked[roots != np.arange(len(roots))]

    def _roots(self, members: np.ndarray) -> np.ndarray:
        while True:
            parents = self._parents[members]
            grandparents = self._parents[parents]
            if np.array_equal(parents, grandparents):
                return parents
            self._parents[members] = grandparents


def _choose_bands(threshold: float) -> Bands:
    """The fewest bands that find a pair at the threshold with _RECALL."""
    size = round(math.log(_BAND_RECALL) / math.log(threshold))
    size = min(max(size, _MIN_BAND_SIZE), _MAX_BAND_SIZE)
    return Bands(
        math.ceil(math.log(1 - _RECALL) / math.log(1 - threshold**size)), size
    )


def _first_of_run(begins: np.ndarray) -> np.ndarray:
    """For each place, the place where its run begins."""
    return np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))


def _similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Estimates the Jaccard similarity of fingerprints: float32 [N].

    Bits agree where the MinHashes agree, and otherwise by chance. The result
    is corrected for the chance.
    """
    is_apart = (first ^ second).reshape(len(first), _NUM_BITS, -1)
    num_apart = np.bitwise_count(np.bitwise_or.reduce(is_apart, axis=1)).sum(
        axis=1
    )
    share_apart = num_apart / _NUM_HASHES / (1 - 0.5**_NUM_BITS)
    return (1 - share_apart).astype(np.float32)
