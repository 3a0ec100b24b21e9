"""Input of the readers (spans of files) and their output (documents).

A span is a byte range of a file, in most cases the whole file. A reader gives
the pages or lines that begin inside its span, and reads past the end of the
span to finish the last one. So each page or line of a file is given by exactly
one of its spans.
"""

import bz2
import codecs
import lzma
import math
import os
import re
import types
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, NoReturn

import tensorflow as tf
import zstandard

from bert_pretrain import errors, file_errors
from tfrecord_builders.quality import garbling

# A longer line or page is not a document of text. It is skipped, and is never
# in memory as a whole.
MAX_DOCUMENT_BYTES = 1 << 24
_READ_BYTES = 1 << 20
_INFLATED_BYTES = 1 << 22  # Largest piece of decompressed data.
# Four bytes of Zstandard can expand to a block of 128 KB. Slices of this size
# keep the decompressed pieces small.
_ZSTD_SLICE_BYTES = 124
# Memory limit of a decompressor, so that a worker needs less than 1 GB in
# total. It equals the default limit of the zstd program, and is twice the
# need of `xz -9`.
_MAX_WINDOW_BYTES = 1 << 27
BOM = b"\xef\xbb\xbf"
# Stands for NUL where a library refuses NUL.
NUL_SUBSTITUTE = "\1"
# The header of a bz2 stream and of its first block, at a byte boundary.
_STREAM_START = re.compile(rb"BZh[1-9]1AY&SY")
_STREAM_START_BYTES = 10
# UTF-32 before UTF-16, whose mark is the beginning of that of UTF-32.
_WIDE_ENCODINGS = {
    "UTF-32LE": codecs.BOM_UTF32_LE,
    "UTF-32BE": codecs.BOM_UTF32_BE,
    "UTF-16LE": codecs.BOM_UTF16_LE,
    "UTF-16BE": codecs.BOM_UTF16_BE,
}
_WIDE_HEAD_BYTES = 1 << 16
# At least so much of a UTF-16 text, read as UTF-8, belongs to no script.
_MIN_WIDE_SHARE = 0.05


class Document(NamedTuple):
    """The text of a document.

    Attributes:
      language: the code of its language, for example "de"; empty if the file
        does not tell it.
      notes: counts of what the manifest reports of the documents that were
        read, for example of headings, by name.
      unknown_heading: the title of an article's last section, if it is not
        known as that of a list of works or links; else empty.
    """

    id: str
    text: str
    language: str = ""
    notes: Mapping[str, int] = types.MappingProxyType({})
    unknown_heading: str = ""


class Dropped(NamedTuple):
    """A document that is left out.

    Attributes:
      reason: a short name, which the manifest counts.
      detail: an error message with the name of the file, if the user can
        repair the fault.
    """

    reason: str
    id: str
    detail: str = ""


class Span(NamedTuple):
    """The bytes [start, end) of a file on disk.

    Attributes:
      source: the format of the file, a key of the option `source`.
      input: index of the --input that matches the file.
    """

    source: str
    path: str
    start: int
    end: int
    input: int = 0

    @property
    def num_bytes(self) -> int:
        """Size of the span on disk."""
        return self.end - self.start


