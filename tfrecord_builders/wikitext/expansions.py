"""The text that templates stand for, by the name of the template."""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

from tfrecord_builders import language_tables, wiki_languages
from tfrecord_builders.wikitext import dates, guesses, quantities

# Gets the positional and the named arguments of a template.
Expansion = Callable[[list[str], dict[str, str]], str]


# Stands for the bar of {{!}}, which does not separate arguments.
BAR = "\ue0ff"
# Stands for the title of the page.
TITLE = "\ue0f8"
# Stand around a quotation, which is a paragraph of its own unless the sentence
# goes on after it.
BLOCK_START, BLOCK_END = "\ue0f6", "\ue0f7"
# Templates that stand for characters with a meaning in wikitext.
_MARKUP = {"!": BAR, "(": "{", ")": "}", "=": "="}
# The names that all wikis share, in the table "templates".
_SHARED = "any"


@dataclasses.dataclass(frozen=True)
class Table:
    """The templates that a wiki is known to have.

    Attributes:
      by_name: the expansion of each name, in lower case. A text is what the
        template shows, whatever its arguments are.
      beginning: matches the names that begin as those of dropped templates.
    """

    by_name: Mapping[str, str | Expansion]
    beginning: re.Pattern[str]

    def find(self, name: str) -> str | Expansion | None:
        """Returns the expansion of a template; None if it is not known."""
        expansion = self.by_name.get(name)
        if expansion is None and name[-1:] in "?？؟":  # {{who?}}
            expansion = self.by_name.get(name.rstrip("?？؟"))
        if expansion is not None:
            return expansion
        if name.startswith("lang-"):
            return _first_word
        return "" if self.beginning.match(name) else None


@functools.cache
def of_language(language: str) -> Table:
    """The templates of a wiki in a language; "" is any language."""
    table = language_tables.read("templates")
    codes = [*wiki_languages.fallbacks(language)[::-1], language]
    own = [table[code] for code in (_SHARED, *codes) if code in table]
    by_name: dict[str, str | Expansion] = dict(_MARKUP)
    beginnings = []
    for entry in own:
        dropped = entry.get("dropped", [])
        beginnings += [name[:-1] for name in dropped if name[-1:] == "*"]
        by_name |= _read_entry(entry, language)
    # An alternative that matches nothing keeps an empty table from matching.
    pattern = "|".join(map(re.escape, beginnings)) or r"(?!)"
    return Table(by_name, re.compile(pattern))


def _read_entry(
    entry: Mapping[str, Any], language: str
) -> dict[str, str | Expansion]:
    by_name: dict[str, str | Expansion] = {}
    for kind, names in entry.items():
        if kind == "dropped":
            by_name |= dict.fromkeys(names, "")
        elif kind == "title":
            by_name |= dict.fromkeys(names, TITLE)
        elif kind == "shown":
            by_name |= {name: _shown(text) for name, text in names.items()}
        elif kind in _IN_LANGUAGE:
            expansion = functools.partial(_IN_LANGUAGE[kind], language)
            by_name |= dict.fromkeys(names, expansion)
        else:
            by_name |= dict.fromkeys(names, _KINDS[kind])
    return by_name


def _shown(text: str) -> str | Expansion:
    """Reads "c. {}", where {} stands for the first argument, or a text."""
    before, argument, after = text.partition("{}")
    return _wrapped(before, after) if argument else text


def _wrapped(before: str, after: str) -> Expansion:
    def expansion(positional: list[str], named: dict[str, str]) -> str:
        del named
        return before + positional[0] + after if positional else ""

    return expansion


def _nth(index: int) -> Expansion:
    def expansion(positional: list[str], named: dict[str, str]) -> str:
        del named
        return positional[index] if len(positional) > index else ""

    return expansion


first = _nth(0)


def _first_word(positional: list[str], named: dict[str, str]) -> str:
    del named
    return next(filter(None, positional), "")


