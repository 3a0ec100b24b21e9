"""Which documents say what an earlier one said."""

import hashlib
import re

import numpy as np

DIGEST_BYTES = 16
# Divided by what removes them fastest: bytes, or a regular expression.
_ASCII_NOT_WORD = bytes(i for i in range(128) if not chr(i).isalnum())
_OTHER_NOT_WORD = re.compile(r"[^\w\x00-\x7f]+")


def digest(text):
    """A hash of the words: case, white space and punctuation do not count."""
    words = text.lower()
    if not words.isascii():
        words = _OTHER_NOT_WORD.sub("", words)
    content = words.encode("utf-8").translate(None, _ASCII_NOT_WORD)
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def as_digests(content):
    """Digests written one after another as uint8 [N, DIGEST_BYTES]."""
    return np.frombuffer(content, np.uint8).reshape(-1, DIGEST_BYTES)


def find_repeats(digests):
    """The rows of `digests` [N, DIGEST_BYTES] that an earlier row equals."""
    values = np.ascontiguousarray(digests).view(f"V{DIGEST_BYTES}").ravel()
    # `np.unique` gives the first place at which each value stands.
    _, first = np.unique(values, return_index=True)
    return np.setdiff1d(np.arange(len(values)), first)
