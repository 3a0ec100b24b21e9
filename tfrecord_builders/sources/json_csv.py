"""News in JSON lines or CSV as a source of documents.

The title becomes the first line of a document's text, because it is not part
of the first sentence.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from bert_pretrain import errors
from tfrecord_builders.sources import source_config, streams

# If none of so many records has a wanted field, the name of the field is
# taken to be wrong.
_NUM_RECORDS_TO_JUDGE = 10_000
_NUM_FIELDS_SHOWN = 30
# If a quote holds lines with so many delimiters, exactly as many in each line
# as in a row, the lines are taken for rows.
_MIN_DELIMITERS_OF_ROWS = 6
# What a line costs in memory beside its characters.
_CSV_LINE_BYTES = 200
_SURROGATE = re.compile("[\ud800-\udfff]")
_JSON_TYPES = {
    bool: "boolean",
    dict: "object",
    float: "number",
    int: "number",
    list: "array",
}


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
            yield streams.too_long(name, "give each line one object")
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

    Fields in quotes may contain line breaks (RFC 4180). If a quote is not
    closed where a field ends, only the line that opens it is dropped, and
    reading goes on with the next line.

    Raises:
      UserError: if the text or the title has no column.
    """
    path = stream.span.path
    columns = config.csv_columns.split(",") if config.csv_columns else None
    if columns:
        check_columns(path, columns, config)
    lines = _CsvLines(stream, config)
    for row in _rows(path, lines, config):
        if isinstance(row, streams.Dropped):
            if not columns:
                raise errors.UserError(row.detail)
            yield row
        elif columns:
            yield _csv_document(path, columns, row, lines, config)
        else:
            columns = [column.strip() for column in row]
            check_columns(path, columns, config)