def _last(positional: list[str], named: dict[str, str]) -> str:
    del named
    return next(filter(None, reversed(positional)), "")


def _joined(separator: str, count: int | None = None) -> Expansion:
    def expansion(positional: list[str], named: dict[str, str]) -> str:
        del named
        return separator.join(filter(None, positional[:count]))

    return expansion


def _listed(positional: list[str], named: dict[str, str]) -> str:
    """Gives the items of a list, each on a line of its own."""
    del named
    items = [
        item
        for item in positional
        if item[:1] in ("*", "#") or not _is_number(item)
    ]
    return "\n" + "\n".join(items) + "\n"


def _quotation(index: int) -> Expansion:
    def expansion(positional: list[str], named: dict[str, str]) -> str:
        text = _text_of(named)
        if not text and len(positional) > index:
            text = positional[index]
        return f"{BLOCK_START}{text}{BLOCK_END}" if text else ""

    return expansion


# Names of the argument that a template shows.
_TEXT_NAMES = (
    *(
        "label",
        "text",
        "quote",
        "content",
        "texte",
        "texto",
        "testo",
        "tekst",
        "lt",
    ),
    *(
        "текст",
        "надо",
        "цитата",
        "zitat",
        "citat",
        "citation",
        "cita",
        "tekstas",
    ),
    *("문장", "文", "文本", "引文", "نص", "متن", "szöveg", "teksti", "metin"),
)


def _text_of(named: Mapping[str, str]) -> str:
    return next((named[name] for name in _TEXT_NAMES if named.get(name)), "")


def _text(positional: list[str], named: dict[str, str]) -> str:
    """Gives the named text, or the first argument: {{ill|word|de|Wort}}.

    If that is the code of a language, as in {{ill|de|Wort|word}}, it gives the
    last argument.
    """
    if text := _text_of(named):
        return text
    if len(positional) > 1 and guesses.is_language_code(positional[0]):
        return _last(positional[1:], named)
    return first(positional, named)


def _second(positional: list[str], named: dict[str, str]) -> str:
    """Gives the text after the code of its language: {{lang|de|Wort}}."""
    return positional[1] if len(positional) > 1 else _text_of(named)


def _local_link(positional: list[str], named: dict[str, str]) -> str:
    """Gives the label of a link, or its page: {{нп5|page|label|en|Page}}."""
    label = _text_of(named)
    if not label and len(positional) > 1:
        label = positional[1]
    return label or first(positional, named)


def _fraction(positional: list[str], named: dict[str, str]) -> str:
    del named
    if len(positional) == 3:
        return "{} {}/{}".format(*positional)
    if len(positional) == 1:
        return f"1/{positional[0]}"
    return "/".join(positional[:2])


def _power(positional: list[str], named: dict[str, str]) -> str:
    base, exponent = [*positional, "", ""][:2]
    del named
    return base + quantities.power(exponent)


def _power_of(base: str) -> Expansion:
    return lambda positional, named: (
        base + quantities.power(first(positional, named))
    )


def _century(positional: list[str], named: dict[str, str]) -> str:
    """Gives {{s|XIX|e}} as XIXe siècle, and {{sp|V|e|au|VI|e}} likewise."""
    del named
    ordinals = [
        number + ("er" if number == "I" else "e")
        for number in positional[::3]
        if number
    ]
    if not ordinals:
        return ""
    if len(ordinals) == 1:
        return f"{ordinals[0]} siècle"
    between = positional[2] or "–"
    return f"{ordinals[0]} {between} {ordinals[1]} siècle"


def _date(language: str, positional: list[str], named: dict[str, str]) -> str:
    """Gives a date: {{birth date|1950|1|2}}, {{date|3|mai|2001}}."""
    numbers = [value for value in positional if _is_number(value)]
    if positional[:3] == numbers[:3] or positional[:2] == numbers == positional:
        date = dates.find(numbers[:3]) or dates.find(numbers[:2])
        if date:
            return dates.show(language, *date)
        return numbers[0] if len(numbers) == 1 else ""
    if len(positional) > 1 and _is_number(positional[0]):
        return " ".join(filter(None, positional[:3]))
    del named
    return " ".join(filter(None, positional[:2]))


