"""Documents of the input files.

files ── plan ──▶ work units of spans ── read ──▶ clean documents
"""

import collections
import concurrent.futures
import functools
import hashlib
import importlib.util
import os
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from bert_pretrain import errors, file_errors, files
from tfrecord_builders.quality import cleaning, garbling
from tfrecord_builders.sources import (
    cirrus,
    json_csv,
    parquet,
    plain_text,
    streams,
    warc,
    wikipedia,
)

# Names and not modules: the stages know only this module of the package.
from tfrecord_builders.sources.source_config import SourceConfig
from tfrecord_builders.sources.streams import Document, Dropped, Span
from tfrecord_builders.sources.wikipedia import Redirects

_Reader = Callable[[streams.Stream, SourceConfig], Iterator[Document | Dropped]]
_READERS: dict[str, _Reader] = {
    "wikipedia": wikipedia.read,
    "cirrus": cirrus.read,
    "jsonl": json_csv.read_jsonl,
    "csv": json_csv.read_csv,
    "text": plain_text.read,
    "parquet": parquet.read,
    "warc": warc.read,
}
# Packages that a source needs. The optional dependency group of pyproject.toml
# that installs them has the name of the source.
_REQUIRED = {
    "parquet": ("pyarrow",),
    "warc": ("warcio", "trafilatura", "webencodings"),
}
_UNREADABLE = (".7z", ".rar", ".tar", ".tgz", ".zip")
_END_BYTES = 1 << 18
_NUM_READERS = 16
# If most documents of a file are dropped for one of these reasons, the file as
# a whole has the wrong format.
_FILE_FAULTS = (
    "garbled",
    "not_cirrus",
    "not_csv",
    "not_json",
    "not_text",
    "not_utf8",
    "wrong_columns",
)
_NUM_FAULTS_TO_JUDGE = 1000

_Value = TypeVar("_Value")


def plan(config: SourceConfig, unit_bytes: int) -> list[list[Span]]:
    """Divides the input into work units of spans.

    The result depends only on the files and the options, so that a build that
    continues after an interruption gets the same units.

    Args:
      unit_bytes: approximate size of a unit, in bytes on disk.

    Raises:
      UserError: if a pattern matches no file, or a file cannot be read.
    """
    for name in config.source:
        _check_installed(name)
    units: list[list[Span]] = [[]]
    num_bytes = 0
    for source, path, number in _files(config):
        for span in _spans(source, path, config, unit_bytes):
            span = span._replace(input=number)
            if units[-1] and num_bytes + span.num_bytes > unit_bytes:
                units.append([])
                num_bytes = 0
            units[-1].append(span)
            num_bytes += span.num_bytes
    return units


def identify(units: Sequence[Sequence[Span]]) -> dict[str, dict[str, Any]]:
    """Identifies the content of each file of a plan.

    Only the beginning and the end of a file are read, and on object stores
    only the end. This finds most changes, because compressors write a checksum
    of the whole file at its end. A copy of a file, or a new date, changes
    nothing.

    Returns:
      For each path: the index of its --input (`input`), its size
      (`num_bytes`) and the hash of what was read (`ends_sha256`).
    """
    sizes: collections.Counter[str] = collections.Counter()
    inputs = {}
    for unit in units:
        for span in unit:
            sizes[span.path] += span.num_bytes
            inputs[span.path] = span.input
    # Requests to an object store mostly wait, so many run at a time.
    with concurrent.futures.ThreadPoolExecutor(_NUM_READERS) as threads:
        hashes = threads.map(_hash_ends, sizes, sizes.values())
        return {
            path: {
                "input": inputs[path],
                "num_bytes": sizes[path],
                "ends_sha256": ends_sha256,
            }
            for path, ends_sha256 in zip(sizes, hashes, strict=True)
        }


def find_redirects(
    span: Span,
) -> tuple[str, str, dict[str, str]] | None:
    """Finds the redirects between templates in a span of a Wikipedia dump.

    Returns:
      What `wikipedia.find_redirects` returns; None if the file is broken, which
      `read` reports.
    """
    try:
        return wikipedia.find_redirects(streams.Stream(span))
    except errors.UserError as error:
        if file_errors.is_transient(error):
            raise
        return None


def read(
    span: Span,
    config: SourceConfig,
    redirects: Redirects = types.MappingProxyType({}),
) -> Iterator[tuple[Document | Dropped, int]]:
    """Reads the documents of a span and cleans their text.

    Args:
      redirects: for each wiki: other names of templates.

    Yields:
      (document, position): the position is the number of bytes of the span
      that have been read, on disk. It grows up to `span.num_bytes`.

    Raises:
      UserError: if the file as a whole has the wrong format.
    """
    stream = streams.Stream(span)
    num_items = num_faults = 0
    first_fault = None
    reader = _READERS[span.source]
    if span.source == "wikipedia":
        reader = functools.partial(wikipedia.read, redirects=redirects)
    for item in reader(stream, config):
        num_items += 1
        if isinstance(item, Document):
            item = _clean(item, span.path)
        if isinstance(item, Dropped) and item.reason in _FILE_FAULTS:
            num_faults += 1
            first_fault = first_fault or item
            if num_faults == _NUM_FAULTS_TO_JUDGE:
                _refuse_if_most_are_faulty(first_fault, num_faults, num_items)
        yield item, stream.consumed
    # A single bad document says nothing about a file, even if it is the only
    # document of the file.
    if first_fault and num_faults > 1:
        _refuse_if_most_are_faulty(first_fault, num_faults, num_items)


