"""Dates of templates, in the words of a language."""

import re

from tfrecord_builders import language_tables

_DAY = re.compile(r"\{day\}[^\w{]*(?:de )?")


def show(language: str, year: int, month: int, day: int = 0) -> str:
    """Writes a date.

    Args:
      language: a language of the table "months"; others write 2001-05-03.
      day: 0 for a month.
    """
    table = language_tables.read("months").get(language)
    if not table:
        return f"{year}-{month:02}" + (f"-{day:02}" if day else "")
    pattern = table["day"] if day else _without_day(table["day"])
    months = table.get("months")
    return pattern.format(
        day=day,
        month=months[month - 1] if months else "",
        number=month,
        year=year,
    )


def find(numbers: list[str]) -> tuple[int, int, int] | None:
    """Reads year, month, day, or day, month, year; a day of 0 is missing.

    Returns:
      (year, month, day), or None if these numbers are no date.
    """
    if len(numbers) not in (2, 3) or not all(map(_is_whole, numbers)):
        return None
    if len(numbers) == 3 and len(numbers[2]) == 4:
        numbers = numbers[::-1]
    if len(numbers[0]) != 4:
        return None
    year, month, day = map(int, [*numbers, "0"][:3])
    if 1 <= month <= 12 and (day <= 31) and (day or len(numbers) == 2):
        return year, month, day
    return None


def _is_whole(number: str) -> bool:
    return number.isdecimal() and len(number) <= 4


def _without_day(pattern: str) -> str:
    start = pattern.index("{day}")
    if "{year}" in pattern[:start] and "{month}" not in pattern[start:]:
        return pattern[:start].rstrip()
    return _DAY.sub("", pattern)