def _age(positional: list[str], named: dict[str, str]) -> str:
    """Gives the years between two dates; one date's age depends on today."""
    del named
    numbers = [int(value) for value in positional if value.isdecimal()]
    if len(numbers) != len(positional) or len(numbers) != 6:
        return ""
    (year, *day), (end_year, *end_day) = numbers[:3], numbers[3:]
    return str(end_year - year - (end_day < day))


def _time(positional: list[str], named: dict[str, str]) -> str:
    del named
    return ":".join(filter(None, positional[:3]))


def _hours(positional: list[str], named: dict[str, str]) -> str:
    del named
    hours, minutes = [*positional, "", ""][:2]
    return f"{hours} h {minutes}".rstrip()


def _ordinal(positional: list[str], named: dict[str, str]) -> str:
    number = first(positional, named)
    if not number.isdecimal():
        return number
    if number[-2:] in ("11", "12", "13"):
        return number + "th"
    return number + {"1": "st", "2": "nd", "3": "rd"}.get(number[-1], "th")


def _ship_class(positional: list[str], named: dict[str, str]) -> str:
    del named
    name, kind = [*positional, "", ""][:2]
    return f"{name}-class {kind}".rstrip() if name else ""


def _as_of(language: str, positional: list[str], named: dict[str, str]) -> str:
    if "alt" in named:
        return named["alt"]
    date = dates.find(positional[:3])
    words = dates.show(language or "en", *date) if date else ""
    start = "Since" if "since" in named else "As of"
    if named.get("lc", "n") in ("y", "yes", "on"):
        start = start.lower()
    words = words or " ".join(positional[2::-1])
    return f"{start} {words}".rstrip()


def _chinese(positional: list[str], named: dict[str, str]) -> str:
    """Gives the characters of {{zh|t=中國|s=中国|p=Zhōngguó}}."""
    names = ("c", "s", "t", "hp", "p")
    named_text = next((named[n] for n in names if named.get(n)), "")
    return named_text or first(positional, named)


def _height(positional: list[str], named: dict[str, str]) -> str:
    del positional
    parts = [f"{named[u]} {u}" for u in ("ft", "in", "m", "cm") if u in named]
    return " ".join(parts)


def _note_of_music(positional: list[str], named: dict[str, str]) -> str:
    signs = {"flat": "♭", "b": "♭", "sharp": "♯", "#": "♯", "natural": "♮"}
    return signs.get(first(positional, named), "")


def _is_number(value: str) -> bool:
    return value.isdecimal() and len(value) <= 4


_KINDS: dict[str, Expansion] = {
    "first": first,
    "second": _second,
    "third": _nth(2),
    "last": _last,
    "glued": _joined(""),
    "spaced": _joined(" "),
    "spaced_two": _joined(" ", 2),
    "hyphened": _joined("-", 2),
    "enumerated": _joined(", "),
    "listed": _listed,
    "quotation": _quotation(0),
    "quotation_second": _quotation(1),
    "text": _text,
    "local_link": _local_link,
    "fraction": _fraction,
    "convert": quantities.convert,
    "value": quantities.value,
    "quantity": quantities.quantity,
    "power_of_ten": quantities.power_of_ten,
    "power_of_10": _power_of("10"),
    "power": _power,
    "century": _century,
    "age": _age,
    "time": _time,
    "hours": _hours,
    "ordinal": _ordinal,
    "ship_class": _ship_class,
    "chinese": _chinese,
    "height": _height,
    "music": _note_of_music,
}
_IN_LANGUAGE: dict[str, Callable[[str, list[str], dict[str, str]], str]] = {
    "date": _date,
    "as_of": _as_of,
}
# The templates that all wikis share.
BY_NAME = of_language("").by_name
