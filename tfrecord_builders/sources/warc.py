"""Web archives as a source of documents: the pages of WARC files.

CC-News and Common Crawl publish such files (https://commoncrawl.org/).
trafilatura finds the main text of an HTML page. WET files hold text that has
been extracted already.
"""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bert_pretrain import errors
from tfrecord_builders.sources import source_config, streams

if TYPE_CHECKING:
    from warcio import recordloader, statusandheaders

# Larger pages are mostly lists and data, and take minutes to parse.
_MAX_PAGE_BYTES = 1 << 22
_HTML = ("text/html", "application/xhtml+xml")


def read(
    stream: streams.Stream, config: source_config.SourceConfig
) -> Iterator[streams.Document | streams.Dropped]:
    """Yields the documents of a WARC or WET file.

    Raises:
      UserError: if the file is not a web archive, or is broken.
    """
    del config
    # warcio is optional and loads slowly. `documents.plan` checks that it is
    # installed.
    from warcio import archiveiterator, exceptions

    # trafilatura warns about each page without text. The manifest counts
    # these pages.
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    path = stream.span.path
    try:
        records = archiveiterator.ArchiveIterator(
            _Reader(stream.chunks()), no_record_parse=True
        )
        for record in records:
            if record.rec_type == "conversion":
                yield _plain_text_document(record)
            elif record.rec_type == "response":
                yield _html_document(record)
    except exceptions.ArchiveLoadFailed as error:
        reason = " ".join(str(error).split())[:100]
        raise errors.UserError(
            f"{path}: not a WARC file, or broken ({reason}); check the "
            "source, or fetch the file again."
        ) from error


def _plain_text_document(
    record: "recordloader.ArcWarcRecord",
) -> streams.Document | streams.Dropped:
    content = _read(record)
    name = _name(record)
    if content is None:
        return streams.Dropped("too_long", name)
    return streams.Document(name, content.decode("utf-8", "replace"))


def _html_document(
    record: "recordloader.ArcWarcRecord",
) -> streams.Document | streams.Dropped:
    name = _name(record)
    headers = record.http_headers = _http_headers(record)
    if headers is None or headers.get_statuscode() != "200":
        return streams.Dropped("not_fetched", name)
    content_type = headers.get_header("Content-Type") or ""
    if not content_type.lower().startswith(_HTML):
        return streams.Dropped("not_html", name)
    content = _read(record)
    if content is None:
        return streams.Dropped("too_long", name)
    # Outside of the `try` below: a failing import is not the page's fault.
    import trafilatura

    try:
        text = trafilatura.extract(
            content, include_comments=False, include_tables=False
        )
    # All errors are caught: trafilatura handles some of them itself, but
    # broken pages raise others, and one page must not stop a work unit.
    except Exception as error:
        detail = f"{name}: {type(error).__name__}: {error}"
        return streams.Dropped("unparsable", name, detail)
    if not text:
        return streams.Dropped("no_text", name)
    return streams.Document(name, text)


def _http_headers(
    record: "recordloader.ArcWarcRecord",
) -> "statusandheaders.StatusAndHeaders | None":
    """Parses the HTTP headers of a response; None if the response is empty.

    warcio can parse them itself, but fails on a record without an address.
    """
    from warcio import statusandheaders

    parser = statusandheaders.StatusAndHeadersParser([], verify=False)
    try:
        return parser.parse(record.raw_stream)
    except EOFError:
        return None


def _name(record: "recordloader.ArcWarcRecord") -> str:
    return record.rec_headers.get_header("WARC-Target-URI") or "?"


def _read(record: "recordloader.ArcWarcRecord") -> bytes | None:
    """Reads the content of a record; None if it is too large."""
    content = record.content_stream().read(_MAX_PAGE_BYTES + 1)
    return None if len(content) > _MAX_PAGE_BYTES else content


class _Reader:
    """Makes an iterator of bytes a file object that cannot seek."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Reads at most `size` bytes; none at the end of the file."""
        self._rest = self._rest or next(self._chunks, b"")
        content, self._rest = self._rest[:size], self._rest[size:]
        return content
