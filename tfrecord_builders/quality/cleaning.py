"""Cleaning of text: NFC, one paragraph per line, single spaces."""

import re
import unicodedata

import numpy as np

# Control characters, format characters (soft hyphen, zero width, direction,
# byte order mark), surrogates and private use. BERT's tokenizer removes them
# too. Control characters that are white space (U+0009 to U+000D, U+001C to
# U+001F, U+0085) are not in this list: `split` and `splitlines` handle them.
_REMOVED = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f"
    "\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ud800-\uf8ff\ufeff"
    "\ufff0-\ufffb\ufffe\uffff\U000e0000-\U000e00ff\U000f0000-\U0010ffff]+"
)
_PRINTABLE_ASCII = bytes([ord("\n"), *range(0x20, 0x7F)])


def clean(text: str) -> str:
    """Normalizes text to NFC, with one paragraph per line.

    Invisible characters are removed. A run of white space becomes one line
    feed if it contains a line break, and one space otherwise.
    """
    text = text.strip()
    is_printable = _is_printable(text)
    if not is_printable:
        text = _REMOVED.sub("", text)
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    if is_printable and _has_single_spaces(text):
        return text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return "\n".join([line for line in lines if line])


def _is_printable(text: str) -> bool:
    """Whether text has only visible characters, spaces and line feeds.

    Such text has no `_REMOVED` character. Both branches are many times faster
    than a search for `_REMOVED`.
    """
    if text.isascii():
        return not text.encode().translate(None, _PRINTABLE_ASCII)
    return text.replace("\n", "").isprintable()


def _has_single_spaces(text: str) -> bool:
    """Whether printable text has no two white-space characters in a row.

    The only white space in printable text is the space and the line feed.
    This is five times faster than a search for each pair of them.
    """
    is_white = np.frombuffer(text.encode(), np.uint8) <= ord(" ")
    return not (is_white[1:] & is_white[:-1]).any()
