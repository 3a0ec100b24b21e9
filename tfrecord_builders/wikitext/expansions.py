"""The text that templates stand for, by the name of the template."""

import re
from collections.abc import Callable

# Gets the positional and the named arguments of a template.
Expansion = Callable[[list[str], dict[str, str]], str]


# Stands for the bar of {{!}}, which does not separate arguments.
BAR = "\ue0ff"


def superscript(digits: str) -> str:
    """Returns digits and signs as superscript characters."""
    return digits.translate(_SUPERSCRIPTS)


_SUPERSCRIPTS = str.maketrans("0123456789+-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻")


def _nth(index: int) -> Expansion:
    def expansion(positional: list[str], named: dict[str, str]) -> str:
        del named
        return positional[index] if len(positional) > index else ""

    return expansion


first, _second = _nth(0), _nth(1)


def _last(positional: list[str], named: dict[str, str]) -> str:
    del named
    return positional[-1] if positional else ""


def _joined(separator: str, count: int | None = None) -> Expansion:
    def expansion(positional: list[str], named: dict[str, str]) -> str:
        del named
        return separator.join(filter(None, positional[:count]))

    return expansion


def _wrapped(before: str, after: str) -> Expansion:
    def expansion(positional: list[str], named: dict[str, str]) -> str:
        del named
        return before + positional[0] + after if positional else ""

    return expansion


def _quotation(index: int) -> Expansion:
    def expansion(positional: list[str], named: dict[str, str]) -> str:
        text = named.get("text") or named.get("quote") or named.get("content")
        if not text and len(positional) > index:
            text = positional[index]
        return f"\n{text}\n" if text else ""

    return expansion


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
_UNITS = {
    "c": "°C",
    "f": "°F",
    "°c": "°C",
    "°f": "°F",
    "sqmi": "sq mi",
    "sqft": "sq ft",
    "sqkm": "km²",
    "km2": "km²",
    "m2": "m²",
    "m3": "m³",
    "km3": "km³",
    "cm3": "cm³",
    "mi2": "sq mi",
    "ft2": "sq ft",
    "cuft": "cu ft",
    "cumi": "cu mi",
    "kph": "km/h",
    "kmph": "km/h",
    "/sqkm": "per km²",
    "/km2": "per km²",
    "/sqmi": "per sq mi",
    "pd/sqkm": "per km²",
    "pd/sqmi": "per sq mi",
    "ltn": "long tons",
    "lt": "long tons",
    "st": "short tons",
    "tonne": "tonnes",
    "mile": "miles",
    "acre": "acres",
    "kn": "knots",
    "foot": "feet",
    "usgal": "US gallons",
    "impgal": "imperial gallons",
    "hp": "hp",
    "in": "inches",
    "°c-change": "°C",
    "°f-change": "°F",
}
_NUMBER = re.compile(r"[-+−]?[\d.,/+]+\Z")


def _convert(positional: list[str], named: dict[str, str]) -> str:
    """Gives the value in its original unit: {{convert|5|to|10|km|mi}}."""
    if len(positional) < 2:
        return first(positional, named)
    text, rest = positional[0], positional[1:]
    while len(rest) > 2 and rest[0].lower() in _RANGES:
        text += _RANGES[rest[0].lower()] + rest[1]
        rest = rest[2:]
    unit = _UNITS.get(rest[0].lower(), rest[0])
    if named.get("adj") == "on":
        text += "-" + (rest[0] if unit.startswith(rest[0]) else unit)
    else:
        text += " " + unit
    # A second value and its unit: {{convert|5|ft|7|in|cm}}.
    if len(rest) > 2 and _NUMBER.match(rest[1]) and rest[2].isalpha():
        text += f" {rest[1]} {_UNITS.get(rest[2].lower(), rest[2])}"
    return text


def _value(positional: list[str], named: dict[str, str]) -> str:
    """Gives a number with its exponent and unit: {{val|6.24|e=18|u=kg}}."""
    text = first(positional, named)
    if "e" in named:
        text += "×10" + superscript(named["e"])
    unit = named.get("u") or named.get("ul") or ""
    return f"{text} {unit}".strip()


def _power(positional: list[str], named: dict[str, str]) -> str:
    return "×10" + superscript(first(positional, named))


def _fraction(positional: list[str], named: dict[str, str]) -> str:
    del named
    if len(positional) == 3:
        return "{} {}/{}".format(*positional)
    if len(positional) == 1:
        return f"1/{positional[0]}"
    return "/".join(positional[:2])


_MONTHS = (
    "January February March April May June July August September "
    "October November December"
).split()


def _as_of(positional: list[str], named: dict[str, str]) -> str:
    if "alt" in named:
        return named["alt"]
    date = positional[:3]
    if len(date) > 1 and date[1].isdecimal() and 0 < int(date[1]) < 13:
        date[1] = _MONTHS[int(date[1]) - 1]
    start = "Since" if "since" in named else "As of"
    if named.get("lc", "n") in ("y", "yes", "on"):
        start = start.lower()
    return " ".join([start, *reversed(date)])


def _ship_of(prefix: str) -> Expansion:
    def expansion(positional: list[str], named: dict[str, str]) -> str:
        return f"{prefix} {first(positional, named)}"

    return expansion


def _money(sign: str) -> Expansion:
    return _wrapped(sign, "")


