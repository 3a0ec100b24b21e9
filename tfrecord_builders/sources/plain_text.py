"""Plain text as a source of documents."""

import math
import re

from tfrecord_builders.sources import streams

_WHITE_SPACE = b" \t\n\r\x0b\x0c"
# The end of a line, and the blank lines behind it.
_BLANK_LINES = re.compile(rb"\n(?:[ \t\r\x0b\x0c]*\n)+")


def read(stream, config):
    """Yields the documents of a text file, laid out as the options say."""
    layout = {"file": _files, "line": _lines, "blocks": _blocks}
    for position, content in layout[config.text_layout](stream):
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


def _files(stream):
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


def _lines(stream):
    for position, line in stream.lines():
        if position >= stream.limit:
            return
        if line is None or line.strip():
            yield position, line


def _blocks(stream):
    """Divides at blank lines; a block belongs to the blank line before it.

    So a span knows its own blocks without looking back: it starts after its
    first blank line, and ends at the first one that is the next span's.
    """
    is_owned = stream.span.start == 0
    for position, block, blank_line in _divide(stream):
        if is_owned and block != b"":
            yield position, block
        if blank_line >= stream.limit:
            return
        is_owned = True


def _divide(stream):
    """Yields (position, block, position of the last blank line behind it).

    The first block may begin in the middle, or be empty; one that is above
    MAX_DOCUMENT_BYTES is None.
    """
    # One byte back, or an imagined one: a blank line may be the first.
    position = stream.span.start - 1
    buffer = b"" if stream.span.start else b"\n"
    is_too_long = False
    for chunk in stream.chunks(max(position, 0)):
        if position == -1 and chunk.startswith(streams.BOM):
            chunk = chunk[len(streams.BOM) :]
            position += len(streams.BOM)
        searched = len(buffer.rstrip(_WHITE_SPACE))
        buffer += chunk
        # White space at the end may go on in the next chunk.
        end, start = len(buffer.rstrip(_WHITE_SPACE)), 0
        for blank in _BLANK_LINES.finditer(buffer, searched, end):
            last = buffer.rfind(b"\n", blank.start(), blank.end() - 1) + 1
            block = None if is_too_long else buffer[start : blank.start()]
            yield *_tidy(position + start, block), position + last
            start, is_too_long = blank.end(), False
        if end - start > streams.MAX_DOCUMENT_BYTES:
            is_too_long = True  # Goes on, but is not kept.
            start = end - 1
        position += start
        buffer = buffer[start:]
        if is_too_long and position >= stream.limit:
            break
    block = None if is_too_long else buffer.rstrip(_WHITE_SPACE)
    yield *_tidy(position, block), math.inf


def _tidy(position, block):
    if block and block.startswith(b"\n"):  # the imagined one
        position, block = position + 1, block[1:]
    if block and b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    return position, block