def decode(content: bytes, path: str, position: int) -> str:
    """Decodes UTF-8.

    Args:
      position: position of `content` in the file, for the error message.

    Raises:
      NotUtf8Error: with the position of the first wrong byte.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotUtf8Error(
            f"{path}: not UTF-8 at byte {position + error.start} "
            f"(0x{content[error.start]:02x}); convert it, for example with "
            "iconv -t UTF-8."
        ) from error


def too_long(name: str, advice: str) -> Dropped:
    """Drops a document of more than MAX_DOCUMENT_BYTES.

    Args:
      advice: how the user can have it read, in the imperative.
    """
    return Dropped(
        "too_long",
        name,
        f"{name}: longer than {MAX_DOCUMENT_BYTES >> 20} MB, the most for one "
        f"document; {advice}.",
    )


class NotUtf8Error(ValueError):
    """Bytes that are not UTF-8."""


def is_compressed(path: str) -> bool:
    """Whether the file name has a suffix of compressed files."""
    return _suffix(path) in _INFLATERS


def is_multistream(path: str) -> bool:
    """Whether a file has several bz2 streams, so spans may begin inside."""
    if _suffix(path) != ".bz2":
        return False
    with file_errors.naming(path), tf.io.gfile.GFile(path, "rb") as file:
        head = file.read(4 * _READ_BYTES)
    return _STREAM_START.search(head, 1) is not None


class Stream:
    """The decompressed bytes from the start of a span to the end of its file.

    Positions count decompressed bytes from the beginning of the file. For a
    span that begins inside a compressed file, they count from the first stream
    that begins in the span.

    Attributes:
      span: the span.
      consumed: number of bytes of the span that have been read, on disk.
      limit: position of the first byte of the next span. It is infinite until
        the reading reaches the next span, since it is unknown before.
    """

    def __init__(self, span: Span) -> None:
        self.span = span
        self.consumed = 0
        self.limit: float = math.inf

    def chunks(self, start: int | None = None) -> Iterator[bytes]:
        """Yields decompressed bytes.

        Args:
          start: the byte of the file on disk to begin with; by default the
            start of the span.

        Raises:
          UserError: if the file cannot be read or decompressed.
        """
        start = self.span.start if start is None else start
        inflate = _INFLATERS.get(_suffix(self.span.path))
        if not inflate:
            self.limit = self.span.end
            inflate = _refuse_compressed
        with file_errors.naming(self.span.path):
            with tf.io.gfile.GFile(self.span.path, "rb") as file:
                file.seek(start)
                blocks = self._blocks(file)
                yield from filter(None, inflate(self, blocks))

    def text_chunks(self, start: int | None = None) -> Iterator[bytes]:
        """Yields what `chunks` yields of a file of text.

        Raises:
          UserError: also if the file begins with UTF-16 or UTF-32.
        """
        is_head = not (self.span.start if start is None else start)
        for chunk in self.chunks(start):
            if is_head and (name := _wide_encoding(chunk[:_WIDE_HEAD_BYTES])):
                raise errors.UserError(
                    f"{self.span.path}: {name} and not UTF-8, from its first "
                    f"byte on; convert it: iconv -f {name} -t UTF-8."
                )
            is_head = False
            yield chunk

    def lines(self) -> Iterator[tuple[int, bytes | None]]:
        """Yields (position, line), from the first line inside the span.

        Lines have no line break. A line longer than MAX_DOCUMENT_BYTES is
        None. The lines continue after the end of the span: lines at or after
        `limit` belong to the next span.
        """
        # Start one byte early: if that byte is a line break, the span starts
        # with a whole line.
        start = max(self.span.start - 1, 0)
        # The line that is not finished yet, in pieces.
        pieces: list[bytes] = []
        position, num_bytes = start, 0
        for chunk in self.text_chunks(start):
            if position == 0 and not num_bytes and chunk.startswith(BOM):
                chunk = chunk[len(BOM) :]
                position = len(BOM)
            first, *rest = chunk.split(b"\n")
            pieces.append(first)
            num_bytes += len(first)
            for piece in rest:
                yield from self._line(position, pieces, num_bytes)
                position += num_bytes + 1
                pieces, num_bytes = [piece], len(piece)
            if num_bytes > MAX_DOCUMENT_BYTES:
                pieces = []  # `_line` needs only the length of such a line.
        if num_bytes:
            yield from self._line(position, pieces, num_bytes)

    def _line(
        self, position: int, pieces: list[bytes], num_bytes: int
    ) -> Iterator[tuple[int, bytes | None]]:
        if position < self.span.start:
            return
        if num_bytes > MAX_DOCUMENT_BYTES:
            yield position, None
        else:
            yield position, b"".join(pieces).removesuffix(b"\r")

    def _blocks(self, file: tf.io.gfile.GFile) -> Iterator[bytes]:
        while block := file.read(_READ_BYTES):
            self.consumed = min(file.tell(), self.span.end) - self.span.start
            yield block


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _wide_encoding(head: bytes) -> str:
    """Names the UTF-16 or UTF-32 of the first bytes of a file; "" for UTF-8."""
    for name, mark in _WIDE_ENCODINGS.items():
        if head.startswith(mark):
            return name[:-2]  # The mark tells iconv the order of the bytes.
    # Without a mark: the spaces and line breaks of all scripts have NULs.
    if b"\0" not in head:
        return ""
    share = garbling.undefined_share(head.decode("utf-8", "replace"))
    if share < _MIN_WIDE_SHARE:
        return ""
    # The last character may be cut.
    texts = {
        name: head.decode(name, "replace").removesuffix("\ufffd")
        for name in _WIDE_ENCODINGS
    }
    # Letters in the wrong byte order are ideographs, but spaces are not spaces.
    return max(
        (name for name, text in texts.items() if _is_defined(text)),
        key=lambda name: texts[name].count(" ") + texts[name].count("\n"),
        default="",
    )


def _is_defined(text: str) -> bool:
    return text != "" and not garbling.undefined_share(text)


def _refuse_compressed(
    stream: Stream, blocks: Iterator[bytes]
) -> Iterator[bytes]:
    """Yields the blocks of a file without a suffix of compressed files."""
    is_head = True
    for block in blocks:
        for suffix, magic in _MAGIC.items():
            if is_head and not stream.span.start and magic.match(block):
                raise errors.UserError(
                    f"{stream.span.path}: the data is compressed, but its name "
                    f"does not say so; add {suffix} to the name."
                )
        is_head = False
        yield block


def _bunzip(stream: Stream, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Decompresses bz2, and sets the limit at the next span's first stream."""
    num_inflated = 0
    offset, rest = stream.span.start, b""
    if not offset:
        rest = next(blocks, b"") or _raise_empty()
    else:
        num_skipped, rest = _seek_stream(blocks)
        offset += num_skipped
    while rest or (rest := next(blocks, b"")):
        if offset >= stream.span.end and stream.limit == math.inf:
            stream.limit = num_inflated
        decompressor = bz2.BZ2Decompressor()
        while not decompressor.eof:
            if decompressor.needs_input:
                rest = rest or next(blocks, b"")
                if not rest:
                    raise EOFError("it ends inside a stream")
            piece = decompressor.decompress(rest, _INFLATED_BYTES)
            offset, rest = offset + len(rest), b""
            num_inflated += len(piece)
            yield piece
        rest = decompressor.unused_data
        offset -= len(rest)


