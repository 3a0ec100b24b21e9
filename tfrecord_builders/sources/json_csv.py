"""News in JSON lines or CSV as a source of documents.

The title becomes the first line of a document's text, because it is not part
of the first sentence.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NoReturn

from bert_pretrain import errors
from tfrecord_builders.sources import source_config, streams

# If none of so many records has a wanted field, the name of the field is
# taken to be wrong.
_NUM_RECORDS_TO_JUDGE = 10_000
_NUM_FIELDS_SHOWN = 30


def read_jsonl(
    stream: streams.Stream, config: source_config.SourceConfig
) -> Iterator[streams.Document | streams.Dropped]:
    """Yields the documents of a file that has a JSON object in each line.

    Raises:
      UserError: if no record has the field of the text or of the title.
    """
    path = stream.span.path
    check = _FieldCheck(stream.span, config)
    for position, line in stream.lines():
        if position >= stream.limit:
            break
        name = f"{path}:{position}"
        if line is None:
            yield streams.Dropped("too_long", name)
            continue
        if not line.strip():
            continue
        try:
            record = json.loads(streams.decode(line, path, position))
        except streams.NotUtf8Error as error:
            yield streams.Dropped("not_utf8", name, str(error))
        except (ValueError, RecursionError) as error:
            yield _not_json(path, position, "JSON", f" ({error})")
        else:
            if isinstance(record, dict):
                check.add(record)
                yield document(name, record, config)
            else:
                yield _not_json(path, position, "JSON object")
    check.finish()


def read_csv(
    stream: streams.Stream, config: source_config.SourceConfig
) -> Iterator[streams.Document | streams.Dropped]:
    """Yields the documents of a CSV file.

    Fields in quotes may contain line breaks (RFC 4180).

    Raises:
      UserError: if the text or the title has no column.
    """
    path = stream.span.path
    lines = _CsvLines(stream)
    csv.field_size_limit(streams.MAX_DOCUMENT_BYTES)
    rows = csv.reader(
        lines, delimiter=config.csv_delimiter.replace("\\t", "\t")
    )
    columns = config.csv_columns.split(",") if config.csv_columns else None
    if columns:
        check_columns(path, columns, config)
    while True:
        lines.first = None
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield streams.Dropped(
                "not_csv", f"{path}:{lines.first}", f"{path}: {error}."
            )
            continue
        if row is None:
            return
        if columns is None:
            columns = [column.strip() for column in row]
            check_columns(path, columns, config)
        elif row:
            yield _csv_document(
                f"{path}:{lines.first}",
                dict(zip(columns, row, strict=False)),
                lines,
                config,
            )


def check_columns(
    path: str, columns: Sequence[str], config: source_config.SourceConfig
) -> None:
    """Refuses a table without the columns that the options name.

    Raises:
      UserError: with the names of the columns that exist.
    """
    missing = {
        option: field
        for option, field in _wanted(config).items()
        if field not in columns
    }
    if missing:
        _refuse(path, missing, columns, "columns")


def document(
    name: str,
    record: Mapping[str, object],
    config: source_config.SourceConfig,
) -> streams.Document | streams.Dropped:
    """Makes a document from a record: its title in the first line, its text.

    Args:
      name: the id of the document.
    """
    text = record.get(config.text_field)
    title = record.get(config.title_field)
    if not isinstance(text, str) or not text.strip():
        return streams.Dropped("no_text", name)
    title = " ".join(title.split()) if isinstance(title, str) else ""
    if text.lstrip().startswith(title):
        title = ""
    return streams.Document(name, f"{title}\n{text}")


def _not_json(
    path: str, position: int, expected: str, cause: str = ""
) -> streams.Dropped:
    return streams.Dropped(
        "not_json",
        f"{path}:{position}",
        f"{path}: no {expected} at byte {position}{cause}; a file of JSON "
        "lines must have one JSON object in each line.",
    )


class _FieldCheck:
    """Checks that the records of a file have the fields the options name."""

    def __init__(
        self, span: streams.Span, config: source_config.SourceConfig
    ) -> None:
        # A file may have records of one kind before those of another. So only
        # a span with the beginning of the file is checked.
        self._is_open = span.start == 0
        self._path = span.path
        self._missing = _wanted(config)
        self._seen: dict[str, None] = {}  # Field names, in order.
        self._num_records = 0

    def add(self, record: Mapping[str, object]) -> None:
        """Notes the fields of the next record of the file."""
        if not self._is_open:
            return
        self._num_records += 1
        if len(self._seen) < _NUM_FIELDS_SHOWN:
            self._seen.update(dict.fromkeys(record))
        self._missing = {
            option: field
            for option, field in self._missing.items()
            if field not in record
        }
        self._is_open = bool(self._missing)
        if self._num_records == _NUM_RECORDS_TO_JUDGE:
            self.finish()

    def finish(self) -> None:
        """Raises a UserError if a field was in no record."""
        if self._is_open and self._num_records:
            _refuse(self._path, self._missing, self._seen, "fields")


def _wanted(config: source_config.SourceConfig) -> dict[str, str]:
    """Maps options to the fields they name, if these fields must exist."""
    wanted = {"text_field": config.text_field}
    if config.title_field not in ("", source_config.DEFAULT_TITLE_FIELD):
        wanted["title_field"] = config.title_field
    return wanted


def _refuse(
    path: str, missing: dict[str, str], existing: Iterable[str], noun: str
) -> NoReturn:
    option, field = next(iter(missing.items()))
    names = [
        name if len(name) <= 40 else name[:40] + "…"
        for name in list(existing)[:_NUM_FIELDS_SHOWN]
    ]
    raise errors.UserError(
        f"{path}: {option}={field!r} is not one of its {noun} "
        f"({', '.join(map(repr, names))}); choose one of them."
    )


class _CsvLines:
    """The lines of a CSV file as text, for `csv.reader`.

    Attributes:
      first: position of the first line that was read since the caller last
        set it to None.
      not_utf8: error message about the last line that was not UTF-8.
    """

    def __init__(self, stream: streams.Stream) -> None:
        self._path = stream.span.path
        self._lines = stream.lines()
        self.first: int | None = None
        self.not_utf8 = ""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        position, line = next(self._lines)
        if self.first is None:
            self.first = position
        if line is None:
            raise csv.Error("a line is too long")
        try:
            text = streams.decode(line, self._path, position)
        except streams.NotUtf8Error as error:
            self.not_utf8 = str(error)
            text = line.decode("utf-8", "surrogateescape")
        # The csv module of Python 3.10 refuses NUL.
        return text.replace("\0", "") + "\n"


def _csv_document(
    name: str,
    record: dict[str, str],
    lines: _CsvLines,
    config: source_config.SourceConfig,
) -> streams.Document | streams.Dropped:
    used = (record.get(config.text_field), record.get(config.title_field))
    try:
        # `_CsvLines` marks bytes that are not UTF-8 by surrogates, which
        # cannot be encoded.
        "".join(filter(None, used)).encode("utf-8")
    except UnicodeEncodeError:
        return streams.Dropped("not_utf8", name, lines.not_utf8)
    return document(name, record, config)
