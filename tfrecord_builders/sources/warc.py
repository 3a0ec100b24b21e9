"""Web archives as a source of documents: the pages of WARC files.

CC-News and Common Crawl publish them (https://commoncrawl.org/). The text of a
page is what trafilatura takes for its main part; what a WET file holds is
text already.
"""

import logging

from bert_pretrain import errors
from tfrecord_builders.sources import streams

# Pages above this are lists and dumps, which cost minutes to parse.
_MAX_PAGE_BYTES = 1 << 22
_HTML = ("text/html", "application/xhtml+xml")


def read(stream, config):
    """Yields the documents of a WARC file, and which pages are none."""
    del config
    # Optional, and slow to load: `documents.plan` has seen to it.
    from warcio import archiveiterator, exceptions

    # It warns of each page in which it finds nothing; they are counted.
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    path = stream.span.path
    try:
        records = archiveiterator.ArchiveIterator(
            _Reader(stream.chunks()), no_record_parse=True
        )
        for record in records:
            if record.rec_type == "conversion":
                yield _plain(record)
            elif record.rec_type == "response":
                yield _page(record)
    except exceptions.ArchiveLoadFailed as error:
        reason = " ".join(str(error).split())[:100]
        raise errors.UserError(
            f"{path}: no WARC file, or broken ({reason}); check the source, "
            "or fetch the file again."
        ) from error


def _plain(record):
    content = _read(record)
    name = _name(record)
    if content is None:
        return streams.Dropped("too_long", name)
    return streams.Document(name, content.decode("utf-8", "replace"))


def _page(record):
    """The document of a page that was fetched, or why it is none."""
    name = _name(record)
    headers = record.http_headers = _http_headers(record.raw_stream)
    if headers is None or headers.get_statuscode() != "200":
        return streams.Dropped("not_fetched", name)
    content_type = headers.get_header("Content-Type") or ""
    if not content_type.lower().startswith(_HTML):
        return streams.Dropped("not_html", name)
    content = _read(record)
    if content is None:
        return streams.Dropped("too_long", name)
    # Not within what is guarded: that it does not load is no page's fault.
    import trafilatura

    try:
        text = trafilatura.extract(
            content, include_comments=False, include_tables=False
        )
    # All errors: it expects some of them itself, but a dirty page raises
    # others, and one page must not fail a whole unit.
    except Exception as error:
        detail = f"{name}: {type(error).__name__}: {error}"
        return streams.Dropped("unparsable", name, detail)
    if not text:
        return streams.Dropped("no_text", name)
    return streams.Document(name, text)


def _http_headers(stream):
    """The headers that a server sent; None if it sent nothing.

    warcio would read them itself, but fails on a record without an address.
    """
    from warcio import statusandheaders

    try:
        return statusandheaders.StatusAndHeadersParser([], verify=False).parse(
            stream
        )
    except EOFError:
        return None


def _name(record):
    return record.rec_headers.get_header("WARC-Target-URI") or "?"


def _read(record):
    """The bytes of a record, or None if they are too many."""
    content = record.content_stream().read(_MAX_PAGE_BYTES + 1)
    return None if len(content) > _MAX_PAGE_BYTES else content


class _Reader:
    """The bytes that chunks hold, as a file that is read forwards."""

    def __init__(self, chunks):
        self._chunks = chunks
        self._rest = b""

    def read(self, size):
        self._rest = self._rest or next(self._chunks, b"")
        content, self._rest = self._rest[:size], self._rest[size:]
        return content
