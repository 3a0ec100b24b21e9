"""Web archives as a source of documents: the pages of WARC and ARC files.

CC-News and Common Crawl publish such files (https://commoncrawl.org/).
trafilatura finds the main text of an HTML page. WET files hold text that has
been extracted already.
"""

import logging
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NoReturn

import zstandard

from bert_pretrain import errors
from tfrecord_builders.sources import source_config, streams

if TYPE_CHECKING:
    import webencodings
    from warcio import bufferedreaders, recordloader, statusandheaders

# Larger pages are mostly lists and data, and take minutes to parse.
_MAX_PAGE_BYTES = 1 << 22
_MAX_LINE_BYTES = 1 << 16
_MAX_WINDOW_BYTES = 1 << 23  # RFC 8878, for content of HTTP (RFC 9659).
_SLICE_BYTES = 1 << 10
_GZIP = b"\x1f\x8b"
_ENDS_EARLY = "its compressed content ends early"
_HTML = ("text/html", "application/xhtml+xml")
# Records that hold no page, or one that another record holds.
_NO_PAGE = ("warcinfo", "request", "metadata", "revisit")
_CHUNK = re.compile(rb"\s*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s\"';,]+)", re.IGNORECASE)
# The declarations of HTML and of XML.
_META_CHARSET = re.compile(
    rb"<meta\b[^>]*?\bcharset\s*=\s*[\"']?\s*([^\s\"'/>;]+)"
    rb"|^\s*<\?xml\b[^>]*?\bencoding\s*=\s*[\"']([^\"']+)",
    re.IGNORECASE,
)
# Browsers look for it in the first 1024 bytes, and change their mind if it
# comes later in the head of the page.
_META_BYTES = 1 << 14
# Of the characters that are not ASCII: text in another encoding has nearly none
# that is right in UTF-8.
_MAX_WRONG_SHARE = 0.1


def read(
    stream: streams.Stream, config: source_config.SourceConfig
) -> Iterator[streams.Document | streams.Dropped]:
    """Yields the documents of a WARC, WET or ARC file.

    Raises:
      UserError: if the file is not a web archive, or is broken.
    """
    del config
    # trafilatura warns about each page without text. The manifest counts
    # these pages.
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    for record in _records(stream):
        if record.rec_type == "conversion":
            yield _plain_text_document(record)
        elif record.rec_type == "response":
            yield _html_document(record)
        elif record.rec_type == "resource":
            yield _page(record, record.content_type or "", {})
        elif record.rec_type not in _NO_PAGE:
            # "continuation", or a name that no standard has.
            yield streams.Dropped("unknown_record", _name(record))


def _records(
    stream: streams.Stream,
) -> Iterator["recordloader.ArcWarcRecord"]:
    """Yields the records, and checks that each is whole.

    warcio's own iterator takes a record that ends early for whole, and skips a
    line that is not the beginning of a record.
    """
    # warcio is optional and loads slowly. `documents.plan` checks that it is
    # installed.
    from warcio import bufferedreaders, exceptions, recordloader

    path = stream.span.path
    reader = bufferedreaders.BufferedReader(_Reader(stream.chunks()))
    loader = recordloader.ArcWarcRecordLoader()
    before = "at the beginning of the file"
    while line := _next_line(reader):
        position = reader.tell() - reader.rem_length() - len(line)
        try:
            record = loader.parse_record_stream(
                reader, line, no_record_parse=True
            )
        except errors.UserError:
            raise  # The file cannot be decompressed.
        # warcio meets a wrong date or length of ARC with a ValueError.
        except (exceptions.ArchiveLoadFailed, ValueError, EOFError) as error:
            text = line.decode("utf-8", "replace")
            _raise_broken(path, f"{text.strip()[:60]!r} {before}", error)
        record_name = f"the record of {_name(record)} at byte {position}"
        length = record.rec_headers.get_header("Content-Length")
        if not (length and length.isascii() and length.isdigit()):
            said = f"Content-Length {length!r}" if length else "no length"
            _raise_broken(path, f"{record_name} has {said}")
        yield record
        while record.raw_stream.read(streams.MAX_DOCUMENT_BYTES):
            pass
        if num_missing := record.raw_stream.limit:
            _raise_broken(
                path,
                f"the file ends {num_missing} bytes before {record_name} does",
            )
        before = f"after {record_name}, whose Content-Length is {length}"


def _next_line(reader: "bufferedreaders.BufferedReader") -> bytes:
    """Reads the first line that is not blank; nothing at the end."""
    while line := reader.readline(_MAX_LINE_BYTES):
        if line.strip():
            return line
    return b""