def weight(config: SourceConfig, number: int) -> float:
    """Returns the option `weight` of input `number`, without its `max_mb`."""
    return _value_for(config.weight, number, 1.0)


def capped_weight(config: SourceConfig, number: int, num_bytes: float) -> float:
    """Returns the weight of input `number` after `max_mb` has lowered it.

    Args:
      num_bytes: size of the text of this input that is kept.
    """
    wanted = weight(config, number)
    max_bytes = _max_mb(config, number) * 2**20
    if not max_bytes:
        return wanted
    return min(wanted, max_bytes / max(1, num_bytes))


def _max_mb(config: SourceConfig, number: int) -> float:
    return _value_for(config.max_mb, number, 0.0)


def _source(config: SourceConfig, number: int) -> str:
    return _value_for(config.source, number, "")


def _value_for(
    values: Sequence[_Value], number: int, default: _Value
) -> _Value:
    """Returns the value for input `number` of an option that may be repeated.

    The option has no value, one value for all inputs, or one for each.
    """
    if not values:
        return default
    return values[number] if len(values) > 1 else values[0]


def _check_installed(source: str) -> None:
    missing = [
        package
        for package in _REQUIRED.get(source, ())
        if not importlib.util.find_spec(package)
    ]
    if missing:
        raise errors.UserError(
            f"source={source} needs {' and '.join(missing)}: pip install -c "
            f"constraints.txt -e '.[{source}]'."
        )


def _files(config: SourceConfig) -> list[tuple[str, str, int]]:
    """Lists each file once: (source, path, index of its --input)."""
    numbers: dict[str, int] = {}
    for number, pattern in enumerate(config.input):
        for path in files.expand([pattern]):
            first = numbers.setdefault(path, number)
            _refuse_contradiction(config, path, first, number)
    for path in numbers:
        if path.lower().endswith(_UNREADABLE):
            raise errors.UserError(
                f"{path}: files of type {os.path.splitext(path)[1]} cannot be "
                "read; unpack it, or compress it as .bz2, .gz, .xz or .zst."
            )
    return [
        (_source(config, number), path, number)
        for path, number in numbers.items()
    ]


def _refuse_contradiction(
    config: SourceConfig, path: str, first: int, second: int
) -> None:
    """Refuses a file that two inputs name with different options."""
    asked = [
        f"source={_source(config, number)}, "
        f"weight={weight(config, number):g}, "
        f"max_mb={_max_mb(config, number):g}"
        for number in (first, second)
    ]
    if asked[0] != asked[1]:
        raise errors.UserError(
            f"{path} is in input={config.input[first]!r} ({asked[0]}) and in "
            f"input={config.input[second]!r} ({asked[1]}): give both the same "
            "options, or change one pattern so that only one of the two "
            "matches the file."
        )


def _spans(
    source: str, path: str, config: SourceConfig, unit_bytes: int
) -> list[Span]:
    size = files.size(path)
    num_spans = 1
    if size > unit_bytes and _is_splittable(source, path, config):
        num_spans = -(-size // unit_bytes)
    bounds = [size * i // num_spans for i in range(num_spans + 1)]
    return [
        Span(source, path, start, end)
        for start, end in zip(bounds[:-1], bounds[1:], strict=True)
    ]


def _is_splittable(source: str, path: str, config: SourceConfig) -> bool:
    """Whether a span may begin in the middle of a file.

    It may not in CSV, because a line break may be inside quotes, in dumps of
    CirrusSearch, because two lines belong together, and in compressed files.
    Dumps of Wikipedia are the exception: they are published as many short bz2
    streams, each of which can be decompressed alone.
    """
    if streams.is_compressed(path):
        return source == "wikipedia" and streams.is_multistream(path)
    return source in ("wikipedia", "jsonl", "parquet") or (
        source == "text" and config.text_layout != "file"
    )


def _hash_ends(path: str, size: int) -> str:
    places = [0, max(0, size - _END_BYTES)]
    if "://" in path:
        # Each read from an object store costs 64 MB of traffic, because
        # TensorFlow reads ahead.
        del places[0]
    ends = [files.read_range(path, place, _END_BYTES) for place in places]
    return hashlib.sha256(b"".join(ends)).hexdigest()


def _clean(document: Document, path: str) -> Document | Dropped:
    if garbling.is_garbled(document.text):
        return Dropped(
            "garbled",
            document.id,
            f"{path}: the text of {document.id} is garbled: many of its "
            "characters are in no script (NUL, other control characters, "
            "U+FFFD, not assigned); convert it to UTF-8 from the encoding "
            "that it was written in.",
        )
    text = cleaning.clean(document.text)
    if not text:
        return Dropped("no_text", document.id)
    notes = document.notes
    if "\ufffd" in text:
        notes = {**notes, "texts_with_undecodable_bytes": 1}
    if "\0" in document.text or streams.NUL_SUBSTITUTE in document.text:
        notes = {**notes, "texts_with_nul": 1}
    return document._replace(text=text, notes=notes)


def _refuse_if_most_are_faulty(
    first_fault: Dropped, num_faults: int, num_items: int
) -> None:
    if 2 * num_faults > num_items:
        raise errors.UserError(first_fault.detail)
