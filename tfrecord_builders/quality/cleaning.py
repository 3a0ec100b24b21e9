"""The form of all text: composed, in lines, with single spaces."""

import re
import unicodedata

import numpy as np

# Controls, format characters (soft hyphen, zero width, direction, byte order
# mark), surrogates, private use: what BERT's tokenizer drops too. The
# controls that are white space (U+0009 to U+000D and U+001C to U+001F, and
# U+0085) are left for `split` and `splitlines`.
_REMOVED = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f"
    "\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ud800-\uf8ff\ufeff"
    "\ufff0-\ufffb\ufffe\uffff\U000e0000-\U000e00ff\U000f0000-\U0010ffff]+"
)
_PRINTABLE = bytes([ord("\n"), *range(0x20, 0x7F)])  # of ASCII


def clean(text):
    """Brings text into Unicode's NFC, one paragraph a line.

    Characters that show nothing are removed, white space of any kind becomes
    one space or, where it holds a line break, one line break.
    """
    text = text.strip()
    is_printable = _is_printable(text)
    if not is_printable:
        text = _REMOVED.sub("", text)
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    if is_printable and _is_tidy(text):
        return text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return "\n".join([line for line in lines if line])


def _is_printable(text):
    """Whether nothing of _REMOVED is in it, nor other than spaces and "\\n".

    Either way is many times as fast as a search for _REMOVED.
    """
    if text.isascii():
        return not text.encode().translate(None, _PRINTABLE)
    return text.replace("\n", "").isprintable()


def _is_tidy(text):
    """Whether no white space stands beside other, in text that is printable.

    Of white space, only the space and the line feed are so. Five times as fast
    as to look for each of their pairs.
    """
    is_white = np.frombuffer(text.encode(), np.uint8) <= ord(" ")
    return not (is_white[1:] & is_white[:-1]).any()
