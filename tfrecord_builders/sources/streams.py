"""What a source reads and gives: spans of files, as bytes, pages or lines.

A span is a byte range of a file, whole files for the most part. It owns the
pages or lines that begin in it, and reads on past its end to finish the last
one; so the spans of a file together give each of them once.
"""

import bz2
import lzma
import math
import os
import re
import zlib
from typing import NamedTuple

import tensorflow as tf
import zstandard

from bert_pretrain import errors

# A line or page above this is not a document of text; it is passed over
# without being held.
MAX_DOCUMENT_BYTES = 1 << 24
_READ_BYTES = 1 << 20
_INFLATED_BYTES = 1 << 22  # at a time
# Four bytes of Zstandard may stand for a block of 128 KB.
_ZSTD_SLICE_BYTES = 124
# What decompressing may hold, lest a worker takes more than 1 GB in all: as
# much as the zstd program allows unasked, and twice what `xz -9` needs.
_MAX_WINDOW_BYTES = 1 << 27
BOM = b"\xef\xbb\xbf"
# The header of a bz2 stream and of its first block, at a byte boundary.
_STREAM_START = re.compile(rb"BZh[1-9]1AY&SY")
_STREAM_START_BYTES = 10


class Document(NamedTuple):
    id: str
    text: str


class Dropped(NamedTuple):
    """A document that is left out."""

    reason: str
    id: str
    detail: str = ""  # What is wrong, naming the file, where it may be mended.


class Span(NamedTuple):
    """The bytes [start, end) of a file, as it lies on the disk."""

    source: str
    path: str
    start: int
    end: int
    input: int = 0  # the number of the --input that names the file

    @property
    def num_bytes(self):
        return self.end - self.start


