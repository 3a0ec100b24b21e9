"""The documents of the user's files: which files, how they are divided, read.

files ── plan ──▶ units of spans ── read ──▶ documents, clean
"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import importlib.util
import os
from typing import Literal

from bert_pretrain import errors, files, options
from tfrecord_builders.quality import cleaning
from tfrecord_builders.sources import (
    json_csv,
    parquet,
    plain_text,
    streams,
    warc,
    wikipedia,
)

# Stages know documents by this module alone.
Document, Dropped, Span = streams.Document, streams.Dropped, streams.Span

_READERS = {
    "wikipedia": wikipedia.read,
    "jsonl": json_csv.read_jsonl,
    "csv": json_csv.read_csv,
    "text": plain_text.read,
    "parquet": parquet.read,
    "warc": warc.read,
}
# Packages that a source needs and that are not installed without asking; the
# extra that does so has the source's name.
_REQUIRED = {"parquet": ("pyarrow",), "warc": ("warcio", "trafilatura")}
_UNREADABLE = (".7z", ".rar", ".tar", ".tgz", ".zip")
_MAX_WEIGHT = 100
_END_BYTES = 1 << 18
_NUM_READERS = 16
# Reasons that speak of the whole file where most of its documents have them.
_FILE_FAULTS = ("not_utf8", "not_json")
_NUM_FAULTS_TO_JUDGE = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceConfig(options.Options):
    """Where the documents come from, and which of them are kept."""

    source: tuple[
        Literal["wikipedia", "jsonl", "csv", "text", "parquet", "warc"], ...
    ] = options.option(
        "What the input is: a MediaWiki XML dump, JSON lines, CSV, plain "
        "text, Parquet or web archives. Repeat it to name one for each "
        "--input."
    )
    input: tuple[str, ...] = options.option(
        "Files, or patterns of them, local or gs://; .bz2, .gz, .xz and "
        ".zst are decompressed. May be repeated."
    )
    text_field: str = options.option(
        "JSON field, or column of CSV or Parquet, that holds the text.",
        "text",
    )
    title_field: str = options.option(
        "JSON field, or column of CSV or Parquet, that holds the title, "
        "which becomes the text's first line; empty for none.",
        json_csv.DEFAULT_TITLE_FIELD,
    )
    csv_delimiter: str = options.option(
        "Divides the columns of CSV; \\t for tabs.", ","
    )
    csv_columns: str = options.option(
        "Names for the columns of CSV files that have no header line, "
        "divided by commas; empty where the first line names them.",
        "",
    )
    text_layout: Literal["blocks", "line", "file"] = options.option(
        "What a document of plain text is: a block between blank lines, a "
        "line, or a file.",
        "blocks",
    )
    weight: tuple[float, ...] = options.option(
        "How many times the training documents of an input are in the set: 2 "
        "is twice, 0.5 a half of them, chosen by their hashes, 1.5 all once "
        "and a half of them twice. Held-out documents are there once, "
        "whatever their weight. One for all, or repeated for each --input; "
        "none: 1.",
        (),
        above=0,
        at_most=_MAX_WEIGHT,
    )
    max_mb: tuple[float, ...] = options.option(
        "Caps the training text of an input, that of all its files together, "
        "at about so many MB, by lowering its weight; 0: no cap. One for "
        "all, or repeated for each --input.",
        (),
        at_least=0,
    )

    def __post_init__(self):
        super().__post_init__()
        if not self.input:
            raise errors.UserError("input is empty; name files to read.")
        _check_pairing("source", self.source, self.input)
        for name in ("weight", "max_mb"):
            values = getattr(self, name)
            if values:
                _check_pairing(name, values, self.input)
        delimiter = self.csv_delimiter.replace("\\t", "\t")
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise errors.UserError(
                f"csv_delimiter={self.csv_delimiter!r} must be a single "
                "character, and no quote or line break."
            )
        if not self.text_field:
            raise errors.UserError("text_field is empty; name a field.")


def plan(config, unit_bytes):
    """Divides the input into units of about `unit_bytes` as it lies on disk.

    Returns:
      list of lists of `Span`: a function of the input and the options alone.

    Raises:
      UserError: if an input matches nothing or cannot be read.
    """
    for source in config.source:
        _check_installed(source)
    units, num_bytes = [[]], 0
    for source, path, number in _files(config):
        for span in _spans(source, path, config, unit_bytes):
            span = span._replace(input=number)
            if units[-1] and num_bytes + span.num_bytes > unit_bytes:
                units.append([])
                num_bytes = 0
            units[-1].append(span)
            num_bytes += span.num_bytes
    return units


def identify(units):
    """What tells each file of a plan from another, by path.

    Returns:
      dicts of the number of its --input, its size and a hash of its ends, on
      object stores of its last bytes: little is read, and neither a copy of
      the file nor another date makes a difference. Compressors end a file
      with a checksum of it all.
    """
    sizes, numbers = collections.Counter(), {}
    for unit in units:
        for span in unit:
            sizes[span.path] += span.num_bytes
            numbers[span.path] = span.input
    # Many at a time, for those who wait for an object store.
    with concurrent.futures.ThreadPoolExecutor(_NUM_READERS) as threads:
        found = threads.map(_identify, sizes, sizes.values())
        return {
            path: {"input": numbers[path], **identity}
            for path, identity in zip(sizes, found, strict=True)
        }


def read(span, config):
    """Yields (item, position): what a span holds, and how far it is read.

    An item is a clean `Document` or a `Dropped`; the position counts the
    span's bytes as they lie on the disk, up to `span.num_bytes`.

    Raises:
      UserError: if it is the file that is wrong, and not some documents.
    """
    stream = streams.Stream(span)
    num_items = num_faults = 0
    fault = None
    for item in _READERS[span.source](stream, config):
        num_items += 1
        if isinstance(item, Document):
            item = _finish(item)
        elif item.reason in _FILE_FAULTS:
            num_faults += 1
            fault = fault or item
            if num_faults == _NUM_FAULTS_TO_JUDGE:
                _judge(fault, num_faults, num_items)
        yield item, stream.consumed
    # One bad document is no more than that, even where it is alone.
    if num_faults > 1:
        _judge(fault, num_faults, num_items)


def weight(config, number):
    """The weight asked for an --input; a cap may lower it."""
    return _of_input(config.weight, number, 1.0)


def capped_weight(config, number, num_bytes):
    """The weight of an --input that holds `num_bytes` of text to keep."""
    wanted = weight(config, number)
    max_bytes = _of_input(config.max_mb, number, 0.0) * 2**20
    if not max_bytes:
        return wanted
    return min(wanted, max_bytes / max(1, num_bytes))


def _of_input(values, number, default):
    """What an option that is one for all, or one for each, says of one."""
    if not values:
        return default
    return values[number] if len(values) > 1 else values[0]


def _check_pairing(name, values, inputs):
    if len(values) not in (1, len(inputs)):
        raise errors.UserError(
            f"{len(values)} values of {name} do not fit {len(inputs)} of "
            "input; give one for all, or one for each in the same order."
        )


def _check_installed(source):
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


def _files(config):
    """(source, path, number of its --input) of each file, once."""
    found = {}
    for number, pattern in enumerate(config.input):
        for path in files.expand([pattern]):
            _refuse_contradiction(
                config, path, found.setdefault(path, number), number
            )
    for path in found:
        if path.lower().endswith(_UNREADABLE):
            raise errors.UserError(
                f"{path}: {os.path.splitext(path)[1]} is not read; unpack it, "
                "or compress it as .bz2, .gz, .xz or .zst."
            )
    return [
        (_of_input(config.source, number, None), path, number)
        for path, number in found.items()
    ]


def _refuse_contradiction(config, path, first, second):
    """Refuses a file that two inputs name, but not for the same."""
    asked = [
        f"source={_of_input(config.source, number, None)}, "
        f"weight={weight(config, number):g}, "
        f"max_mb={_of_input(config.max_mb, number, 0.0):g}"
        for number in (first, second)
    ]
    if asked[0] != asked[1]:
        raise errors.UserError(
            f"{path} is in input={config.input[first]!r} ({asked[0]}) and in "
            f"input={config.input[second]!r} ({asked[1]}): ask the same of "
            "both, or change one of the two so that the file is in one alone."
        )


def _spans(source, path, config, unit_bytes):
    size = files.size(path)
    num_ranges = 1
    if size > unit_bytes and _is_splittable(source, path, config):
        num_ranges = -(-size // unit_bytes)
    bounds = [size * i // num_ranges for i in range(num_ranges + 1)]
    return [
        Span(source, path, start, end)
        for start, end in zip(bounds[:-1], bounds[1:], strict=True)
    ]


def _is_splittable(source, path, config):
    """Whether a span may begin in the middle of a file.

    Not in CSV, where a line break may lie within quotes, and not in what is
    compressed, except for dumps: Wikipedia offers them as short bz2 streams.
    """
    if streams.is_compressed(path):
        return source == "wikipedia" and streams.is_multistream(path)
    return source in ("wikipedia", "jsonl", "parquet") or (
        source == "text" and config.text_layout != "file"
    )


def _identify(path, size):
    places = [0, max(0, size - _END_BYTES)]
    if "://" in path:
        # TensorFlow fetches 64 MB of an object, from any place it reads at.
        del places[0]
    ends = [files.read_range(path, place, _END_BYTES) for place in places]
    return {
        "num_bytes": size,
        "ends_sha256": hashlib.sha256(b"".join(ends)).hexdigest(),
    }


def _finish(document):
    content = cleaning.clean(document.text)
    if not content:
        return Dropped("no_text", document.id)
    return Document(document.id, content)


def _judge(fault, num_faults, num_items):
    if 2 * num_faults > num_items:
        raise errors.UserError(fault.detail)
