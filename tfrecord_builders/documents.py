"""The documents of the user's files: which files, how they are divided, read.

files ── plan ──▶ units of spans ── read ──▶ documents, clean
"""

import dataclasses
import os
from typing import Literal

from bert_pretrain import errors, files, options
from tfrecord_builders import cleaning, inputs, news, text, wikipedia

# Stages know documents by this module alone.
Document, Dropped, Span = inputs.Document, inputs.Dropped, inputs.Span

_READERS = {
    "wikipedia": wikipedia.read,
    "jsonl": news.read_jsonl,
    "csv": news.read_csv,
    "text": text.read,
}
_UNREADABLE = (".7z", ".rar", ".tar", ".tgz", ".zip", ".zst")
# Reasons that speak of the whole file where most of its documents have them.
_FILE_FAULTS = ("not_utf8", "not_json")
_NUM_FAULTS_TO_JUDGE = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Where the documents come from, and which of them are kept."""

    source: tuple[Literal["wikipedia", "jsonl", "csv", "text"], ...] = (
        options.option(
            "What the input is: a MediaWiki XML dump, JSON lines, CSV or "
            "plain text. Repeat it to name one for each --input."
        )
    )
    input: tuple[str, ...] = options.option(
        "Files, or patterns of them, local or gs://; .bz2, .gz and .xz are "
        "decompressed. May be repeated."
    )
    text_field: str = options.option(
        "JSON field or CSV column of the text.", "text"
    )
    title_field: str = options.option(
        "JSON field or CSV column of the title, the text's first line; empty "
        "for none.",
        news.DEFAULT_TITLE_FIELD,
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
    min_document_chars: int = options.option(
        "Shorter documents are dropped.", 100
    )

    def __post_init__(self):
        if not self.input:
            raise errors.UserError("input is empty; name files to read.")
        if len(self.source) not in (1, len(self.input)):
            raise errors.UserError(
                f"{len(self.source)} values of source do not fit "
                f"{len(self.input)} of input; give one for all, or one for "
                "each in the same order."
            )
        delimiter = self.csv_delimiter.replace("\\t", "\t")
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise errors.UserError(
                f"csv_delimiter={self.csv_delimiter!r} must be a single "
                "character, and no quote or line break."
            )
        if not self.text_field:
            raise errors.UserError("text_field is empty; name a field.")
        if self.min_document_chars < 1:
            raise errors.UserError(
                f"min_document_chars={self.min_document_chars} must be at "
                "least 1."
            )


def plan(config, unit_bytes):
    """Divides the input into units of about `unit_bytes` as it lies on disk.

    Returns:
      list of lists of `Span`: a function of the input and the options alone.

    Raises:
      UserError: if an input matches nothing or cannot be read.
    """
    units, num_bytes = [[]], 0
    for source, path in _files(config):
        for span in _spans(source, path, config, unit_bytes):
            if units[-1] and num_bytes + span.num_bytes > unit_bytes:
                units.append([])
                num_bytes = 0
            units[-1].append(span)
            num_bytes += span.num_bytes
    return units


def read(span, config):
    """Yields (item, position): what a span holds, and how far it is read.

    An item is a clean `Document` or a `Dropped`; the position counts the
    span's bytes as they lie on the disk, up to `span.num_bytes`.

    Raises:
      UserError: if it is the file that is wrong, and not some documents.
    """
    stream = inputs.Stream(span)
    num_items = num_faults = 0
    fault = None
    for item in _READERS[span.source](stream, config):
        num_items += 1
        if isinstance(item, Document):
            item = _finish(item, config)
        elif item.reason in _FILE_FAULTS:
            num_faults += 1
            fault = fault or item
            if num_faults == _NUM_FAULTS_TO_JUDGE:
                _judge(fault, num_faults, num_items)
        yield item, stream.consumed
    # One bad document is no more than that, even where it is alone.
    if num_faults > 1:
        _judge(fault, num_faults, num_items)


def _files(config):
    """(source, path) of each file, once."""
    sources = config.source
    if len(sources) == 1:
        pairs = [(sources[0], config.input)]
    else:
        pairs = [
            (source, [pattern])
            for source, pattern in zip(sources, config.input, strict=True)
        ]
    found = dict.fromkeys(
        (source, path)
        for source, patterns in pairs
        for path in files.expand(patterns)
    )
    for _, path in found:
        if path.lower().endswith(_UNREADABLE):
            raise errors.UserError(
                f"{path}: {os.path.splitext(path)[1]} is not read; unpack it, "
                "or compress it as .bz2, .gz or .xz."
            )
    return list(found)


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
    if inputs.is_compressed(path):
        return source == "wikipedia" and inputs.is_multistream(path)
    return source in ("wikipedia", "jsonl") or (
        source == "text" and config.text_layout != "file"
    )


def _finish(document, config):
    content = cleaning.clean(document.text)
    if len(content) < config.min_document_chars:
        return Dropped("too_short", document.id)
    title = cleaning.clean(document.title).replace("\n", " ")
    return Document(document.id, title, content)


def _judge(fault, num_faults, num_items):
    if 2 * num_faults > num_items:
        raise errors.UserError(fault.detail)