def check_columns(
    path: str, columns: Sequence[str], config: source_config.SourceConfig
) -> None:
    """Refuses a table without the columns that the options name.

    Raises:
      UserError: with the names of the columns that exist.
    """
    missing = {
        option: field
        for option, field in wanted_fields(config).items()
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
    text = value_of(record, config.text_field)
    title = value_of(record, config.title_field)
    if text is not None and not isinstance(text, str):
        return streams.Dropped(
            "not_text",
            name,
            f"{name}: text_field={config.text_field!r} is of type "
            f"{_JSON_TYPES.get(type(text), type(text).__name__)}; choose a "
            "field of strings, for example NAME.NAME inside an object.",
        )
    if not text or not text.strip():
        return streams.Dropped("no_text", name)
    title = " ".join(title.split()) if isinstance(title, str) else ""
    if text.lstrip().startswith(title):
        title = ""
    return streams.Document(name, f"{title}\n{text}")


def value_of(record: Mapping[str, object], field: str) -> object:
    """The value of a field; None without one.

    Args:
      field: its name, or the names on the way to it inside other objects, as
        in "doc.text".
    """
    if field in record:
        return record[field]
    value: object = record
    for name in field.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


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
        self._missing = wanted_fields(config)
        self._seen: dict[str, None] = {}  # Field names, in order.
        self._num_records = 0

    def add(self, record: Mapping[str, object]) -> None:
        """Notes the fields of the next record of the file."""
        if not self._is_open:
            return
        self._num_records += 1
        if len(self._seen) < _NUM_FIELDS_SHOWN:
            self._seen.update(dict.fromkeys(_field_names(record)))
        self._missing = {
            option: field
            for option, field in self._missing.items()
            if field not in record and value_of(record, field) is None
        }
        self._is_open = bool(self._missing)
        if self._num_records == _NUM_RECORDS_TO_JUDGE:
            self.finish()

    def finish(self) -> None:
        """Raises a UserError if a field was in no record."""
        if self._is_open and self._num_records:
            _refuse(self._path, self._missing, self._seen, "fields")


def _field_names(record: Mapping[str, object]) -> Iterator[str]:
    """Yields the names of fields as the options name them."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from (f"{name}.{inner}" for inner in _field_names(value))
        else:
            yield name


def wanted_fields(config: source_config.SourceConfig) -> dict[str, str]:
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


def _rows(
    path: str, lines: "_CsvLines", config: source_config.SourceConfig
) -> Iterator[list[str] | streams.Dropped]:
    """Yields the rows of a CSV file that are not blank."""
    csv.field_size_limit(streams.MAX_DOCUMENT_BYTES)
    rows = csv.reader(lines, strict=True, **_dialect(config))
    num_columns = 0
    if config.csv_columns:
        num_columns = len(config.csv_columns.split(","))
    while True:
        lines.begin_row()
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield _faulty_row(path, lines, str(error))
            lines.read_again()
            continue
        if row is None:
            return
        if not row:
            continue
        num_columns = num_columns or len(row)
        if len(lines.of_row) > 1 and _swallows_rows(
            lines.of_row, num_columns, config
        ):
            yield _faulty_row(path, lines, "each looks like a row")
            lines.read_again()
        else:
            yield row


class _CsvLine(NamedTuple):
    """A line of a CSV file.

    Attributes:
      number: counts from 1.
      position: of its first byte in the file.
      text: None if the line is too long.
      not_utf8: error message if it is not UTF-8; otherwise empty.
    """

    number: int
    position: int
    text: str | None
    not_utf8: str = ""


class _CsvLines:
    """The lines of a CSV file as text, for `csv.reader`.

    Attributes:
      of_row: the lines that were read since the beginning of the row.
    """

    def __init__(
        self, stream: streams.Stream, config: source_config.SourceConfig
    ) -> None:
        self._path = stream.span.path
        self._lines = enumerate(stream.lines(), 1)
        self._unescape = _unescaper(config)
        self._again: list[_CsvLine] = []  # The next one last.
        self._num_bytes = 0
        self.of_row: list[_CsvLine] = []

    def begin_row(self) -> None:
        """Forgets the lines of the row before."""
        self.of_row = []
        self._num_bytes = 0

    def read_again(self) -> None:
        """Makes the second line of this row the next one."""
        self._again += reversed(self.of_row[1:])

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else self._read()
        self.of_row.append(line)
        if line.text is None:
            raise csv.Error("a line is too long")
        self._num_bytes += len(line.text)
        if len(self.of_row) > 1:
            self._num_bytes += _CSV_LINE_BYTES
            if self._num_bytes > streams.MAX_DOCUMENT_BYTES:
                raise csv.Error("the row is too long")
        return line.text

    def _read(self) -> _CsvLine:
        number, (position, line) = next(self._lines)
        if line is None:
            return _CsvLine(number, position, None)
        not_utf8 = ""
        try:
            text = streams.decode(line, self._path, position)
        except streams.NotUtf8Error as error:
            not_utf8 = str(error)
            text = line.decode("utf-8", "surrogateescape")
        # The csv module of Python 3.10 refuses NUL.
        text = text.replace("\0", streams.NUL_SUBSTITUTE) + "\n"
        if self._unescape:
            text = self._unescape(text)
        return _CsvLine(number, position, text, not_utf8)


def _dialect(config: source_config.SourceConfig) -> dict[str, Any]:
    """The options of `csv.reader`."""
    return {
        "delimiter": config.csv_delimiter.replace("\\t", "\t"),
        "escapechar": config.csv_escape or None,
        "quoting": (
            csv.QUOTE_NONE
            if config.csv_quoting == "none"
            else csv.QUOTE_MINIMAL
        ),
    }


def _unescaper(
    config: source_config.SourceConfig,
) -> Callable[[str], str] | None:
    """A function that reads the escapes of databases for white space and NULL.

    Returns:
      None if the lines have no such escapes.
    """
    if config.csv_escape != "\\":
        return None
    delimiter = re.escape(_dialect(config)["delimiter"])
    # A field that is only \N is NULL. A backslash may escape itself, so pairs
    # are read from the left.
    escape = re.compile(rf"(?<![^{delimiter}])\\N(?![^{delimiter}\n])|\\(.)")
    meanings = {None: "", "n": "\v", "r": " ", "t": " "}
    return lambda text: escape.sub(
        lambda match: meanings.get(match[1], match[0]), text
    )


def _faulty_row(path: str, lines: _CsvLines, cause: str) -> streams.Dropped:
    """The first line of a row that is not CSV, as dropped."""
    first, last = lines.of_row[0], lines.of_row[-1]
    name = f"{path}:{first.position}"
    if first.text is None:
        return streams.too_long(name, "divide this line into rows")
    if "new-line" in cause:
        return streams.Dropped(
            "not_csv",
            name,
            f"{path}: a carriage return inside of line {first.number}; write "
            "the field in quotes, or end the lines with a line feed: tr '\\r' "
            "'\\n'.",
        )
    extent = ""
    if last is not first:
        extent = f" and takes in {last.number - first.number} more lines"
    return streams.Dropped(
        "not_csv",
        name,
        f"{path}: a quote in line {first.number} does not end with its field"
        f"{extent} ({cause}); {_csv_remedy(lines)}.",
    )


def _csv_remedy(lines: _CsvLines) -> str:
    if any('\\"' in (line.text or "") for line in lines.of_row):
        return (
            "if a backslash stands before a quote inside a field, give "
            "--csv_escape='\\'"
        )
    return (
        "write a field with a quote, delimiter or line break in quotes, with "
        "quotes inside it doubled, or give the --csv_delimiter, "
        "--csv_quoting=none (quotes are text) or --csv_escape of the file"
    )


def _swallows_rows(
    of_row: Sequence[_CsvLine],
    num_columns: int,
    config: source_config.SourceConfig,
) -> bool:
    """Whether the lines of a row seem to be rows of their own.

    A quote at the beginning of one row and another one at the end of a later
    row make one row of all, which is right by RFC 4180. But then each line has
    as many delimiters as a row. Lines of prose do not, if they are many.
    """
    num_delimiters = num_columns - 1
    if (len(of_row) - 1) * num_delimiters < _MIN_DELIMITERS_OF_ROWS:
        return False
    delimiter = _dialect(config)["delimiter"]
    return all(
        line.text is not None and line.text.count(delimiter) == num_delimiters
        for line in of_row
    )


def _csv_document(
    path: str,
    columns: Sequence[str],
    row: Sequence[str],
    lines: _CsvLines,
    config: source_config.SourceConfig,
) -> streams.Document | streams.Dropped:
    first, last = lines.of_row[0], lines.of_row[-1]
    name = f"{path}:{first.position}"
    # A text with a delimiter that is not in quotes would end there. Delimiters
    # after the last field, as spreadsheets write them, cut nothing.
    if len(row) < len(columns) or any(row[len(columns) :]):
        place = f"line {first.number}"
        if last is not first:
            place = f"lines {first.number} to {last.number}"
        return streams.Dropped(
            "wrong_columns",
            name,
            f"{path}: {len(row)} and not {len(columns)} columns in {place}; "
            f"{_csv_remedy(lines)}.",
        )
    record = dict(zip(columns, row, strict=False))
    faults = [line.not_utf8 for line in lines.of_row if line.not_utf8]
    used = (record.get(config.text_field), record.get(config.title_field))
    # `_CsvLines` marks bytes that are not UTF-8 by surrogates.
    if faults and any(map(_SURROGATE.search, filter(None, used))):
        return streams.Dropped("not_utf8", name, faults[0])
    return document(name, record, config)
