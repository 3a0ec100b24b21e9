"""Parquet as a source of documents: one document in each row of the table.

HuggingFace publishes datasets in this form. The columns have the names of the
fields in JSON lines: `id, url, title, text` in wikimedia/wikipedia, `title,
text, domain, date, …` in cc_news. A span owns the row groups that begin in it.
Only a few rows of a row group are in memory at a time.
"""

import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import tensorflow as tf

from bert_pretrain import errors, file_errors
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
      UserError: if the file is not Parquet, or lacks a column that the
        options name.
    """
    # pyarrow is optional and loads slowly. `documents.plan` checks that it is
    # installed.
    import pyarrow
    from pyarrow import parquet

    path = stream.span.path
    with file_errors.naming(path), tf.io.gfile.GFile(path, "rb") as file:
        try:
            table = parquet.ParquetFile(
                _File(file), buffer_size=_BUFFER_BYTES, pre_buffer=False
            )
            yield from _documents(table, stream, config)
        except pyarrow.ArrowException as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise errors.UserError(
                f"{path}: not a Parquet file, or not complete ({reason}); "
                "check the source, or fetch the file again."
            ) from error


def _documents(
    table: "parquet.ParquetFile",
    stream: streams.Stream,
    config: source_config.SourceConfig,
) -> Iterator[streams.Document | streams.Dropped]:
    names = table.schema_arrow.names
    json_csv.check_columns(stream.span.path, names, config)
    wanted = {config.text_field, config.title_field}
    columns = [name for name in names if name in wanted]
    first_row = 0
    for i in range(table.num_row_groups):
        group = table.metadata.row_group(i)
        if stream.span.start <= _start(group) < stream.span.end:
            batches = table.iter_batches(
                _ROWS_AT_ONCE, [i], columns, use_threads=False
            )
            yield from _group_documents(batches, first_row, stream, config)
        first_row += group.num_rows


def _start(group: "parquet.RowGroupMetaData") -> int:
    """Returns the position of a row group's first byte in the file."""
    columns = [group.column(i) for i in range(group.num_columns)]
    return min(
        column.dictionary_page_offset or column.data_page_offset
        for column in columns
    )


def _group_documents(
    batches: Iterable["pyarrow.RecordBatch"],
    first_row: int,
    stream: streams.Stream,
    config: source_config.SourceConfig,
) -> Iterator[streams.Document | streams.Dropped]:
    for batch in batches:
        columns = [
            (field.name, batch.column(i))
            for i, field in enumerate(batch.schema)
        ]
        for i in range(batch.num_rows):
            name = f"{stream.span.path}:{first_row + i}"
            try:
                record = {key: column[i].as_py() for key, column in columns}
            except UnicodeDecodeError as error:
                yield streams.Dropped("not_utf8", name, f"{name}: {error}.")
                continue
            text = record[config.text_field]
            if isinstance(text, str) and len(text) > streams.MAX_DOCUMENT_BYTES:
                yield streams.Dropped("too_long", name)
            else:
                yield json_csv.document(name, record, config)
        first_row += batch.num_rows


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
