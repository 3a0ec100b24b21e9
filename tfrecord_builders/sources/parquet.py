"""Parquet as a source of documents: one document in each row of the table.

HuggingFace publishes datasets in this form. The columns have the names of the
fields in JSON lines: `id, url, title, text` in wikimedia/wikipedia, `title,
text, domain, date, …` in cc_news. The row groups are divided evenly over the
bytes of the file, and a span owns those of its bytes. Only a few rows of a row
group are in memory at a time.
"""

import io
from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING, NoReturn

import tensorflow as tf

from bert_pretrain import errors, file_errors, files
from tfrecord_builders.sources import json_csv, source_config, streams

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import parquet

_ROWS_AT_ONCE = 64
_BUFFER_BYTES = 1 << 20


def read(
    stream: streams.Stream, config: source_config.SourceConfig
) -> Iterator[streams.Document | streams.Dropped]:
    """Yields the documents of the row groups of a span.

    Raises:
      UserError: if the file is not Parquet, or lacks a column of strings that
        the options name.
    """
    # pyarrow is optional and loads slowly. `documents.plan` checks that it is
    # installed.
    import pyarrow
    from pyarrow import parquet

    path = stream.span.path
    with file_errors.naming(path), tf.io.gfile.GFile(path, "rb") as file:
        try:
            table = parquet.ParquetFile(
                _File(file),
                buffer_size=_BUFFER_BYTES,
                pre_buffer=False,
                page_checksum_verification=True,
            )
            yield from _documents(table, stream, config)
        # Its OSErrors are about the content; the file is read by TensorFlow.
        except (pyarrow.ArrowException, OSError) as error:
            _raise_damaged(path, str(error).partition("\n")[0].rstrip("."))


def _documents(
    table: "parquet.ParquetFile",
    stream: streams.Stream,
    config: source_config.SourceConfig,
) -> Iterator[streams.Document | streams.Dropped]:
    path = stream.span.path
    types = _types(table.schema_arrow)
    json_csv.check_columns(path, list(types), config)
    for name in json_csv.wanted_fields(config).values():
        if not _is_text(types[name]):
            raise errors.UserError(
                f"{path}: the column {name!r} is of type {types[name]}; only "
                "strings are read (string, large_string, string_view): choose "
                "another column, for example NAME.NAME inside a struct, or "
                "convert this one."
            )
    columns = [
        name
        for name in types
        if name in (config.text_field, config.title_field)
    ]
    num_bytes, first_row = files.size(path), 0
    for i in range(table.num_row_groups):
        group = table.metadata.row_group(i)
        # Not its true place: pyarrow ends the process if the data about the
        # columns of a group are damaged.
        place = num_bytes * i // table.num_row_groups
        if stream.span.start <= place < stream.span.end:
            batches = table.iter_batches(
                _ROWS_AT_ONCE, [i], columns, use_threads=False
            )
            num_rows = yield from _group_documents(
                batches, first_row, stream, config
            )
            if num_rows != group.num_rows:
                _raise_damaged(
                    path,
                    f"{num_rows} of {group.num_rows} rows in row group {i}",
                )
        first_row += group.num_rows
    if first_row != table.metadata.num_rows:
        _raise_damaged(
            path, f"{first_row} of {table.metadata.num_rows} rows in it"
        )


def _raise_damaged(path: str, problem: str) -> NoReturn:
    raise errors.UserError(
        f"{path}: not a Parquet file, or not complete ({problem}); check the "
        "source, or fetch the file again."
    )


def _types(
    fields: Iterable["pyarrow.Field"], outer: str = ""
) -> dict[str, "pyarrow.DataType"]:
    """Maps the names of columns to types: NAME, or NAME.NAME in structs.

    A column whose own name has a dot goes before a field inside a struct.
    """
    from pyarrow import types

    found: dict[str, pyarrow.DataType] = {}
    inner: dict[str, pyarrow.DataType] = {}
    for field in fields:
        name = outer + field.name
        found[name] = field.type
        if types.is_struct(field.type):
            inner |= _types(field.type, f"{name}.")
    return inner | found


def _is_text(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return (
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_null(kind)
    )


def _group_documents(
    batches: Iterable["pyarrow.RecordBatch"],
    first_row: int,
    stream: streams.Stream,
    config: source_config.SourceConfig,
) -> Generator[streams.Document | streams.Dropped, None, int]:
    """Yields the documents of a row group, and returns its number of rows."""
    num_rows = 0
    for batch in batches:
        columns = [
            (field.name, batch.column(i))
            for i, field in enumerate(batch.schema)
        ]
        for i in range(batch.num_rows):
            name = f"{stream.span.path}:{first_row + num_rows + i}"
            try:
                record = {key: column[i].as_py() for key, column in columns}
            except UnicodeDecodeError as error:
                yield streams.Dropped("not_utf8", name, f"{name}: {error}.")
                continue
            text = json_csv.value_of(record, config.text_field)
            if isinstance(text, str) and len(text) > streams.MAX_DOCUMENT_BYTES:
                yield streams.too_long(name, "divide it into rows")
            else:
                yield json_csv.document(name, record, config)
        num_rows += batch.num_rows
    return num_rows


class _File(io.RawIOBase):
    """Makes a file of tf.io.gfile a Python file object, as pyarrow needs."""

    def __init__(self, file: tf.io.gfile.GFile) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._file.seek(offset, whence)
        return self._file.tell()

    def tell(self) -> int:
        return self._file.tell()
