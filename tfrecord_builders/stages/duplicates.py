"""Finds duplicates among the documents of a build, and which to leave out.

    find       a range of keys, of digests or of one band → links
    resolve    all links → components, of which only the first document stays

A link connects a document to an earlier duplicate of it. Documents that are
connected, directly or through other documents, form a component. Only its
first document, in the order of the inputs, stays. Therefore the dataset holds
no two documents that are known to be duplicates, not even in different splits.

Memory: a unit of `find` reads its keys from every part (16 bytes of each
document for digests, 8 for a band), and the fingerprints of the parts that
hold a candidate (32 bytes of each document). For exact duplicates it holds 80
bytes for each document of its range. For near duplicates it holds 45, and 160
more for each candidate. So it needs 85 MB for exact duplicates, 130 MB if half
of the range are candidates, and 215 MB if all are. `resolve` holds 2 bytes for
each document of the build, and 26 for each document that has a link.

B = bytes of a fingerprint.
"""

import collections
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bert_pretrain import errors, files
from tfrecord_builders.engines import work_units
from tfrecord_builders.quality import minhash, quality_config, word_hashes
from tfrecord_builders.stages import document_parts

MAX_EXAMPLES = 20
_DOCUMENTS_PER_UNIT = 1 << 20
_MAX_DOCUMENTS = 1 << 32
_EXACT = -1  # instead of the number of a band
_EXAMPLE_CHARS = 300

# A unit of `find`: the number of a band, or _EXACT for digests; the first
# value, and the value after the last, of the highest 16 bits of the keys.
KeyRange = tuple[int, int, int]
_Parts = Sequence[document_parts.DocumentPart]


class Resolution(NamedTuple):
    """What `resolve` found.

    Attributes:
      counts: for each file, the number of documents to leave out by reason.
      num_dropped: for each part, the number of documents to leave out.
      examples: pairs of near duplicates.
    """

    counts: dict[str, dict[str, int]]
    num_dropped: list[int]
    examples: list[dict[str, Any]]


