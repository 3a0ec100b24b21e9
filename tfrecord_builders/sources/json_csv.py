"""News in JSON lines or CSV as a source of documents.

The title is the first line of a document's text, since it is no part of the
story that follows it.
"""

import csv
import json

from bert_pretrain import errors
from tfrecord_builders.sources import streams

DEFAULT_TITLE_FIELD = "title"
# Records without a wanted field after which no further one is waited for.
_NUM_RECORDS_TO_JUDGE = 10_000
_NUM_FIELDS_SHOWN = 30


def read_jsonl(stream, config):
    """Yields the documents of a file that holds a JSON object in each line."""
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
            yield streams.Dropped(
                "not_json",
                name,
                (
                    f"{path}: no JSON at byte {position} ({error}); a file "
                    "of JSON lines holds a whole object in each."
                ),
            )
        else:
            if isinstance(record, dict):
                check.add(record)
                yield document(name, record, config)
            else:
                yield streams.Dropped(
                    "not_json",
                    name,
                    (
                        f"{path}: no JSON object at byte {position}; a file "
                        "of JSON lines holds a whole object in each."
                    ),
                )
    check.finish()


def read_csv(stream, config):
    """Yields the documents of a CSV file, whose first line names its columns.

    Fields in quotes may hold line breaks, as RFC 4180 has it.
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


def check_columns(path, columns, config):
    """Refuses a table in which the fields asked for are no columns."""
    missing = {
        flag: field
        for flag, field in _wanted(config).items()
        if field not in columns
    }
    if missing:
        _raise_missing(path, missing, columns, "columns")


def document(name, record, config):
    """The document of a record of fields, or why it is none."""
    text = record.get(config.text_field)
    title = record.get(config.title_field)
    if not isinstance(text, str) or not text.strip():
        return streams.Dropped("no_text", name)
    title = " ".join(title.split()) if isinstance(title, str) else ""
    if text.lstrip().startswith(title):
        title = ""
    return streams.Document(name, f"{title}\n{text}")


class _FieldCheck:
    """Finds out whether the fields asked for are in any record of a file."""

    def __init__(self, span, config):
        # Without its beginning a file cannot be judged: records of one kind
        # may follow those of another.
        self._is_open = span.start == 0
        self._path = span.path
        self._wanted = _wanted(config)
        self._seen = {}  # Used as a set that keeps the order.
        self._num_records = 0

    def add(self, record):
        if not self._is_open:
            return
        self._num_records += 1
        if len(self._seen) < _NUM_FIELDS_SHOWN:
            self._seen.update(dict.fromkeys(record))
        self._wanted = {
            flag: field
            for flag, field in self._wanted.items()
            if field not in record
        }
        self._is_open = bool(self._wanted)
        if self._num_records == _NUM_RECORDS_TO_JUDGE:
            self.finish()

    def finish(self):
        if self._is_open and self._num_records:
            _raise_missing(self._path, self._wanted, self._seen, "fields")


def _wanted(config):
    """The fields that must exist, by the flag that names them."""
    wanted = {"text_field": config.text_field}
    if config.title_field not in ("", DEFAULT_TITLE_FIELD):
        wanted["title_field"] = config.title_field
    return wanted


def _raise_missing(path, missing, existing, noun):
    flag, field = next(iter(missing.items()))
    names = [
        name if len(name) <= 40 else name[:40] + "…"
        for name in list(existing)[:_NUM_FIELDS_SHOWN]
    ]
    raise errors.UserError(
        f"{path}: {flag}={field!r} is not among its {noun} "
        f"({', '.join(map(repr, names))}); choose one of them."
    )


def _csv_document(name, record, lines, config):
    used = (record.get(config.text_field), record.get(config.title_field))
    try:
        # What was not UTF-8 came through as surrogates.
        "".join(filter(None, used)).encode("utf-8")
    except UnicodeEncodeError:
        return streams.Dropped("not_utf8", name, lines.not_utf8)
    return document(name, record, config)


class _CsvLines:
    """The lines of a CSV file as text, for `csv.reader` to join again.

    Attributes:
      first: byte position of the first line since it was last set to None.
      not_utf8: what was wrong with the last line that was not UTF-8.
    """

    def __init__(self, stream):
        self._path = stream.span.path
        self._lines = stream.lines()
        self.first = None
        self.not_utf8 = ""

    def __iter__(self):
        return self

    def __next__(self):
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
        # Python 3.10's csv refuses NUL.
        return text.replace("\0", "") + "\n"