def _seek_stream(blocks: Iterator[bytes]) -> tuple[int, bytes]:
    """Skips to the first bz2 stream.

    Returns:
      (number of bytes skipped, the bytes of the stream read so far).
    """
    num_skipped, buffer = 0, b""
    for block in blocks:
        buffer += block
        if found := _STREAM_START.search(buffer):
            return num_skipped + found.start(), buffer[found.start() :]
        # The header may begin in this block and end in the next.
        keep = _STREAM_START_BYTES - 1
        num_skipped += max(len(buffer) - keep, 0)
        buffer = buffer[-keep:]
    return num_skipped, b""


def _gunzip(stream: Stream, blocks: Iterator[bytes]) -> Iterator[bytes]:
    del stream
    rest = next(blocks, b"") or _raise_empty()
    while rest:
        decompressor = zlib.decompressobj(wbits=31)  # 31: with gzip header.
        while not decompressor.eof:
            rest = rest or next(blocks, b"")
            if not rest:
                raise EOFError("it ends inside a member")
            yield decompressor.decompress(rest, _INFLATED_BYTES)
            rest = decompressor.unconsumed_tail
        rest = _skip_padding(decompressor.unused_data, blocks)


def _unxz(stream: Stream, blocks: Iterator[bytes]) -> Iterator[bytes]:
    del stream
    rest = next(blocks, b"") or _raise_empty()
    while rest:
        # Its older format has no checksum, and zero bytes are right in it.
        decompressor = lzma.LZMADecompressor(
            lzma.FORMAT_XZ, memlimit=_MAX_WINDOW_BYTES
        )
        while not decompressor.eof:
            if decompressor.needs_input:
                rest = rest or next(blocks, b"")
                if not rest:
                    raise EOFError("it ends inside a stream")
            yield decompressor.decompress(rest, _INFLATED_BYTES)
            rest = b""
        rest = _skip_padding(decompressor.unused_data, blocks)


def _skip_padding(rest: bytes, blocks: Iterator[bytes]) -> bytes:
    """Skips the zero bytes that may follow a gzip member or an xz stream.

    Returns:
      The bytes of the next member that are read so far; none at the end.
    """
    while not (rest := rest.lstrip(b"\0")):
        rest = next(blocks, b"")
        if not rest:
            break
    return rest


def _raise_empty() -> NoReturn:
    # An empty file of a compressor's format is not empty.
    raise EOFError("it is empty")


def _unzstd(stream: Stream, blocks: Iterator[bytes]) -> Iterator[bytes]:
    path = stream.span.path
    rest = next(blocks, b"") or _raise_empty()
    while rest or (rest := next(blocks, b"")):
        decompressor = zstandard.ZstdDecompressor(
            max_window_size=_MAX_WINDOW_BYTES
        ).decompressobj()
        pieces: list[bytes] = []
        num_bytes, unfed = 0, b""
        while not decompressor.eof:
            rest = rest or next(blocks, b"")
            if not rest:
                raise EOFError("it ends inside a frame")
            start = 0
            while start < len(rest) and not decompressor.eof:
                piece = _inflate_slice(decompressor, rest, start, path)
                start += _ZSTD_SLICE_BYTES
                pieces.append(piece)
                num_bytes += len(piece)
                if num_bytes >= _READ_BYTES:
                    yield b"".join(pieces)
                    pieces, num_bytes = [], 0
            unfed = rest[start:]
            rest = b""
        yield b"".join(pieces)
        rest = decompressor.unused_data + unfed


def _inflate_slice(
    decompressor: "zstandard.ZstdDecompressionObj",  # only in its stubs
    content: bytes,
    start: int,
    path: str,
) -> bytes:
    try:
        return decompressor.decompress(
            content[start : start + _ZSTD_SLICE_BYTES]
        )
    except zstandard.ZstdError as error:
        if "too much memory" in str(error):
            raise errors.UserError(
                f"{path}: its compression window is larger than "
                f"{_MAX_WINDOW_BYTES >> 20} MB, which each worker would have "
                "to hold in memory; compress it again: zstd -d --long=31 -c "
                f"{path} | zstd -o NEW.zst"
            ) from error
        raise EOFError(str(error)) from error


_INFLATERS: dict[str, Callable[[Stream, Iterator[bytes]], Iterator[bytes]]] = {
    ".bz2": _bunzip,
    ".gz": _gunzip,
    ".xz": _unxz,
    ".zst": _unzstd,
}
_MAGIC = {
    ".bz2": _STREAM_START,
    ".gz": re.compile(rb"\x1f\x8b\x08"),
    ".xz": re.compile(rb"\xfd7zXZ\0"),
    ".zst": re.compile(rb"\x28\xb5\x2f\xfd"),
}