def _raise_broken(
    path: str, problem: str, cause: Exception | None = None
) -> NoReturn:
    raise errors.UserError(
        f"{path}: not a WARC file, or broken ({problem}); check the source, or "
        "fetch the file again."
    ) from cause


def _plain_text_document(
    record: "recordloader.ArcWarcRecord",
) -> streams.Document | streams.Dropped:
    content = record.raw_stream.read(_MAX_PAGE_BYTES + 1)
    name = _name(record)
    if len(content) > _MAX_PAGE_BYTES:
        return streams.Dropped("too_long", name)
    return streams.Document(name, content.decode("utf-8", "replace"))


def _html_document(
    record: "recordloader.ArcWarcRecord",
) -> streams.Document | streams.Dropped:
    headers = _http_headers(record)
    if headers is None or headers.get_statuscode() != "200":
        return streams.Dropped("not_fetched", _name(record))
    # The first of several fields of the same name.
    fields = {name.lower(): value for name, value in headers.headers[::-1]}
    return _page(record, fields.get("content-type", ""), fields)


def _page(
    record: "recordloader.ArcWarcRecord",
    content_type: str,
    http_fields: Mapping[str, str],
) -> streams.Document | streams.Dropped:
    """The text of an HTML page.

    Args:
      http_fields: the HTTP headers, with names in lower case.
    """
    name = _name(record)
    if not content_type.lower().startswith(_HTML):
        return streams.Dropped("not_html", name)
    content = record.raw_stream.read(_MAX_PAGE_BYTES + 1)
    if len(content) > _MAX_PAGE_BYTES:
        return streams.Dropped("too_long", name)
    try:
        content = _decode_http(content, http_fields)
    except ValueError as error:
        return streams.Dropped("not_decoded", name, f"{name}: {error}.")
    if len(content) > _MAX_PAGE_BYTES:
        return streams.Dropped("too_long", name)
    html, notes = _decode_text(content, content_type)
    # Outside of the `try` below: a failing import is not the page's fault.
    import trafilatura

    try:
        text = trafilatura.extract(
            html.encode("utf-8", "replace"),
            include_comments=False,
            include_tables=False,
        )
    # All errors are caught: trafilatura handles some of them itself, but
    # broken pages raise others, and one page must not stop a work unit.
    except Exception as error:
        detail = f"{name}: {type(error).__name__}: {error}"
        return streams.Dropped("unparsable", name, detail)
    if not text:
        return streams.Dropped("no_text", name)
    return streams.Document(name, text, notes=notes)


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


def _decode_http(content: bytes, fields: Mapping[str, str]) -> bytes:
    """Undoes the encodings that HTTP applied to the content of a response.

    Many crawlers store the decoded content beside the original headers. So
    content without the mark of an encoding is taken as it is.

    Raises:
      ValueError: if it cannot be decoded.
    """
    if "chunked" in fields.get("transfer-encoding", "").lower():
        content = _join_chunks(content)
    for name in reversed(fields.get("content-encoding", "").lower().split(",")):
        inflate = _INFLATERS.get(name.strip())
        if inflate:
            try:
                content = inflate(content)
            except (zlib.error, zstandard.ZstdError) as error:
                raise ValueError(f"not {name.strip()} ({error})") from error
    return content


def _join_chunks(content: bytes) -> bytes:
    pieces: list[bytes] = []
    position = 0
    while chunk := _CHUNK.match(content, position):
        start, size = chunk.end(), int(chunk[1], 16)
        if not size:
            return b"".join(pieces)
        position = start + size
        if position > len(content):
            raise ValueError(f"it ends inside a chunk of {size} bytes")
        pieces.append(content[start:position])
    if position:
        raise ValueError(f"no chunk at byte {position} of its content")
    return content


def _gunzip(content: bytes) -> bytes:
    if not content.startswith(_GZIP):
        return content
    inflated = b""
    while content.startswith(_GZIP) and len(inflated) <= _MAX_PAGE_BYTES:
        member, content = _inflate(content, 31)
        inflated += member
    return inflated


def _undeflate(content: bytes) -> bytes:
    # RFC 9110 means the format of zlib, but some servers send it without its
    # header. HTML begins with a "<" or with white space.
    if content.lstrip().startswith(b"<"):
        return content
    has_header = (
        len(content) > 1 and not int.from_bytes(content[:2], "big") % 31
    )
    return _inflate(content, 15 if has_header else -15)[0]


