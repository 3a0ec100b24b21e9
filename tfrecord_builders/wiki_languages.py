"""The language of a wiki, and what the tables of languages say of it."""

import functools
import re
from typing import Any

from tfrecord_builders import language_tables

# Wikipedia's addresses and MediaWiki have other codes than ISO 639 for these.
_STANDARD = {
    "als": "gsw",
    "bat-smg": "sgs",
    "be-x-old": "be",
    "cbk-zam": "cbk",
    "dk": "da",
    "eml": "egl",
    "fiu-vro": "vro",
    "mo": "ro",
    "nb": "no",
    "nrm": "nrf",
    "roa-rup": "rup",
    "simple": "en",
    "zh-classical": "lzh",
    "zh-min-nan": "nan",
    "zh-yue": "yue",
}
# Codes that are no ISO 639, and whose first part is another language.
_WHOLE = ("map-bms", "nds-nl", "roa-tara")
# Wikis for all languages. Their own is English.
_ENGLISH = ("commons", "mediawiki", "meta", "sources", "species", "wikidata")
_DATABASE = re.compile(
    r"(\w+?)(?:wiki|wikibooks|wikinews|wikiquote|wikisource|wikiversity|"
    r"wikivoyage|wiktionary)\Z"
)
_CODE = re.compile(r"[a-z]{2,3}\Z")


@functools.cache
def language_of(code: str, database: str = "") -> str:
    """Returns the code of a wiki's language, by which tables are read.

    It is the code of ISO 639 without script, region or spelling: "zh" for
    zh-hant, "sr" for sr-ec, "be" for be-x-old, "no" for nb, "yue" for zh-yue,
    "en" for Simple English.

    Args:
      code: the language that a dump names; it may be empty.
      database: the name of the wiki's database, for example "dewiki".

    Returns:
      The code; empty if neither names a language.
    """
    match = _DATABASE.match(database)
    name = match[1] if match else ""
    for candidate in (code, "en" if name in _ENGLISH else name):
        base = _base(candidate.strip().lower().replace("_", "-"))
        if base in _WHOLE or _CODE.match(base):
            return base
    return ""


def _base(code: str) -> str:
    if code in _WHOLE:
        return code
    return _STANDARD.get(code) or code.partition("-")[0]


@functools.cache
def entries(table: str, language: str) -> tuple[Any, ...]:
    """Returns what a table says of a language and of its fallbacks.

    The entry `any`, which is valid in all wikis, is one of them. If the table
    knows none of the languages, the entries of all languages are returned: a
    word of another language may be missed then, but no word is left over.
    """
    content = language_tables.read(table)
    codes = (language, *fallbacks(language))
    if not any(code in content for code in codes):
        return tuple(content.values())
    return tuple(content[code] for code in ("any", *codes) if code in content)


def fallbacks(language: str) -> tuple[str, ...]:
    """Returns the languages whose words a wiki knows too, the nearest first."""
    names = language_tables.read("namespaces").get(language, {})
    return tuple(names.get("fallback", ()))
