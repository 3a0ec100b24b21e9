"""Parquet as a source of documents: a row each, as HuggingFace publishes them.

The columns are named like the fields of JSON lines: `id, url, title, text` in
wikimedia/wikipedia, `title, text, domain, date, …` in cc_news. A span owns the
row groups that begin in it; of one, a few rows are in memory at a time.
"""

import io

import tensorflow as tf

from bert_pretrain import errors
from tfrecord_builders.sources import json_csv, streams

_ROWS_AT_ONCE = 64
_BUFFER_BYTES = 1 << 20


def read(stream, config):
    """Yields the documents of the row groups of a span."""
    # Optional, and slow to load: `documents.plan` has seen to it.
    import pyarrow
    from pyarrow import parquet

    path = stream.span.path
    with errors.naming(path), tf.io.gfile.GFile(path, "rb") as file:
        try:
            table = parquet.ParquetFile(
                _File(file), buffer_size=_BUFFER_BYTES, pre_buffer=False
            )
            yield from _documents(table, stream, config)
        except pyarrow.ArrowException as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            raise errors.UserError(
                f"{path}: no Parquet file, or cut short ({reason}); check the "
                "source, or fetch the file again."
            ) from error


def _documents(table, stream, config):
    names = table.schema_arrow.names
    json_csv.check_columns(stream.span.path, names, config)
    wanted = {config.text_field, config.title_field}
    columns = [name for name in names if name in wanted]
    num_before = 0
    for i in range(table.num_row_groups):
        group = table.metadata.row_group(i)
        if stream.span.start <= _start(group) < stream.span.end:
            rows = table.iter_batches(
                _ROWS_AT_ONCE, [i], columns, use_threads=False
            )
            yield from _group_documents(rows, num_before, stream, config)
        num_before += group.num_rows


def _start(group):
    """The position in the file of a row group's first byte."""
    columns = [group.column(i) for i in range(group.num_columns)]
    return min(
        column.dictionary_page_offset or column.data_page_offset
        for column in columns
    )


def _group_documents(batches, num_before, stream, config):
    for batch in batches:
        columns = [
            (field.name, batch.column(i))
            for i, field in enumerate(batch.schema)
        ]
        for i in range(batch.num_rows):
            name = f"{stream.span.path}:{num_before + i}"
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
        num_before += batch.num_rows


class _File(io.RawIOBase):
    """A file of tf.io.gfile as pyarrow expects one: a Python file object."""

    def __init__(self, file):
        self._file = file

    def readable(self):
        return True

    def seekable(self):
        return True

    def read(self, size=-1):
        return self._file.read(size)

    def seek(self, offset, whence=io.SEEK_SET):
        self._file.seek(offset, whence)
        return self._file.tell()

    def tell(self):
        return self._file.tell()
