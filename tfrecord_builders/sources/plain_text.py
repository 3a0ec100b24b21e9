"""Plain text as a source of documents."""

import math
import re
from collections.abc import Callable, Iterator

from tfrecord_builders.sources import source_config, streams

_WHITE_SPACE = b" \t\n\r\x0b\x0c"
_SHORTER = {
    "file": "give --text_layout=blocks or --text_layout=line",
    "line": "divide it by line breaks",
    "blocks": "no blank line divides it: give --text_layout=line if each line "
    "is a document",
}
# The end of a line and the blank lines after it.
_BLANK_LINES = re.compile(rb"\n(?:[ \t\r\x0b\x0c]*\n)+")


def read(
    stream: streams.Stream, config: source_config.SourceConfig
) -> Iterator[streams.Document | streams.Dropped]:
    """Yields the documents of a span, as `config.text_layout` divides them."""
    for position, content in _LAYOUTS[config.text_layout](stream):
        name = f"{stream.span.path}:{position}"
        if content is None:
            yield streams.too_long(name, _SHORTER[config.text_layout])
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
    for chunk in stream.text_chunks():
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
    # Where a block began that is too long.
    too_long: int | None = None
    for chunk in stream.text_chunks(max(position, 0)):
        if position == -1 and chunk.startswith(streams.BOM):
            chunk = chunk[len(streams.BOM) :]
            position += len(streams.BOM)
        num_searched = len(buffer.rstrip(_WHITE_SPACE))
        buffer += chunk
        # White space at the end may continue in the next chunk.
        end, start = len(buffer.rstrip(_WHITE_SPACE)), 0
        for blank in _BLANK_LINES.finditer(buffer, num_searched, end):
            last = buffer.rfind(b"\n", blank.start(), blank.end() - 1) + 1
            if too_long is None:
                block = _tidy(position + start, buffer[start : blank.start()])
            else:
                block = too_long, None
            yield *block, position + last
            start, too_long = blank.end(), None
        if end - start > streams.MAX_DOCUMENT_BYTES:
            if too_long is None:
                too_long = max(position + start, 0)
            start = end - 1  # Keep none of it but the last byte.
        position += start
        buffer = buffer[start:]
        if too_long is not None and position >= stream.limit:
            break
    if too_long is None:
        block = _tidy(position, buffer.rstrip(_WHITE_SPACE))
    else:
        block = too_long, None
    yield *block, math.inf


def _tidy(position: int, block: bytes) -> tuple[int, bytes | None]:
    if block.startswith(b"\n"):  # The line break of `_divide`.
        position, block = position + 1, block[1:]
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    return position, block
