"""Quantities: numbers with their exponents and units.

No text is better than a wrong number. Raised digits that were only put beside
the digits before them would make another number: 10<sup>6</sup> is not 106. And
what a number counts must be known: else neither it nor the code of its unit is
shown.
"""

import functools
import html
import re
from collections.abc import Mapping, Sequence

from tfrecord_builders import language_tables

_RANGES = {
    "to": " to ",
    "-": "–",
    "–": "–",
    "and": " and ",
    "or": " or ",
    "by": " by ",
    "x": " × ",
    "×": " × ",
    "to(-)": " to ",
    "and(-)": " and ",
    "+/-": " ± ",
    "±": " ± ",
    "by(x)": " by ",
    "xx": " × ",
    "*": " × ",
}
_NUMBER = re.compile(r"[-+−]?[\d.,/+ ⁄]+\Z")
# A number that counts many: {{convert|10|e6acre}}.
_MULTIPLE = re.compile(r"e(\d+)(.+)")
_WORDS = {3: "thousand", 6: "million", 9: "billion", 12: "trillion"}
_PREFIXES = {"k": 3, "M": 6, "G": 9, "T": 12}
_PERIODS = {
    "s": "second",
    "min": "minute",
    "h": "hour",
    "d": "day",
    "day": "day",
    "month": "month",
    "y": "year",
    "yr": "year",
    "year": "year",
    "a": "year",
}
_MIXED = re.compile(r"(\d)\+(\d)")


def convert(positional: Sequence[str], named: Mapping[str, str]) -> str:
    """Gives the value in its original unit: {{convert|5|to|10|km|mi}}."""
    if len(positional) < 2:
        return positional[0] if positional else ""
    text, rest = _number(positional[0]), list(positional[1:])
    while len(rest) > 2 and rest[0].lower() in _RANGES:
        text += _RANGES[rest[0].lower()] + _number(rest[1])
        rest = rest[2:]
    unit = _unit(rest[0])
    if not unit:
        return ""
    if named.get("adj") == "on":
        text += "-" + (rest[0] if unit.startswith(rest[0]) else unit)
    else:
        text += " " + unit
    # A second value and its unit: {{convert|5|ft|7|in|cm}}.
    if len(rest) > 2 and _NUMBER.match(rest[1]):
        second = _unit(rest[2])
        text += f" {_number(rest[1])} {second}" if second else ""
    return text


def value(positional: Sequence[str], named: Mapping[str, str]) -> str:
    """Gives a number with its exponent and unit: {{val|6.24|e=18|u=kg}}."""
    text = positional[0] if positional else ""
    if "e" in named:
        text += power_of_ten([named["e"]], {})
    unit = named.get("u") or named.get("ul") or ""
    return f"{text} {unit}".strip()


def power_of_ten(positional: Sequence[str], named: Mapping[str, str]) -> str:
    """Gives the end of a number: {{e|6}} becomes ×10⁶."""
    del named
    exponent = positional[0] if positional else ""
    return "×10" + power(exponent) if exponent else ""


def quantity(positional: Sequence[str], named: Mapping[str, str]) -> str:
    """Gives a number, its unit, and the unit's exponent: {{unité|5|km|2}}.

    More pairs of a unit and its exponent may follow: {{unité|5|kg||m|-3}}.
    """
    text = positional[0] if positional else ""
    text += power_of_ten([named["e"]], {}) if named.get("e") else ""
    pairs = []
    for unit, exponent in zip(
        positional[1::2], [*positional[2::2], ""], strict=False
    ):
        if not _NUMBER.match(exponent or "1"):
            # No exponent but words: {{nombre|5|à|7|kg}}.
            return " ".join(filter(None, positional))
        pairs.append(unit + power(exponent))
    units = "⋅".join(filter(None, pairs)).replace("⋅/", "/")
    return f"{text} {units}".strip()


def _number(text: str) -> str:
    return _MIXED.sub(r"\1 \2", text).replace("//", "/")


@functools.cache
def _unit(code: str) -> str:
    """How the text shows a unit; empty if it is not known."""
    units = _units()
    if shown := units.get(code) or units.get(code.lower()):
        return shown
    if multiple := _MULTIPLE.fullmatch(code):
        return _times(_WORDS.get(int(multiple[1])), _unit(multiple[2]))
    # Per time: oilbbl/d.
    counted, slash, period = code.rpartition("/")
    if slash and (word := _PERIODS.get(period)) and (unit := _unit(counted)):
        return f"{unit} per {word}"
    # Customary units have the prefixes of metric ones: Mcuft.
    exponent = _PREFIXES.get(code[:1])
    return _times(_WORDS.get(exponent or 0), units.get(code[1:], ""))


def _times(word: str | None, unit: str) -> str:
    return f"{word} {unit}" if word and unit else ""


@functools.cache
def _units() -> dict[str, str]:
    tables = language_tables.read("units")
    same = tables["any"]["same"]
    units = dict(zip(same, same, strict=True))
    for table in tables.values():
        units |= {code: text for code, text in table.items() if code != "same"}
    return units


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
_SUB = re.compile(r"<sub\b[^<>]*>\s*(\d+)\s*</sub\s*>(?=(.?))", re.IGNORECASE)
_SUP = re.compile(r"<sup\b[^<>]*>([^<>\n]*)</sup\s*>(?=(.?))", re.IGNORECASE)


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