def plan(
    parts: _Parts, config: quality_config.DeduplicationConfig
) -> list[KeyRange]:
    """Divides the search for duplicates into units.

    Raises:
      UserError: if there are too many documents.
    """
    num_documents = sum(part.num_documents for part in parts)
    if num_documents >= _MAX_DOCUMENTS:
        raise errors.UserError(
            f"{num_documents:,} documents are too many; the limit is "
            f"{_MAX_DOCUMENTS - 1:,}. Divide the input, and build a dataset "
            "of each share."
        )
    num_ranges = -(-num_documents // _DOCUMENTS_PER_UNIT)
    bounds = [2**16 * i // num_ranges for i in range(num_ranges + 1)]
    bands = [_EXACT]
    if config.near_duplicate_threshold:
        bands += range(minhash.bands(config).num_bands)
    return [
        (band, low, high)
        for band in bands
        for low, high in zip(bounds[:-1], bounds[1:], strict=True)
    ]


def find(
    parts: _Parts,
    config: quality_config.DeduplicationConfig,
    unit: KeyRange,
    path: str,
    progress: work_units.UnitProgress,
) -> int:
    """Writes the links between documents with equal keys in a range.

    Returns:
      The number of links.
    """
    band, low, high = unit
    if band == _EXACT:
        links = _exact_links(parts, low, high, progress)
    else:
        links = _near_links(parts, config, unit, progress)
    files.write_bytes(path, links.tobytes())
    return len(links)


def resolve(
    parts: _Parts,
    units: Sequence[KeyRange],
    link_paths: Sequence[str],
    path: str,
) -> Resolution:
    """Writes which documents to leave out, from the links of all units.

    Args:
      link_paths: for each unit, the file that `find` wrote.
      path: the file to write, for `read_dropped`.
    """
    # Marks for all documents, because there may be thousands of link files.
    # To merge sorted numbers of one file after another would take quadratic
    # time.
    _, num_documents = _bounds(parts[-1])
    is_linked, is_exact = np.zeros((2, num_documents), bool)
    for link_path in link_paths:
        for numbers in _ends(_read_links(link_path)):
            is_linked[numbers] = True
    linked = np.flatnonzero(is_linked).astype(np.uint32)
    components = minhash.Components(linked)
    examples = _Examples()
    for (band, _, _), link_path in zip(units, link_paths, strict=True):
        links = _read_links(link_path)
        components.connect(links)
        if band == _EXACT:
            is_exact[links["later"]] = True
        else:  # `plan` puts the exact duplicates before all bands.
            examples.add(links[~is_exact[links["later"]]])
    dropped = components.later_members()
    counts, num_dropped = _write_dropped(parts, dropped, is_exact, path)
    return Resolution(counts, num_dropped, examples.read(parts))


def read_dropped(path: str, part: document_parts.DocumentPart) -> set[int]:
    """Indices in a part of the documents to leave out.

    Args:
      path: the file that `resolve` wrote.
    """
    offsets = np.frombuffer(files.read_range(path, 8 * part.number, 16), "<i8")
    content = files.read_range(path, offsets[0], offsets[1] - offsets[0])
    return set(np.frombuffer(content, "<u4").tolist())


def _exact_links(
    parts: _Parts, low: int, high: int, progress: work_units.UnitProgress
) -> np.ndarray:
    digests, numbers = [], []
    for part in parts:
        part_digests = part.read_digests()
        keys = part_digests.view("<u8")[:, 0]
        places = _in_range(keys, low, high)
        digests.append(part_digests[places])
        numbers.append(_global_numbers(part, places))
        progress.add(part_digests.nbytes, len(places))
    all_numbers = np.concatenate(numbers)
    repeats, firsts = minhash.find_repeats(np.concatenate(digests))
    return _as_links(all_numbers[repeats], all_numbers[firsts], 1)


def _near_links(
    parts: _Parts,
    config: quality_config.DeduplicationConfig,
    unit: KeyRange,
    progress: work_units.UnitProgress,
) -> np.ndarray:
    band, low, high = unit
    keys, numbers = [], []
    for part in parts:
        part_keys = part.read_band(band)
        places = _in_range(part_keys, low, high)
        keys.append(part_keys[places])
        numbers.append(_global_numbers(part, places))
        progress.add(part_keys.nbytes, len(places))
    members, groups = minhash.group(np.concatenate(keys))
    candidates = np.concatenate(numbers)[members]
    later, earlier, similarity = minhash.find_alike(
        groups,
        _read_fingerprints(parts, config, candidates),
        config.near_duplicate_threshold,
    )
    return _as_links(candidates[later], candidates[earlier], similarity)


def _in_range(keys: np.ndarray, low: int, high: int) -> np.ndarray:
    highest = keys >> np.uint64(48)
    return np.flatnonzero((highest >= low) & (highest < high))


def _global_numbers(
    part: document_parts.DocumentPart, places: np.ndarray
) -> np.ndarray:
    """Indices among all documents, from indices in a part."""
    return (places + part.first_document).astype(np.uint32)


def _read_fingerprints(
    parts: _Parts,
    config: quality_config.DeduplicationConfig,
    numbers: np.ndarray,
) -> np.ndarray:
    """The fingerprints of documents: uint8 [len(numbers), B].

    Args:
      numbers: indices among all documents.
    """
    fingerprints = np.empty((len(numbers), minhash.FINGERPRINT_BYTES), np.uint8)
    order = np.argsort(numbers)
    in_order = numbers[order]
    for part in parts:
        first, past = np.searchsorted(in_order, _bounds(part))
        if first < past:
            places = in_order[first:past] - np.uint32(part.first_document)
            of_part = part.read_fingerprints(minhash.bands(config).num_bands)
            fingerprints[order[first:past]] = of_part[places]
    return fingerprints


def _bounds(part: document_parts.DocumentPart) -> np.ndarray:
    """Index of the first document of a part, and index after the last."""
    bounds = part.first_document, part.first_document + part.num_documents
    # The type of the document numbers: with another type, `searchsorted` would
    # convert all of them.
    return np.array(bounds, np.uint32)


def _as_links(
    later: np.ndarray, earlier: np.ndarray, similarity: np.ndarray | float
) -> np.ndarray:
    links = np.empty(len(later), minhash.LINK)
    links["later"], links["earlier"] = later, earlier
    links["similarity"] = similarity
    return links


def _read_links(path: str) -> np.ndarray:
    return np.frombuffer(files.read_bytes(path), minhash.LINK)


def _ends(links: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return links["later"], links["earlier"]


def _write_dropped(
    parts: _Parts, dropped: np.ndarray, is_exact: np.ndarray, path: str
) -> tuple[dict[str, dict[str, int]], list[int]]:
    """Writes an index, then the documents to leave out of each part.

    Returns:
      `counts` and `num_dropped` of the `Resolution`.
    """
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(
        collections.Counter
    )
    num_dropped, blobs = [], []
    for part in parts:
        first, past = np.searchsorted(dropped, _bounds(part))
        of_part = dropped[first:past]
        places = of_part - np.uint32(part.first_document)
        sources = part.source_numbers()[places]
        for i in np.unique(sources).tolist():
            file_counts = counts[part.sources[i].path]
            are_exact = is_exact[of_part[sources == i]]
            file_counts["duplicate"] += int(are_exact.sum())
            file_counts["near_duplicate"] += int((~are_exact).sum())
        num_dropped.append(len(of_part))
        blobs.append(places.astype("<u4").tobytes())
    offsets = np.cumsum([8 * (len(parts) + 1), *map(len, blobs)])
    files.write_bytes(path, offsets.astype("<i8").tobytes() + b"".join(blobs))
    # Unary plus removes the counts that are zero.
    return {
        source: dict(+file_counts) for source, file_counts in counts.items()
    }, num_dropped


class _Examples:
    """Some pairs of near duplicates, for people to look at.

    They are chosen by a hash, so that they come from all parts.
    """

    def __init__(self) -> None:
        self._chosen = np.zeros(0, minhash.LINK)

    def add(self, links: np.ndarray) -> None:
        candidates = np.concatenate([self._chosen, links])
        keys = _pair_keys(candidates)
        # Unique, because several bands may find the same pair.
        _, first = np.unique(keys, return_index=True)
        self._chosen = candidates[first[:MAX_EXAMPLES]]

    def read(self, parts: _Parts) -> list[dict[str, Any]]:
        found = _read_documents(parts, np.unique(_ends(self._chosen)))
        return [
            {
                "similarity": round(float(link["similarity"]), 3),
                "earlier": found[link["earlier"]],
                "later": found[link["later"]],
            }
            for link in self._chosen
        ]


def _pair_keys(links: np.ndarray) -> np.ndarray:
    later, earlier = (end.astype(np.uint64) for end in _ends(links))
    return word_hashes.mix(later << np.uint64(32) | earlier)


def _read_documents(
    parts: _Parts, numbers: np.ndarray
) -> dict[int, dict[str, str]]:
    """Id and the beginning of the text of documents.

    Args:
      numbers: indices among all documents.
    """
    found = {}
    for part in parts:
        first, past = _bounds(part)
        places = numbers[(numbers >= first) & (numbers < past)] - first
        if len(places):  # Each part is read once.
            for i, (name, text) in part.read_documents(places.tolist()).items():
                found[first + i] = {"id": name, "text": text[:_EXAMPLE_CHARS]}
    return found
