"""Raised and lowered text: powers, ordinals, indices, fractions.

Raised digits that were only put beside the digits before them would make
another number: 10<sup>6</sup> is not 106.
"""

import html
import re

_RAISED = str.maketrans("0123456789+-−()=n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁽⁾⁼ⁿ")
_LOWERED = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_CAN_BE_RAISED = re.compile(r"[0-9+\-−()=n]+\Z")
_DIGIT = re.compile(r"\d")
# Letters that are written raised after a number, but are no exponent: 1er, 2e,
# 3o, 4a, 5th, 6r, 7t, 8d.
_ORDINAL_LETTERS = "aderstoèªº"

_FRACTION = re.compile(
    r"<sup>\s*(\d+)\s*</sup\s*>\s*[/⁄]\s*<sub>\s*(\d+)\s*</sub\s*>",
    re.IGNORECASE,
)
_SUB = re.compile(
    r"<sub\b[^<>]*>\s*(\d+)\s*</sub\s*>(?=(.?))", re.IGNORECASE
)
_SUP = re.compile(
    r"<sup\b[^<>]*>([^<>\n]*)</sup\s*>(?=(.?))", re.IGNORECASE
)


def power(exponent: str) -> str:
    """Writes an exponent, for a place after a number or a letter.

    Returns:
      Raised characters, or "^" and the exponent if some of its characters do
      not exist as raised ones: 12 becomes ¹², and 6.5 becomes ^6.5.
    """
    exponent = exponent.strip()
    if not exponent or _CAN_BE_RAISED.match(exponent):
        return exponent.translate(_RAISED)
    return f"^({exponent})" if "/" in exponent else f"^{exponent}"


def replace_tags(text: str) -> str:
    """Replaces the <sup> and <sub> of numbers; other ones stay."""
    if "<su" not in text and "<SU" not in text:
        return text
    text = _FRACTION.sub(_fraction, text)
    text = _SUB.sub(_lowered, text)
    text = _SUP.sub(_raised, text)
    # The exponent of an exponent is gone now, so the outer one can be read.
    return _SUP.sub(_raised, text) if "<sup" in text else text


def _before(match: re.Match[str]) -> str:
    return match.string[max(0, match.start() - 1) : match.start()]


def _fraction(match: re.Match[str]) -> str:
    space = " " if _before(match).isdigit() else ""
    return f"{space}{match[1]}/{match[2]}"


def _lowered(match: re.Match[str]) -> str:
    # CO2 is read as it is meant; log10100 is not.
    if _before(match).isdigit() or match[2].isdigit():
        return match[1].translate(_LOWERED)
    return match[1]


def _raised(match: re.Match[str]) -> str:
    before, after = _before(match), match[2]
    content = html.unescape(match[1].replace("''", "")).strip()
    if before in (" ", "\u00a0"):
        # ¹⁴C; alone inside a sentence, it is no exponent.
        is_exponent = after.isalpha() and bool(_CAN_BE_RAISED.match(content))
    elif before in ("", "\n"):
        is_exponent = bool(_CAN_BE_RAISED.match(content))
    else:
        is_exponent = _is_exponent(before, content)
    return power(content) if is_exponent else content


def _is_exponent(before: str, content: str) -> bool:
    if content.isalpha():
        return (
            len(content) == 1
            and before.isdigit()
            and content not in _ORDINAL_LETTERS
        )
    if content.isalnum() and not content.isdecimal():
        return before.isdigit()  # After a word it is a note: 2a.
    # Notes have brackets, and several ones have commas.
    return bool(_DIGIT.search(content) or _CAN_BE_RAISED.match(content)) and (
        content[0] != "[" and ", " not in content
    )
