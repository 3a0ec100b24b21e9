"""Plain text as a source of documents."""

import math
import re
from collections.abc import Callable, Iterator

from tfrecord_builders.sources import source_config, streams

_WHITE_SPACE = b" \t\n\r\x0b\x0c"
# The end of a line and the blank lines after it.
_BLANK_LINES = re.compile(rb"\n(?:[ \t\r\x0b\x0c]*\n)+")


def read(
    stream: streams.Stream, config: source_config.SourceConfig
) -> Iterator[streams.Document | streams.Dropped]:
    """Yields the documents of a span, as `config.text_layout` divides them."""
    for position, content in _LAYOUTS[config.text_layout](stream):
        name = f"{stream.span.path}:{position}"
        if content is None:
            yield streams.Dropped("too_long", name)
            continue
        try:
            text = streams.decode(content, stream.span.path, position)
        except streams.NotUtf8Error as error:
            yield streams.Dropped("not_utf8", name, str(error))
        else:
            yield streams.Document(name, text)


# Each layout yields (position, content of the document, None if too long).
def _file(stream: streams.Stream) -> Iterator[tuple[int, bytes | None]]:
    chunks, num_bytes = [], 0
    for chunk in stream.chunks():
        chunks.append(chunk)
        num_bytes += len(chunk)
        if num_bytes > streams.MAX_DOCUMENT_BYTES:
            yield 0, None
            return
    content = b"".join(chunks)
    if content.strip():
        yield 0, content


def _lines(stream: streams.Stream) -> Iterator[tuple[int, bytes | None]]:
    for position, line in stream.lines():
        if position >= stream.limit:
            return
        if line is None or line.strip():
            yield position, line


def _blocks(stream: streams.Stream) -> Iterator[tuple[int, bytes | None]]:
    """Divides at blank lines.

    A block belongs to the span that has the blank line before it. So a span
    gives the blocks after its first blank line, up to and including the block
    that ends at the first blank line of the next span.
    """
    is_owned = stream.span.start == 0
    for position, block, blank_line in _divide(stream):
        if is_owned and block != b"":
            yield position, block
        if blank_line >= stream.limit:
            return
        is_owned = True


_LAYOUTS: dict[
    str, Callable[[streams.Stream], Iterator[tuple[int, bytes | None]]]
] = {"file": _file, "line": _lines, "blocks": _blocks}


def _divide(
    stream: streams.Stream,
) -> Iterator[tuple[int, bytes | None, float]]:
    """Divides at blank lines, from the start of the span to the file's end.

    Yields:
      (position, block, position of the last blank line after the block). The
      first block may be empty, or have its beginning in the span before. A
      block longer than MAX_DOCUMENT_BYTES is None.
    """
    # Start one byte early, since the first line may be blank. At the beginning
    # of the file this byte is a line break that the file does not have.
    position = stream.span.start - 1
    buffer = b"" if stream.span.start else b"\n"
    is_too_long = False
    for chunk in stream.chunks(max(position, 0)):
        if position == -1 and chunk.startswith(streams.BOM):
            chunk = chunk[len(streams.BOM) :]
            position += len(streams.BOM)
        num_searched = len(buffer.rstrip(_WHITE_SPACE))
        buffer += chunk
        # White space at the end may continue in the next chunk.
        end, start = len(buffer.rstrip(_WHITE_SPACE)), 0
        for blank in _BLANK_LINES.finditer(buffer, num_searched, end):
            last = buffer.rfind(b"\n", blank.start(), blank.end() - 1) + 1
            block = None if is_too_long else buffer[start : blank.start()]
            yield *_tidy(position + start, block), position + last
            start, is_too_long = blank.end(), False
        if end - start > streams.MAX_DOCUMENT_BYTES:
            is_too_long = True
            start = end - 1  # Keep none of it but the last byte.
        position += start
        buffer = buffer[start:]
        if is_too_long and position >= stream.limit:
            break
    block = None if is_too_long else buffer.rstrip(_WHITE_SPACE)
    yield *_tidy(position, block), math.inf


def _tidy(position: int, block: bytes | None) -> tuple[int, bytes | None]:
    if block and block.startswith(b"\n"):  # The line break of `_divide`.
        position, block = position + 1, block[1:]
    if block and b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    return position, block
