"""The first stage: spans of files to parts of documents worth keeping."""

import collections
import functools
import math

import numpy as np

from tfrecord_builders.engines import engine
from tfrecord_builders.quality import (
    boilerplate,
    filters,
    minhash,
    word_hashes,
)
from tfrecord_builders.sources import documents
from tfrecord_builders.stages import document_parts

# Text that is judged and signed at once; most of it in the cache.
_CHARS_AT_ONCE = 1 << 18


def stage(work):
    units = documents.plan(work.config.source, work.config.unit_bytes)
    return engine.Stage(
        name="extract",
        item="documents",
        units=units,
        run=functools.partial(_extract_unit, work),
        describe=_describe_spans,
        num_bytes=sum(span.num_bytes for unit in units for span in unit),
    )


def _describe_spans(unit):
    paths = [span.path for span in unit]
    if len(set(paths)) > 1:
        return describe_files(paths)
    return f"{paths[0]}, bytes {unit[0].start:,} to {unit[-1].end:,}"


def describe_files(paths):
    paths = list(dict.fromkeys(paths))
    if len(paths) > 1:
        return f"{paths[0]} … {paths[-1]} ({len(paths)} files)"
    return paths[0]


def _extract_unit(work, unit, prefix, progress):
    # With the spans, so that it is known what an earlier plan's unit read.
    summary = extract(unit, prefix, work.config, progress)
    return {**summary, "spans": unit}


def document_parts_of(work, summaries):
    """The parts that the extract stage wrote, in the order of its units."""
    described = [part for summary in summaries for part in summary["parts"]]
    firsts = np.cumsum([0] + [part["num_documents"] for part in described])
    return [
        document_parts.DocumentPart(
            path=f"{work.dir}/extract/{part['name']}",
            number=number,
            first_document=int(firsts[number]),
            num_documents=part["num_documents"],
            num_bytes=part["num_bytes"],
            input=part["input"],
            sources=tuple(
                document_parts.Source(*source) for source in part["sources"]
            ),
        )
        for number, part in enumerate(described)
    ]


def extract(unit, prefix, config, progress):
    """Reads the spans of a unit and writes what is kept of them to parts.

    Args:
      unit: list of `documents.Span`.
      prefix: what the names of the parts begin with.
      config: the `build_config.DatasetConfig` of the build.

    Returns:
      The unit's summary: `counts` by file, `parts`, and the first `fault`
      that the user could mend.
    """
    writer = document_parts.PartWriter(prefix)
    counts = collections.defaultdict(collections.Counter)
    first_fault = ""
    for span in unit:
        progress.place = span.path
        # Repeated documents are in memory as often as they are repeated.
        weight = documents.weight(config.source, span.input)
        writer.start_input(
            span.input, config.unit_bytes // max(1, math.ceil(weight))
        )
        batch = _Batch(config, span.path, counts[span.path], writer)
        consumed = 0
        for item, position in documents.read(span, config.source):
            progress.add(position - consumed, 1)
            consumed = position
            counts[span.path]["read"] += 1
            if isinstance(item, documents.Dropped):
                counts[span.path][item.reason] += 1
                first_fault = first_fault or item.detail
            else:
                batch.add(item)
        batch.flush()
        progress.add(span.num_bytes - consumed, 0)
    writer.flush()
    return {"counts": counts, "parts": writer.parts, "fault": first_fault}


class _Batch:
    """Collects documents of one file, to judge and sign many at once."""

    def __init__(self, config, path, counts, writer):
        self._config, self._path = config, path
        self._counts, self._writer = counts, writer
        self._documents, self._num_chars = [], 0

    def add(self, document):
        if self._config.filters.filters == "default":
            text, num_lines = boilerplate.remove(document.text)
            if num_lines:
                self._counts["boilerplate_lines"] += num_lines
                document = document._replace(text=text)
        self._documents.append(document)
        self._num_chars += len(document.text)
        if self._num_chars >= _CHARS_AT_ONCE:
            self.flush()

    def flush(self):
        if not self._documents:
            return
        config = self._config
        texts = [document.text for document in self._documents]
        its_words = word_hashes.Words(texts)
        reasons = [None] * len(texts)
        if config.filters.filters == "default":
            reasons = filters.judge(texts, its_words, config.filters)
        signatures = [None] * len(texts)
        if config.deduplication.near_duplicate_threshold:
            signatures = zip(
                *minhash.sign(its_words, config.deduplication),
                strict=True,
            )
        for document, reason, signature in zip(
            self._documents, reasons, signatures, strict=True
        ):
            if reason:
                self._counts[reason] += 1
            else:
                digest = minhash.digest(document.text)
                self._writer.add(document, self._path, digest, signature)
        self._documents, self._num_chars = [], 0