def _inflate(content: bytes, wbits: int) -> tuple[bytes, bytes]:
    """Returns (the decompressed data, what follows the compressed data)."""
    decompressor = zlib.decompressobj(wbits)
    inflated = decompressor.decompress(content, _MAX_PAGE_BYTES + 1)
    if not decompressor.eof and len(inflated) <= _MAX_PAGE_BYTES:
        raise ValueError(_ENDS_EARLY)
    return inflated, decompressor.unused_data


def _unzstd(content: bytes) -> bytes:
    if not content.startswith(b"\x28\xb5\x2f\xfd"):
        return content
    decompressor = zstandard.ZstdDecompressor(
        max_window_size=_MAX_WINDOW_BYTES
    ).decompressobj()
    inflated = b""
    # Slices, because four bytes can expand to 128 KB.
    for start in range(0, len(content), _SLICE_BYTES):
        inflated += decompressor.decompress(
            content[start : start + _SLICE_BYTES]
        )
        if decompressor.eof or len(inflated) > _MAX_PAGE_BYTES:
            return inflated
    raise ValueError(_ENDS_EARLY)


def _unbrotli(content: bytes) -> bytes:
    # Brotli has no mark, but its data is no HTML.
    if content.lstrip().startswith(b"<"):
        return content
    try:
        import brotli
    except ImportError as error:
        raise ValueError(
            "compressed with Brotli; pip install brotli to read it"
        ) from error
    decompressor = brotli.Decompressor()
    try:
        inflated = decompressor.process(
            content, output_buffer_limit=_MAX_PAGE_BYTES + 1
        )
    except brotli.error as error:
        raise ValueError(f"not Brotli ({error})") from error
    if not decompressor.is_finished() and len(inflated) <= _MAX_PAGE_BYTES:
        raise ValueError(_ENDS_EARLY)
    return inflated


_INFLATERS: dict[str, Callable[[bytes], bytes]] = {
    "br": _unbrotli,
    "deflate": _undeflate,
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "zstd": _unzstd,
}


def _decode_text(
    content: bytes, content_type: str
) -> tuple[str, Mapping[str, int]]:
    """Decodes a page as browsers do (https://encoding.spec.whatwg.org/).

    A byte order mark says the encoding, else the HTTP header, else the page
    itself. But a declaration that does not fit the bytes is not believed, and
    what is right in UTF-8 is UTF-8: servers may declare one encoding for all.

    Returns:
      (text, notes for the manifest).
    """
    import webencodings

    texts = [
        webencodings.decode(content, encoding)[0]
        for encoding in _declared_encodings(content, content_type)
    ]
    as_utf8, _ = webencodings.decode(content, webencodings.UTF8)
    # ASCII may be ISO-2022-JP, or UTF-16.
    if not content.isascii() and _is_decoded(as_utf8):
        return as_utf8, {}
    text = min(texts, key=lambda text: text.count("\ufffd"), default=as_utf8)
    if _is_decoded(text):
        return text, {}
    text, _ = webencodings.decode(content, _guess_encoding(content))
    return text, {"charsets_guessed": 1}


def _is_decoded(text: str) -> bool:
    """Whether an encoding fits, judged by its result."""
    num_wrong = text.count("\ufffd")
    num_wide = len(text) - len(text.encode("ascii", "ignore"))
    return num_wrong <= _MAX_WRONG_SHARE * num_wide


def _declared_encodings(
    content: bytes, content_type: str
) -> Iterator["webencodings.Encoding"]:
    """Yields the known encodings that HTTP and the page declare."""
    import webencodings

    if parameter := _CHARSET.search(content_type):
        encoding = webencodings.lookup(parameter[1])
        # All pages in UTF-16 have NULs, in their tags.
        if encoding and (not _is_utf16(encoding) or b"\0" in content):
            yield encoding
    if declaration := _META_CHARSET.search(content[:_META_BYTES]):
        label = declaration[1] or declaration[2]
        encoding = webencodings.lookup(label.decode("ascii", "replace"))
        if encoding:
            # A declaration that can be read is not in UTF-16.
            yield webencodings.UTF8 if _is_utf16(encoding) else encoding


def _is_utf16(encoding: "webencodings.Encoding") -> bool:
    return encoding.name.startswith("utf-16")


def _guess_encoding(content: bytes) -> "webencodings.Encoding":
    import webencodings
    from trafilatura import utils

    guesses = map(webencodings.lookup, utils.detect_encoding(content))
    return next(filter(None, guesses), webencodings.lookup("windows-1252"))


def _name(record: "recordloader.ArcWarcRecord") -> str:
    return record.rec_headers.get_header("WARC-Target-URI") or "?"


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