# By the name of the template in lower case.
BY_NAME: dict[str, str | Expansion] = {
    **dict.fromkeys(
        [
            "nowrap",
            "nobr",
            "nobreak",
            "small",
            "smaller",
            "big",
            "bigger",
            "large",
            "larger",
            "midsize",
            "huge",
            "math",
            "mvar",
            "var",
            "em",
            "strong",
            "abbr",
            "tooltip",
            "sub",
            "sc",
            "smallcaps",
            "sc2",
            "aut",
            "unicode",
            "iast",
            "angle bracket",
            "w",
            "ill",
            "interlanguage link",
            "vanchor",
            "visible anchor",
            "sic",
            "not a typo",
            "proper name",
            "center",
            "centre",
            "nobold",
            "noitalic",
            "italic correction",
            "mono",
            "code",
            "kbd",
            "key",
            "samp",
            "tt",
            "respell",
            "flag",
            "flagu",
            "flagcountry",
            "nihongo",
            "nihongo2",
            "railgauge",
            "railway gauge",
            "track gauge",
            "allcaps",
            "strikethrough",
            "underline",
            "raise",
            "lower",
            "pslink",
            "format price",
            "formatprice",
            "number",
            "nts",
            "bigmath",
            "keypress",
            "literally",
            "ipa link",
            "polytonic",
            "hebrew",
            "linktext",
            "bibleverse nb",
            "title case",
            "bold",
            "italic",
            "lang-rtl",
        ],
        first,
    ),
    **dict.fromkeys(
        [
            "script/hebrew",
            "color",
            "colour",
            "font color",
            "fontcolor",
            "transl",
            "transliteration",
        ],
        _last,
    ),
    "lang": _second,
    "rtl-lang": _second,
    "langx": _second,
    "wikt-lang": _second,
    "script": _second,
    **dict.fromkeys(
        [
            "quote",
            "quotation",
            "blockquote",
            "cquote",
            "bquote",
            "poemquote",
            "quote box",
            "block quote",
        ],
        _quotation(0),
    ),
    "rquote": _quotation(1),
    **dict.fromkeys(["convert", "cvt", "conv"], _convert),
    "val": _value,
    "e": _power,
    "esp": _power,
    **dict.fromkeys(["frac", "sfrac", "fraction", "fract"], _fraction),
    **dict.fromkeys(["as of", "asof"], _as_of),
    "sup": lambda positional, named: superscript(first(positional, named)),
    "chem": _joined(""),
    "chem2": first,
    "gaps": _joined(""),
    "sortname": _joined(" ", 2),
    "bibleref": _joined(" ", 2),
    "bibleref2": _joined(" ", 2),
    "bibleverse": _joined(" "),
    "oldstyledate": _joined(" ", 2),
    "ship": _joined(" ", 2),
    **{
        prefix.lower(): _ship_of(prefix)
        for prefix in (
            "HMS",
            "HMAS",
            "HMCS",
            "HMNZS",
            "USS",
            "USCGC",
            "USNS",
            "SS",
            "RMS",
            "MS",
            "MV",
            "SMS",
            "INS",
            "ORP",
            "USAT",
            "GWR",
        )
    },
    **dict.fromkeys(["circa", "c.", "ca", "ca."], _wrapped("c. ", "")),
    "floruit": _wrapped("fl. ", ""),
    "fl.": _wrapped("fl. ", ""),
    "angbr": _wrapped("⟨", "⟩"),
    "gloss": _wrapped("‘", "’"),
    "vol.": _wrapped("vol. ", ""),
    "us$": _money("US$"),
    "usd": _money("US$"),
    "gbp": _money("£"),
    "£": _money("£"),
    "pound sterling": _money("£"),
    "euro": _money("€"),
    "€": _money("€"),
    "inr": _money("₹"),
    "a$": _money("A$"),
    "c$": _money("C$"),
    "aud": _money("A$"),
    "cad": _money("C$"),
    "jpy": _money("¥"),
    "¥": _money("¥"),
    "music": lambda positional, named: {
        "flat": "♭",
        "b": "♭",
        "sharp": "♯",
        "#": "♯",
        "natural": "♮",
    }.get(first(positional, named), ""),
    **dict.fromkeys(
        [
            "nbsp",
            "space",
            "spaces",
            "thinsp",
            "thin space",
            "hair space",
            "pad",
            "zwsp",
            "clear",
        ],
        " ",
    ),
    **dict.fromkeys(["ndash", "en dash", "nsndns"], "–"),
    **dict.fromkeys(
        [
            "snd",
            "spnd",
            "sndash",
            "spndash",
            "spaced ndash",
            "spaced en dash",
            "dash",
            "spaced en dash space",
        ],
        " – ",
    ),
    **dict.fromkeys(["mdash", "em dash", "mdashb"], "—"),
    **dict.fromkeys(["dot", "·", "middot", "bullet", "•"], " · "),
    "'": "'",
    "`": "'",
    "'s": "'s",
    "' \"": "'\"",
    "\" '": "\"'",
    '-"': '"',
    "'-": "'",
    "=": "=",
    "!": BAR,
    "(": "{",
    ")": "}",
    "okina": "ʻ",
    "hamza": "ʼ",
    "prime": "′",
    "minus": "−",
    "shy": "",
    "ad": "AD",
    "bce": "BCE",
    "ce": "CE",
    "bc": "BC",
    "times": "×",
    "pi": "π",
    "deg": "°",
    "sect": "§",
    "section sign": "§",
    "zwj": "",
    "pagename": "",
    "'\"": "'\"",
    "em space": " ",
    "nnbsp": " ",
}
