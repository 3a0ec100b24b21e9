"""The stage that reads files and writes the documents worth keeping."""

import collections
import functools
import math
from collections.abc import Iterable, Sequence

from tfrecord_builders.engines import work_units
from tfrecord_builders.quality import (
    boilerplate,
    filters,
    language_guess,
    minhash,
    word_hashes,
)
from tfrecord_builders.sources import documents
from tfrecord_builders.stages import (
    build_config,
    document_parts,
    template_redirects,
)
from tfrecord_builders.tokens import language_counts

# Text that is filtered and signed at once; most of it fits into the cache.
_CHARS_AT_ONCE = 1 << 18
# Of the titles of a unit's last sections, so many are counted in its summary.
_NUM_HEADINGS = 100


def stage(work: build_config.Work) -> work_units.Stage[list[documents.Span]]:
    """The stage; a unit is spans of files.

    The summary of a unit has `counts` of documents by file, those of
    `languages`, the `parts` that it wrote, its most frequent
    `unknown_headings`, the first of the `faults` of each file, and its
    `spans`.
    """
    units = documents.plan(work.config.source, work.config.unit_bytes)
    return work_units.Stage(
        name="extract",
        item="documents",
        units=units,
        run=functools.partial(
            _extract, work.config, template_redirects.path_of(work)
        ),
        describe=_describe_spans,
        num_bytes=sum(span.num_bytes for unit in units for span in unit),
    )


def document_parts_of(
    work: build_config.Work, summaries: Iterable[work_units.Summary]
) -> list[document_parts.DocumentPart]:
    """The document parts that the stage wrote, in the order of its units."""
    return document_parts.open_parts(
        f"{work.dir}/extract",
        [part for summary in summaries for part in summary["parts"]],
    )


def describe_files(paths: Iterable[str]) -> str:
    """Names files in an error message, in short."""
    unique = list(dict.fromkeys(paths))
    if len(unique) > 1:
        return f"{unique[0]} … {unique[-1]} ({len(unique)} files)"
    return unique[0]


def _describe_spans(unit: Sequence[documents.Span]) -> str:
    paths = [span.path for span in unit]
    if len(set(paths)) > 1:
        return describe_files(paths)
    return f"{paths[0]}, bytes {unit[0].start:,} to {unit[-1].end:,}"


def _extract(
    config: build_config.DatasetConfig,
    redirects_path: str,
    unit: Sequence[documents.Span],
    prefix: str,
    progress: work_units.UnitProgress,
) -> work_units.Summary:
    writer = document_parts.PartWriter(prefix)
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(
        collections.Counter
    )
    headings: collections.Counter[str] = collections.Counter()
    languages: list[language_counts.LanguageCounts] = []
    faults: dict[str, str] = {}
    for span in unit:
        progress.place = span.path
        # Smaller parts for higher weights: the stage "rows" holds all copies
        # of a document in memory.
        weight = documents.weight(config.source, span.input)
        writer.start_input(
            span.input, config.unit_bytes // max(1, math.ceil(weight))
        )
        batch = _Batch(config, span.path, counts[span.path], languages, writer)
        consumed = 0
        redirects = template_redirects.read(redirects_path)
        for item, position in documents.read(span, config.source, redirects):
            progress.add(position - consumed, 1)
            consumed = position
            counts[span.path]["read"] += 1
            if isinstance(item, documents.Dropped):
                counts[span.path][item.reason] += 1
                if item.detail:
                    faults.setdefault(span.path, item.detail)
            else:
                counts[span.path].update(item.notes)
                if item.unknown_heading:
                    headings[item.unknown_heading] += 1
                batch.add(item)
        batch.flush()
        progress.add(span.num_bytes - consumed, 0)
    writer.flush()
    return {
        "counts": counts,
        "languages": language_counts.add(languages),
        "parts": writer.parts,
        "unknown_headings": dict(headings.most_common(_NUM_HEADINGS)),
        "faults": faults,
        # For `origin`, which compares them with a later plan.
        "spans": unit,
    }


class _Batch:
    """Collects documents of one file, to filter and sign many at once."""

    def __init__(
        self,
        config: build_config.DatasetConfig,
        path: str,
        counts: collections.Counter[str],
        by_language: list[language_counts.LanguageCounts],
        writer: document_parts.PartWriter,
    ) -> None:
        self._config, self._path = config, path
        self._counts, self._by_language = counts, by_language
        self._writer = writer
        self._documents: list[documents.Document] = []
        self._num_chars = 0

    def add(self, document: documents.Document) -> None:
        if self._config.filters.filters == "default":
            text, num_lines = boilerplate.remove(document.text)
            if num_lines:
                self._counts["boilerplate_lines"] += num_lines
                document = document._replace(text=text)
        self._documents.append(document)
        self._num_chars += len(document.text)
        if self._num_chars >= _CHARS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        if not self._documents:
            return
        config = self._config
        texts = [document.text for document in self._documents]
        words = word_hashes.Words(texts)
        reasons: Sequence[str | None] = [None] * len(texts)
        if config.filters.filters == "default":
            reasons = filters.judge(texts, words, config.filters)
        signatures: Iterable[document_parts.Signature | None] = [None] * len(
            texts
        )
        if config.deduplication.near_duplicate_threshold:
            signatures = zip(
                *minhash.sign(words, config.deduplication), strict=True
            )
        languages = self._languages(texts, words)
        self._by_language.append(
            language_counts.count_judged(languages, reasons)
        )
        for document, language, reason, signature in zip(
            self._documents,
            languages,
            reasons,
            signatures,
            strict=True,
        ):
            if reason:
                self._counts[reason] += 1
            else:
                document = document._replace(language=language)
                digest = minhash.digest(document.text)
                self._writer.add(document, self._path, digest, signature)
        self._documents, self._num_chars = [], 0

    def _languages(
        self, texts: Sequence[str], words: word_hashes.Words
    ) -> list[str]:
        """The language of each document: told, asked for, or guessed."""
        languages = [document.language for document in self._documents]
        if "" not in languages:
            return languages
        asked = self._config.filters.language
        others = (
            list(asked) * len(texts)
            if len(asked) == 1
            else language_guess.guess(texts, words)
        )
        return [
            language or other
            for language, other in zip(languages, others, strict=True)
        ]
