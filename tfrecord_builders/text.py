"""Plain text as a source of documents."""

from tfrecord_builders import inputs


def read(stream, config):
    """Yields the documents of a text file, laid out as the options say."""
    layout = {"file": _files, "line": _lines, "blocks": _blocks}
    for position, content in layout[config.text_layout](stream):
        name = f"{stream.span.path}:{position}"
        if content is None:
            yield inputs.Dropped("too_long", name)
            continue
        try:
            text = inputs.decode(content, stream.span.path, position)
        except inputs.NotUtf8Error as error:
            yield inputs.Dropped("not_utf8", name, str(error))
        else:
            yield inputs.Document(name, "", text)


def _files(stream):
    content = b"".join(stream.chunks())
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
    start, block, num_bytes = 0, [], 0
    for position, line in stream.lines():
        if line is not None and not line.strip():
            if block:
                yield start, _join(block, num_bytes)
                block, num_bytes = [], 0
            if position >= stream.limit:
                return
            is_owned = True
        elif is_owned:
            if not block:
                start = position
            num_bytes += (
                inputs.MAX_DOCUMENT_BYTES + 1 if line is None else len(line) + 1
            )
            if num_bytes > inputs.MAX_DOCUMENT_BYTES:
                block = [b""]  # Goes on, but is not kept.
            else:
                block.append(line)
        elif position >= stream.limit:
            return
    if block:
        yield start, _join(block, num_bytes)


def _join(block, num_bytes):
    if num_bytes > inputs.MAX_DOCUMENT_BYTES:
        return None
    return b"\n".join(block)