def decode(content, path, position):
    """Decodes the UTF-8 `content` found at a byte `position`.

    Raises:
      NotUtf8Error: saying where in the file it is broken.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotUtf8Error(
            f"{path}: not UTF-8 at byte {position + error.start} "
            f"(0x{content[error.start]:02x}); convert it, for example with "
            "iconv -t UTF-8."
        ) from error


class NotUtf8Error(ValueError):
    pass


def is_compressed(path):
    return _suffix(path) in _INFLATERS


def is_multistream(path):
    """Whether a file is bz2 streams that can be read from the middle on."""
    if _suffix(path) != ".bz2":
        return False
    with errors.naming(path), tf.io.gfile.GFile(path, "rb") as file:
        head = file.read(4 * _READ_BYTES)
    return _STREAM_START.search(head, 1) is not None


class Stream:
    """The bytes from a span's start to its file's end, decompressed.

    Positions count decompressed bytes: from the file's beginning, except for
    a span that begins inside a compressed file.

    Attributes:
      consumed: the bytes of the span read so far, as they lie on the disk.
      limit: the position at which the next span's bytes begin; infinite until
        it has been reached, so that a position read before can be compared.
    """

    def __init__(self, span):
        self.span = span
        self.consumed = 0
        self.limit = math.inf

    def chunks(self, start=None):
        """Yields the bytes, from the byte `start` of the file on."""
        start = self.span.start if start is None else start
        inflate = _INFLATERS.get(_suffix(self.span.path))
        if not inflate:
            self.limit = self.span.end
        with errors.naming(self.span.path):
            with tf.io.gfile.GFile(self.span.path, "rb") as file:
                file.seek(start)
                blocks = self._blocks(file)
                yield from filter(
                    None, inflate(self, blocks) if inflate else blocks
                )

    def lines(self):
        """Yields (position, line) from the first that begins in the span.

        A line above MAX_DOCUMENT_BYTES is None. The lines go on past the
        span's end: those from `limit` on belong to the next one.
        """
        # One byte back: a line begins at `start` if the byte before ends one.
        start = max(self.span.start - 1, 0)
        position, tail = start, []
        for chunk in self.chunks(start):
            if position == 0 and not tail and chunk.startswith(BOM):
                chunk = chunk[len(BOM) :]
                position = len(BOM)
            first, *rest = chunk.split(b"\n")
            tail.append(first)
            for piece in rest:
                yield from self._line(position, tail)
                position += sum(map(len, tail)) + 1
                tail = [piece]
            if len(tail) > 2 and sum(map(len, tail)) > MAX_DOCUMENT_BYTES:
                # Only the length is needed: keep it in a form without bytes.
                tail = [_Skipped(sum(map(len, tail)))]
        if any(tail):
            yield from self._line(position, tail)

    def _line(self, position, tail):
        if position < self.span.start:
            return
        if sum(map(len, tail)) > MAX_DOCUMENT_BYTES:
            yield position, None
        else:
            yield position, b"".join(tail).removesuffix(b"\r")

    def _blocks(self, file):
        while block := file.read(_READ_BYTES):
            self.consumed = min(file.tell(), self.span.end) - self.span.start
            yield block


class _Skipped:
    """Stands for bytes that were passed over."""

    def __init__(self, length):
        self._length = length

    def __len__(self):
        return self._length


def _suffix(path):
    return os.path.splitext(path)[1].lower()


def _bunzip(stream, blocks):
    """Inflates bz2 streams; sets the limit at the first one past the end."""
    produced = 0
    offset, rest = stream.span.start, b""
    if offset:
        skipped, rest = _seek_stream(blocks)
        offset += skipped
    while rest or (rest := next(blocks, b"")):
        if offset >= stream.span.end and stream.limit == math.inf:
            stream.limit = produced
        decompressor = bz2.BZ2Decompressor()
        while not decompressor.eof:
            if decompressor.needs_input:
                rest = rest or next(blocks, b"")
                if not rest:
                    raise EOFError("it ends inside a stream")
            piece = decompressor.decompress(rest, _INFLATED_BYTES)
            offset, rest = offset + len(rest), b""
            produced += len(piece)
            yield piece
        rest = decompressor.unused_data
        offset -= len(rest)


def _seek_stream(blocks):
    """Passes over bytes up to a stream: (bytes skipped, bytes read of it)."""
    skipped, buffer = 0, b""
    for block in blocks:
        buffer += block
        if found := _STREAM_START.search(buffer):
            return skipped + found.start(), buffer[found.start() :]
        keep = _STREAM_START_BYTES - 1
        skipped += max(len(buffer) - keep, 0)
        buffer = buffer[-keep:]
    return skipped, b""


def _gunzip(stream, blocks):
    del stream
    rest = b""
    # Zero bytes may pad what follows a member.
    while rest or (rest := next(blocks, b"").lstrip(b"\0")):
        decompressor = zlib.decompressobj(wbits=31)  # With gzip's header.
        while not decompressor.eof:
            rest = rest or next(blocks, b"")
            if not rest:
                raise EOFError("it ends inside a member")
            yield decompressor.decompress(rest, _INFLATED_BYTES)
            rest = decompressor.unconsumed_tail
        rest = decompressor.unused_data.lstrip(b"\0")


def _unxz(stream, blocks):
    del stream
    rest = b""
    while rest or (rest := next(blocks, b"").lstrip(b"\0")):
        decompressor = lzma.LZMADecompressor(memlimit=_MAX_WINDOW_BYTES)
        while not decompressor.eof:
            if decompressor.needs_input:
                rest = rest or next(blocks, b"")
                if not rest:
                    raise EOFError("it ends inside a stream")
            yield decompressor.decompress(rest, _INFLATED_BYTES)
            rest = b""
        rest = decompressor.unused_data.lstrip(b"\0")


def _unzstd(stream, blocks):
    path = stream.span.path
    rest = b""
    while rest or (rest := next(blocks, b"")):
        decompressor = zstandard.ZstdDecompressor(
            max_window_size=_MAX_WINDOW_BYTES
        ).decompressobj()
        pieces, num_bytes = [], 0
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


def _inflate_slice(decompressor, content, start, path):
    try:
        return decompressor.decompress(
            content[start : start + _ZSTD_SLICE_BYTES]
        )
    except zstandard.ZstdError as error:
        if "too much memory" in str(error):
            raise errors.UserError(
                f"{path}: a window above {_MAX_WINDOW_BYTES >> 20} MB, which "
                "each worker would hold; compress it again: zstd -d "
                f"--long=31 -c {path} | zstd -o NEW.zst"
            ) from error
        raise EOFError(str(error)) from error


_INFLATERS = {
    ".bz2": _bunzip,
    ".gz": _gunzip,
    ".xz": _unxz,
    ".zst": _unzstd,
}
