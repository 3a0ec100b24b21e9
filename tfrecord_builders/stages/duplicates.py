"""The documents of a build that are left out since an earlier one stands.

    find       a range of digests, or of one band's values → links
    resolve    all links → components, of which the first document is kept

A link says that a later document repeats an earlier one. Whatever links
connect, be it by way of others, is one component, and one document of it
stands: so no two documents of a set are known as duplicates of each other,
in whatever splits they are. The first is the one that comes first in the
order of the inputs.

A unit of `find` reads its keys from every part, 8 or 16 bytes a document, and
the fingerprints of the parts that hold a candidate, 32 bytes a document. It
holds 80 bytes for each document of its range to find exact duplicates; near
ones take 45, and 160 more for each candidate. So it is 85 MB for exact ones,
130 MB if half of a range are candidates, and 215 MB if all are. `resolve`
holds 2 bytes for each document, and 26 for each that has a link.
"""

import collections

import numpy as np

from bert_pretrain import errors, files
from tfrecord_builders.quality import minhash, word_hashes

MAX_EXAMPLES = 20
_DOCUMENTS_PER_UNIT = 1 << 20
_MAX_DOCUMENTS = 1 << 32
_EXACT = -1  # In place of the number of a band.
_EXAMPLE_CHARS = 300


def plan(parts, config):
    """Divides the search for duplicates into units.

    Returns:
      list of (the number of a band or -1 for exact duplicates, first and past
      the last of the values of the highest 16 bits of the keys).
    """
    num_documents = sum(part.num_documents for part in parts)
    if num_documents >= _MAX_DOCUMENTS:
        raise errors.UserError(
            f"{num_documents:,} documents are more than {_MAX_DOCUMENTS:,}; "
            "build several sets of parts of the input."
        )
    num_ranges = -(-num_documents // _DOCUMENTS_PER_UNIT)
    bounds = [2**16 * i // num_ranges for i in range(num_ranges + 1)]
    bands = [_EXACT]
    if config.near_duplicate_threshold:
        bands += range(config.bands.num_bands)
    return [
        (band, low, high)
        for band in bands
        for low, high in zip(bounds[:-1], bounds[1:], strict=True)
    ]


def find(parts, config, unit, path, progress):
    """Writes the links among the documents whose keys are a unit's.

    Returns:
      Their number.
    """
    band, low, high = unit
    if band == _EXACT:
        links = _exact_links(parts, low, high, progress)
    else:
        links = _near_links(parts, config, unit, progress)
    files.write_bytes(path, links.tobytes())
    return len(links)


def resolve(parts, units, link_paths, path):
    """Writes the documents to leave out, from the links of all units.

    Returns:
      ({path of a file: {reason: number of its documents left out}},
       number of documents left out of each part,
       examples of near duplicates).
    """
    # A mark for each document: merging the numbers that each of thousands of
    # files holds into those of the files before would take ever longer.
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
        else:  # All exact ones come before.
            examples.add(links[~is_exact[links["later"]]])
    dropped = components.later_members()
    counts, num_dropped = _write_dropped(parts, dropped, is_exact, path)
    return counts, num_dropped, examples.read(parts)


def read_dropped(path, part):
    """The numbers of the documents of a part that are to be left out."""
    offsets = np.frombuffer(files.read_range(path, 8 * part.number, 16), "<i8")
    content = files.read_range(path, offsets[0], offsets[1] - offsets[0])
    return set(np.frombuffer(content, "<u4").tolist())


def _exact_links(parts, low, high, progress):
    digests, numbers = [], []
    for part in parts:
        of_part = part.read_digests()
        keys = of_part.view("<u8")[:, 0]
        mine = _in_range(keys, low, high)
        digests.append(of_part[mine])
        numbers.append(_global(part, mine))
        progress.add(of_part.nbytes, len(mine))
    numbers = np.concatenate(numbers)
    repeats, firsts = minhash.find_repeats(np.concatenate(digests))
    return _as_links(numbers[repeats], numbers[firsts], 1)


def _near_links(parts, config, unit, progress):
    band, low, high = unit
    keys, numbers = [], []
    for part in parts:
        of_part = part.read_band(band)
        mine = _in_range(of_part, low, high)
        keys.append(of_part[mine])
        numbers.append(_global(part, mine))
        progress.add(of_part.nbytes, len(mine))
    members, groups = minhash.group(np.concatenate(keys))
    numbers = np.concatenate(numbers)[members]
    later, earlier, similarity = minhash.find_alike(
        groups,
        _read_fingerprints(parts, config, numbers),
        config.near_duplicate_threshold,
    )
    return _as_links(numbers[later], numbers[earlier], similarity)


def _in_range(keys, low, high):
    highest = keys >> np.uint64(48)
    return np.flatnonzero((highest >= low) & (highest < high))


def _global(part, mine):
    """Numbers among all documents, from those among a part's."""
    return (mine + part.first_document).astype(np.uint32)


def _read_fingerprints(parts, config, numbers):
    """The fingerprints of documents by number: uint8 [documents, B]."""
    fingerprints = np.empty((len(numbers), minhash.FINGERPRINT_BYTES), np.uint8)
    order = np.argsort(numbers)
    in_order = numbers[order]
    for part in parts:
        first, past = np.searchsorted(in_order, _bounds(part))
        if first < past:
            places = in_order[first:past] - np.uint32(part.first_document)
            of_part = part.read_fingerprints(config.bands.num_bands)
            fingerprints[order[first:past]] = of_part[places]
    return fingerprints


def _bounds(part):
    bounds = part.first_document, part.first_document + part.num_documents
    # Of the type of what is searched, lest all of that is converted.
    return np.array(bounds, np.uint32)


def _as_links(later, earlier, similarity):
    links = np.empty(len(later), minhash.LINK)
    links["later"], links["earlier"] = later, earlier
    links["similarity"] = similarity
    return links


def _read_links(path):
    return np.frombuffer(files.read_bytes(path), minhash.LINK)


def _ends(links):
    return links["later"], links["earlier"]


def _write_dropped(parts, dropped, is_exact, path):
    """Writes an index, then the documents to leave out part after part."""
    counts = collections.defaultdict(collections.Counter)
    num_dropped, blobs = [], []
    for part in parts:
        first, past = np.searchsorted(dropped, _bounds(part))
        mine = dropped[first:past]
        places = mine - np.uint32(part.first_document)
        sources = part.source_numbers()[places]
        for i in np.unique(sources).tolist():
            of_source = counts[part.sources[i].path]
            are_exact = is_exact[mine[sources == i]]
            of_source["duplicate"] += int(are_exact.sum())
            of_source["near_duplicate"] += int((~are_exact).sum())
        num_dropped.append(len(mine))
        blobs.append(places.astype("<u4").tobytes())
    offsets = np.cumsum([8 * (len(parts) + 1), *map(len, blobs)])
    files.write_bytes(path, offsets.astype("<i8").tobytes() + b"".join(blobs))
    return {path: +counted for path, counted in counts.items()}, num_dropped


class _Examples:
    """A few pairs of near duplicates, to look at.

    They are chosen by a hash, so that they come from everywhere.
    """

    def __init__(self):
        self._chosen = np.zeros(0, minhash.LINK)

    def add(self, links):
        candidates = np.concatenate([self._chosen, links])
        keys = _pair_keys(candidates)
        _, first = np.unique(keys, return_index=True)  # In each band again.
        self._chosen = candidates[first[:MAX_EXAMPLES]]

    def read(self, parts):
        documents = _read_documents(parts, np.unique(_ends(self._chosen)))
        return [
            {
                "similarity": round(float(link["similarity"]), 3),
                "earlier": documents[link["earlier"]],
                "later": documents[link["later"]],
            }
            for link in self._chosen
        ]


def _pair_keys(links):
    later, earlier = (end.astype(np.uint64) for end in _ends(links))
    return word_hashes.mix(later << np.uint64(32) | earlier)


def _read_documents(parts, numbers):
    """Documents, by their numbers among all: the beginning of each."""
    found = {}
    for part in parts:
        first, past = _bounds(part)
        mine = numbers[(numbers >= first) & (numbers < past)] - first
        if len(mine):  # Each part is read once.
            for i, (name, text) in part.read_documents(mine.tolist()).items():
                found[first + i] = {"id": name, "text": text[:_EXAMPLE_CHARS]}
    return found
