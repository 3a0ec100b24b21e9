"""Measures recall, precision and speed of near-duplicate removal.

    python benchmarks/deduplication.py
    python benchmarks/deduplication.py --source=jsonl --input='news/*.jsonl'

The benchmark makes a copy of every document for each edit rate. That share of
the copy's words is replaced, removed or doubled at random. For one more kind
of copy the last fifth of the document is removed. The copies come after the
documents. The builder's own functions link similar documents, and the
benchmark compares these links with the true Jaccard similarities of the
shingles:

    recall     share of the pairs at or above the threshold that are found
    precision  share of the linked pairs that are at or above the threshold

The builder links a pair by an estimate of its similarity. The estimate has a
deviation of about 0.04, so wrong links are just below the threshold. The table
also shows the lowest similarity of a linked pair.
"""

import dataclasses
import random
import re
import tempfile
import time

import numpy as np

from bert_pretrain import command_line, options
from tfrecord_builders.quality import minhash, quality_config, word_hashes
from tfrecord_builders.sources import documents, sample

_CUT = "end cut"
_NEARLY = 0.1
_CHARS_AT_ONCE = 1 << 18
_WORD = re.compile(r"[^\W_]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(options.Options):
    deduplication: quality_config.DeduplicationConfig
    source: str = options.option("As in the builder.", "text")
    input: tuple[str, ...] = options.option(
        "Text to copy; default: the embedded sample.", ()
    )
    edit_rate: tuple[float, ...] = options.option(
        "Shares of the words to change.",
        (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1),
        above=0,
        at_most=1,
    )
    max_documents: int = options.option(
        "Documents to copy at most.", 5000, at_least=1
    )
    seed: int = options.option("Seed of the edits.", 0, at_least=0)


def main(config: BenchmarkConfig) -> None:
    originals = _read(config)
    num_bytes = sum(len(text.encode()) for text in originals)
    bands = minhash.bands(config.deduplication)
    print(
        f"{len(originals):,} documents, {num_bytes / 1e6:.1f} MB; threshold "
        f"{config.deduplication.near_duplicate_threshold}: {bands.num_bands} "
        f"bands of {bands.size} MinHashes"
    )
    _show_speed(config, originals, num_bytes)
    print(
        f"\n{'edits':>8}{'Jaccard':>9}{'copies':>8}{'dropped':>9}"
        f"{'recall':>8}{'precision':>11}{'lowest linked':>15}"
    )
    totals = np.zeros(5, int)
    for rate in (*config.edit_rate, _CUT):
        totals += _show_rate(config, originals, rate)
    found, true, right, nearly, linked = totals
    print(
        f"{'all':>8}{'':26}{found / max(1, true):8.1%}"
        f"{right / max(1, linked):11.1%}"
        f"   ({nearly / max(1, linked):.1%} at most {_NEARLY} below the "
        "threshold)"
    )


def _read(config):
    with tempfile.TemporaryDirectory() as folder:
        if config.input:
            sources = [
                documents.SourceConfig(
                    source=(config.source,), input=config.input
                )
            ]
        else:
            sample.fetch(folder)
            sources = [
                documents.SourceConfig(
                    source=("wikipedia",), input=(f"{folder}/*.bz2",)
                ),
                documents.SourceConfig(
                    source=("text",),
                    input=(f"{folder}/*.txt",),
                    text_layout="line",
                ),
            ]
        texts = [
            item.text
            for source in sources
            for unit in documents.plan(source, 1 << 25)
            for span in unit
            for item, _ in documents.read(span, source)
            if isinstance(item, documents.Document) and len(item.text) >= 100
        ]
    # Duplicates among the original documents would blur the counts.
    _, duplicates = _links(config, texts)
    dropped = {later for later, _ in duplicates}
    texts = [text for i, text in enumerate(texts) if i not in dropped]
    return texts[: config.max_documents]


def _show_speed(config, texts, num_bytes):
    def show(name, started):
        seconds = time.perf_counter() - started
        print(
            f"{name:28}{num_bytes / seconds / 1e6:8.1f} MB/s"
            f"{seconds / len(texts) * 1e6:8.1f} us a document"
        )

    # The first calls make tables.
    minhash.sign(word_hashes.Words(texts[:1]), config.deduplication)
    minhash.digest(texts[0])
    batches = list(_batches(texts))
    started = time.perf_counter()
    found = [word_hashes.Words(batch) for batch in batches]
    for batch_words in found:
        batch_words.shingles_W  # noqa: B018 (a property that is computed)
    show("words and shingles", started)
    started = time.perf_counter()
    for text in texts:
        minhash.digest(text)
    show("digests (exact)", started)
    started = time.perf_counter()
    for batch_words in found:
        minhash.sign(batch_words, config.deduplication)
    show("MinHash and bands (near)", started)
    num_bands = minhash.bands(config.deduplication).num_bands
    per_document = 8 * num_bands + minhash.FINGERPRINT_BYTES
    print(
        f"signatures: {per_document} bytes a document on disk, {per_document} "
        "MB for a million"
    )


def _show_rate(config, originals, rate):
    """Prints a line of the table.

    Returns:
      Counts: pairs found, true pairs, right links, links at most `_NEARLY`
      below the threshold, all links.
    """
    rng = random.Random(f"{config.seed} {rate}")
    copies = [_edit(text, rate, rng) for text in originals]
    texts = originals + copies
    links, alike = _links(config, texts)
    shingles = [_shingles(text) for text in texts]

    def similarity(i, j):
        first, second = shingles[i], shingles[j]
        return len(first & second) / max(1, len(first | second))

    threshold = config.deduplication.near_duplicate_threshold
    count = len(originals)
    planted = np.array([similarity(i, i + count) for i in range(count)])
    is_found = np.array(
        [(i + count, i) in alike for i in range(count)], dtype=bool
    )
    is_true = planted >= threshold
    linked = np.array([similarity(*pair) for pair in links])
    is_right = linked >= threshold
    name = rate if isinstance(rate, str) else f"{rate:.1%}"
    print(
        f"{name:>8}{planted.mean():9.3f}{count:8,}{is_found.mean():9.1%}"
        + (f"{is_found[is_true].mean():8.1%}" if is_true.any() else f"{'-':>8}")
        + (
            f"{is_right.mean():11.1%}{linked.min():15.3f}"
            if len(linked)
            else f"{'-':>11}{'-':>15}"
        )
    )
    return np.array(
        [
            np.count_nonzero(is_found & is_true),
            np.count_nonzero(is_true),
            np.count_nonzero(is_right),
            np.count_nonzero(linked >= threshold - _NEARLY),
            len(linked),
        ]
    )


def _links(config, texts):
    """Returns {linked pair} and {(document, first of its component)}."""
    signed = [
        minhash.sign(word_hashes.Words(batch), config.deduplication)
        for batch in _batches(texts)
    ]
    bands_NK, prints = (
        np.concatenate(arrays) for arrays in zip(*signed, strict=True)
    )
    pairs: set[tuple[int, int]] = set()
    for keys in bands_NK.T:
        members, groups = minhash.group(keys)
        later, earlier, _ = minhash.find_alike(
            groups,
            prints[members],
            config.deduplication.near_duplicate_threshold,
        )
        pairs.update(
            zip(members[later].tolist(), members[earlier].tolist(), strict=True)
        )
    firsts: dict[int, int] = {}
    for second, first in sorted(pairs):
        firsts[second] = min(
            firsts.get(second, second), firsts.get(first, first)
        )
    return pairs, set(firsts.items())


def _batches(texts):
    batch, num_chars = [], 0
    for text in texts:
        batch.append(text)
        num_chars += len(text)
        if num_chars >= _CHARS_AT_ONCE:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch


def _edit(text, rate, rng):
    found = text.split(" ")
    if rate == _CUT:
        return " ".join(found[: max(1, len(found) * 4 // 5)])
    edited = []
    for word in found:
        if rng.random() >= rate:
            edited.append(word)
        else:
            edited += rng.choice(([], [word, word], [rng.choice(found)]))
    return " ".join(edited)


def _shingles(text):
    """The shingles of a text, in plain Python as a check of the builder."""
    found = _WORD.findall(text.lower())
    size = word_hashes.SHINGLE_WORDS
    return {tuple(found[i : i + size]) for i in range(len(found))}


if __name__ == "__main__":
    command_line.run(main, BenchmarkConfig)
