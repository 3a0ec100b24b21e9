"""Cleaning gives text one normal form and loses no visible character."""

import sys
import unicodedata

import numpy as np
import pytest

from tfrecord_builders.quality import cleaning


@pytest.mark.parametrize(
    "dirty, clean",
    [
        ("plain text", "plain text"),
        ("", ""),
        (" \n\t\n ", ""),
        ("  a \t b\u00a0\u2003c  ", "a b c"),
        (
            "one\n\n \n two \r\nthree\rfour\x0bfive",
            "one\ntwo\nthree\nfour\nfive",
        ),
        ("next\x85line\u2028sep\u2029end", "next\nline\nsep\nend"),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
        ("nul\x00 bell\x07 del\x7f", "nul bell del"),
        ("\ufeffzero\u200bwidth soft\u00adhyphen", "zerowidth softhyphen"),
        ("half \ud83d pair", "half pair"),
        ("e\u200b\u0301", "\u00e9"),
        ("\u65e5\u672c\u3000\u8a9e", "\u65e5\u672c \u8a9e"),
        ("\U0001f600 stays", "\U0001f600 stays"),
    ],
)
def test_text_is_cleaned(dirty, clean):
    assert cleaning.clean(dirty) == clean


def test_cleaning_is_complete_after_one_pass():
    rng = np.random.default_rng(0)
    alphabet = np.concatenate(
        [
            np.arange(0x300),
            np.arange(0x300, 0x370),
            np.arange(0x2000, 0x2070),
            np.arange(0xD7F0, 0xD810),
            rng.integers(0, sys.maxunicode, 500),
        ]
    )
    for _ in range(200):
        text = "".join(map(chr, rng.choice(alphabet, 60)))
        clean = cleaning.clean(text)
        assert cleaning.clean(clean) == clean
        assert unicodedata.is_normalized("NFC", clean)
        assert "  " not in clean and "\n\n" not in clean
        assert clean == clean.strip()
        assert all(char in " \n" or not char.isspace() for char in clean)
        assert not {
            unicodedata.category(char) for char in clean if char != "\n"
        } & {"Cc", "Cs", "Co"}
        clean.encode("utf-8")


def test_no_letter_mark_digit_or_sign_is_removed():
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        if unicodedata.category(char)[0] in "LMNPS":
            expected = unicodedata.normalize("NFC", char)
            assert cleaning.clean(char) == expected, hex(code)
