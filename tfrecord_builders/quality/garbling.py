"""Text that was decoded wrongly: characters that belong to no script.

UTF-16 read as UTF-8, or bytes that were no text, become control characters,
U+FFFD, and code points that Unicode has not assigned.
"""

import functools
import unicodedata

import numpy as np

# Prose has none or nearly none. Of the characters that a UTF-8 reader makes of
# UTF-16, 50 to 60 % belong to no script if it is English, Russian, Arabic or
# Thai, 36 % for Chinese and 22 % for Hindi. Russian in windows-1251 has 80 %.
_MAX_SHARE = 0.2
_VISIBLE, _WHITE_SPACE, _UNDEFINED = 0, 1, 2
_UNDEFINED_CATEGORIES = ("Cc", "Cn", "Co", "Cs")
_ASCII_CONTROLS = bytes(
    code for code in (*range(0x20), 0x7F) if not chr(code).isspace()
)


def is_garbled(text: str) -> bool:
    """Whether many characters of a text belong to no script."""
    return undefined_share(text) > _MAX_SHARE


def undefined_share(text: str) -> float:
    """The share of characters that belong to no script; white space aside.

    These are control characters, U+FFFD, surrogates, private use, and what is
    not assigned. Plane 1 is an exception: the scripts and emoji that Unicode
    will add lie there, and Python may be older than they are.
    """
    # Nearly all texts end here, at a small part of the cost of the table.
    if text.isascii():
        content = text.encode()
        if len(content.translate(None, _ASCII_CONTROLS)) == len(content):
            return 0.0
    elif "\ufffd" not in text and text.replace("\n", "").isprintable():
        return 0.0
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    counts = np.bincount(_kinds()[codes], minlength=3)
    return counts[_UNDEFINED] / max(1, len(text) - counts[_WHITE_SPACE])


@functools.cache
def _kinds() -> np.ndarray:
    """The kind of each code point."""
    kinds = np.full(0x110000, _VISIBLE, np.uint8)
    for code in range(0x10000):
        if chr(code).isspace():
            kinds[code] = _WHITE_SPACE
        elif unicodedata.category(chr(code)) in _UNDEFINED_CATEGORIES:
            kinds[code] = _UNDEFINED
    kinds[0xFFFD] = _UNDEFINED
    kinds[0x40000:0xE0000] = _UNDEFINED  # Planes without characters.
    kinds[0xF0000:] = _UNDEFINED  # Private use.
    return kinds
