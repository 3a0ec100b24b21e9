"""Tables of texts: TSV, CSV, JSON lines, or one text in each line.

A TSV file is read as GLUE's are: a tab ends a field, and quotes are text. A CSV
file is read by RFC 4180: quotes around a field may hold commas, line breaks,
and quotes that are doubled. A name may end with .gz.
"""

import csv
import dataclasses
import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from bert_pretrain import errors, files
from bert_pretrain.tasks import examples

# So many of a table's rows may have too few or too many fields, as a handful of
# QQP's do.
_MAX_MALFORMED_SHARE = 0.01
_NUM_COLUMNS_SHOWN = 30
_IS_NUMBER = re.compile(r"-?\d+")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a table that a task uses, all by name or all by number.

    Numbers are for a table without a header. They count from 0, or from -1,
    which is the last column.

    Attributes:
      text: the columns that make the text, which a space joins.
      text_pair: the column of the second text; empty if there is none.
      label: empty if there is none.

    Raises:
      UserError: if some are numbers and others are not.
    """

    text: tuple[str, ...]
    text_pair: str = ""
    label: str = ""

    def __post_init__(self) -> None:
        numbers = {bool(_IS_NUMBER.fullmatch(name)) for name in self.names}
        if len(numbers) > 1:
            raise errors.UserError(
                f"the columns {_quoted(self.names)} are partly numbers; "
                "give names for a table with a header, numbers for one without."
            )

    @property
    def names(self) -> list[str]:
        """All of them."""
        return [*self.text, *filter(None, (self.text_pair, self.label))]

    @property
    def are_numbers(self) -> bool:
        """Whether they are columns of a table without a header."""
        return bool(_IS_NUMBER.fullmatch(self.text[0]))

    def fit(self, header: Sequence[str], needs_label: bool) -> bool:
        """Whether a table has them.

        Args:
          header: the fields of its first line.
          needs_label: whether it must have the column of labels.
        """
        names = [*self.text, self.text_pair, self.label if needs_label else ""]
        return all(
            _position(name, header, self.are_numbers) is not None
            for name in filter(None, names)
        )


class _Row(NamedTuple):
    """A row of a table.

    Attributes:
      line: the number of its first line, counted from 1.
      fields: text; in JSON any value.
    """

    line: int
    fields: Sequence[Any]


def read(
    path: str,
    layouts: Sequence[Columns],
    *,
    needs_labels: bool = True,
    drops_empty: bool = False,
    no_label: str = "",
) -> examples.TextExamples:
    """Reads the examples of a file whose name says its format.

    A few rows with too few or too many fields are left out, with a warning.

    Args:
      path: ends with .tsv, .csv, .jsonl or .txt, or one of these and .gz. A
        .txt has one text in each line and no labels.
      layouts: the first one whose columns the table has is used.
      needs_labels: whether a table without labels is refused.
      drops_empty: whether examples with an empty text are left out, as for
        training. Otherwise they stay: each text wants a prediction.
      no_label: a label that stands for none, if there is such; examples with it
        are left out.

    Raises:
      UserError: if the file has another format, or lacks a column, a label, or
        examples.
    """
    ending = path.removesuffix(".gz").rpartition(".")[2]
    rows = _rows(path, ending)
    header = [str(name).strip() for name in rows[0].fields]
    if ending == "txt":
        columns = _of_plain_text(path, layouts, needs_labels)
    else:
        if ending == "jsonl":  # Its columns have names, whatever they are.
            layouts = [each for each in layouts if not each.are_numbers]
        columns = _choose(path, header, layouts, needs_labels)
    if not columns.are_numbers:
        rows = rows[1:]
    rows = _well_formed(path, rows, len(header))
    found = _examples(path, rows, header, columns)
    if columns.are_numbers:
        _suspect_header(found)
    if len(found):
        found = _labelled(found, needs_labels, no_label)
        found = _not_empty(found, drops_empty)
    if not len(found):
        raise errors.UserError(f"{path}: no examples; add some.")
    return found


def _rows(path: str, ending: str) -> list[_Row]:
    """All rows of a file, of which the first names the columns if any does."""
    if ending not in _READERS:
        raise errors.UserError(
            f"{path}: the name tells the format, so it must end with "
            f"{', '.join('.' + each for each in _READERS)}, or with one of "
            "these and .gz; rename the file."
        )
    text = files.read_text(path)
    if (position := text.find("\0")) >= 0:
        line = text.count("\n", 0, position) + 1
        raise errors.UserError(
            f"{path}:{line}: a NUL character; if the file is UTF-16, convert "
            "it with iconv -f UTF-16 -t UTF-8."
        )
    rows = list(_READERS[ending](path, text))
    if not rows:
        raise errors.UserError(f"{path}: the file is empty; give examples.")
    return rows


def _tsv_rows(path: str, text: str) -> Iterator[_Row]:
    # `splitlines` would also split at characters that texts may hold.
    lines = text.removesuffix("\n").split("\n")
    has_one_column = "\t" not in text
    for number, line in enumerate(lines, 1):
        line = line.removesuffix("\r")
        if line or (has_one_column and number > 1):
            yield _Row(number, line.split("\t"))


def _csv_rows(path: str, text: str) -> Iterator[_Row]:
    # The limit of 128 KiB is meant to stop quotes that nothing closes.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise errors.UserError(
                f"{path}:{line}: a quote that opens in this row does not close "
                f"at the end of its field ({error}); double the quotes inside "
                "of quotes, or, if quotes are text and tabs end the fields, "
                "name the file .tsv."
            ) from error
        if fields is None:
            return
        if fields:
            yield _Row(line, fields)


def _jsonl_rows(path: str, text: str) -> Iterator[_Row]:
    """Yields the names of all fields as line 0, then a row for each object."""
    objects = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise errors.UserError(
                f"{path}:{number}: not JSON ({error}); a .jsonl file has one "
                "JSON object in each line."
            ) from error
        if not isinstance(value, dict):
            raise errors.UserError(
                f"{path}:{number}: not a JSON object but {_shortened(line)}; "
                'write {"NAME": VALUE, …} in each line.'
            )
        objects[number] = value
    header = list(dict.fromkeys(itertools.chain(*objects.values())))
    if objects:
        yield _Row(0, header)
    for number, each in objects.items():
        yield _Row(number, [each.get(name) for name in header])


def _txt_rows(path: str, text: str) -> Iterator[_Row]:
    if text:
        yield _Row(0, ["text"])
        for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
            yield _Row(number, [line.removesuffix("\r")])


_READERS = {
    "tsv": _tsv_rows,
    "csv": _csv_rows,
    "jsonl": _jsonl_rows,
    "txt": _txt_rows,
}


def _of_plain_text(
    path: str, layouts: Sequence[Columns], needs_labels: bool
) -> Columns:
    """The one column of a .txt file."""
    if needs_labels or layouts[0].text_pair:
        wanted = "labels" if needs_labels else "second texts"
        raise errors.UserError(
            f"{path}: a .txt file has no {wanted}; give a .tsv, .csv or .jsonl "
            "file."
        )
    return Columns(text=("text",))


def _position(name: str, header: Sequence[str], is_number: bool) -> int | None:
    """The index of a column; None without one."""
    if not is_number:
        return header.index(name) if name and name in header else None
    if not name:
        return None
    number = int(name)
    return number if -len(header) <= number < len(header) else None


def _choose(
    path: str,
    header: Sequence[str],
    layouts: Sequence[Columns],
    needs_labels: bool,
) -> Columns:
    """The first of the layouts that fits the table."""
    # A header is recognised by its names, so numbers are tried last.
    tries = [
        (columns, needs_label)
        for numbers in (False, True)
        for needs_label in ((True,) if needs_labels else (True, False))
        for columns in layouts
        if columns.are_numbers == numbers
    ]
    fitting = [each for each, needs in tries if each.fit(header, needs)]
    if not fitting:
        wanted = [" and ".join(map(repr, each.names)) for each in layouts]
        raise errors.UserError(
            f"{path}: has the columns {_quoted(header)}, but needs "
            f"{', or '.join(wanted) or 'names'}; name its columns with "
            "--text_column, --text_pair_column and --label_column, in a table "
            "without a header by numbers from 0."
        )
    columns = fitting[0]
    twice = [n for n in columns.names if header.count(n) > 1]
    if twice and not columns.are_numbers:
        raise errors.UserError(
            f"{path}: two columns are called {twice[0]!r}; rename one of them."
        )
    return columns


def _well_formed(path: str, rows: list[_Row], width: int) -> list[_Row]:
    """Leaves out the rows with too few or too many fields, with a warning."""
    # Spreadsheets write empty fields after the last one.
    good = [
        row
        for row in rows
        if len(row.fields) >= width and not any(row.fields[width:])
    ]
    num_bad = len(rows) - len(good)
    if not num_bad:
        return rows
    kept = {row.line for row in good}
    first = next(row for row in rows if row.line not in kept)
    said = (
        f"{len(first.fields)} instead of {width} columns, as in {num_bad} of "
        f"{len(rows)} rows"
    )
    if num_bad > max(1, _MAX_MALFORMED_SHARE * len(rows)):
        raise errors.UserError(
            f"{path}:{first.line}: {said}; in a .tsv file tabs end the "
            "columns, in a .csv file commas, unless they are in quotes."
        )
    errors.warn(f"{path}:{first.line}: {said}, which are left out.")
    return good


def _examples(
    path: str, rows: list[_Row], header: Sequence[str], columns: Columns
) -> examples.TextExamples:
    """The examples of the rows as they are; labels only if there are any."""

    def values(name: str) -> list[str] | None:
        position = _position(name, header, columns.are_numbers)
        if position is None:
            return None
        return [
            _as_text(row.fields[position], f"{path}:{row.line}", name)
            for row in rows
        ]

    parts = [values(name) or [] for name in columns.text]
    texts = [" ".join(filter(None, each)) for each in zip(*parts, strict=True)]
    labels = values(columns.label)
    return examples.TextExamples(
        path=path,
        lines=[row.line for row in rows],
        texts=texts,
        pairs=values(columns.text_pair),
        labels=labels and [label.strip() for label in labels],
    )


def _as_text(value: Any, place: str, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        # JSON can write half of a character. BERT's tokenizer removes U+FFFD.
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise errors.UserError(
        f"{place}: {name!r} is neither text nor a number but "
        f"{_shortened(json.dumps(value))}; choose a field of texts."
    )


def _suspect_header(found: examples.TextExamples) -> None:
    """Warns if the first line seems to be a header after all."""
    first, *others = found.labels or [""]
    if first.isalpha() and others and first not in others:
        errors.warn(
            f"{found.path}:1: the label {first!r} is in no other line; if the "
            "first line is a header, give names of columns, not numbers."
        )


def _labelled(
    found: examples.TextExamples, needs_labels: bool, no_label: str
) -> examples.TextExamples:
    """Checks the labels, and leaves out examples without one."""
    labels = found.labels or []
    if needs_labels and not labels:
        raise errors.UserError(
            f"{found.path}: no column of labels is named; give --label_column."
        )
    if needs_labels and not all(labels):
        raise errors.UserError(
            f"{found.name_of(labels.index(''))}: the label is empty, as in "
            f"{labels.count('')} of {len(found)} rows; fill it in or remove "
            "the row."
        )
    if not any(labels):
        return dataclasses.replace(found, labels=None)
    if not no_label or no_label not in labels:
        return found
    errors.warn(
        f"{found.name_of(labels.index(no_label))}: the label {no_label!r} "
        f"stands for none; {labels.count(no_label)} of {len(found)} rows have "
        "it and are left out."
    )
    return examples.take(
        found, [i for i, x in enumerate(labels) if x != no_label]
    )


def _not_empty(
    found: examples.TextExamples, drops_empty: bool
) -> examples.TextExamples:
    """Warns of empty texts, and leaves their examples out if so wanted."""
    texts = zip(found.texts, found.pairs or found.texts, strict=True)
    is_full = [all(each.strip() for each in pair) for pair in texts]
    if all(is_full):
        return found
    errors.warn(
        f"{found.name_of(is_full.index(False))}: the text is empty, as in "
        f"{is_full.count(False)} of {len(found)} rows"
        f"{', which are left out' if drops_empty else ''}."
    )
    if not drops_empty:
        return found
    return examples.take(found, [i for i, each in enumerate(is_full) if each])


def _quoted(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, map(_shortened, names[:_NUM_COLUMNS_SHOWN])))
    return shown + (", …" if len(names) > _NUM_COLUMNS_SHOWN else "")


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "…"
