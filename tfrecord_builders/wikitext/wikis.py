"""The language of a wiki, from what its dumps say about it."""

import functools
import re

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
    "roa-rup": "rup",
    "simple": "en",
    "zh-classical": "lzh",
    "zh-min-nan": "nan",
    "zh-yue": "yue",
}
# Codes whose first part is another language.
_WHOLE = ("map-bms", "nds-nl", "roa-tara")
# Wikis of all languages, whose own is English.
_ENGLISH = ("commons", "mediawiki", "meta", "sources", "species", "wikidata")
_PROJECT = re.compile(
    r"(?:wiki|wikibooks|wikinews|wikiquote|wikisource|wikiversity|wikivoyage|"
    r"wiktionary)\Z"
)


@functools.cache
def language_of(code: str, database: str = "") -> str:
    """Returns the code of a wiki's language, as the tables of languages do.

    It is a code of ISO 639 without script, region or spelling: "zh" for
    zh-hant, "sr" for sr-ec, "be" for be-x-old, "no" for nb, "yue" for zh-yue,
    "en" for the Simple English wiki.

    Args:
      code: the language that a dump names; it may be empty.
      database: the name of the wiki's database, for example "dewiki".

    Returns:
      The code; empty if neither names a language that MediaWiki knows.
    """
    name = _PROJECT.sub("", database)
    if name == database:  # Not a wiki of Wikimedia.
        name = ""
    for candidate in (code, "en" if name in _ENGLISH else name):
        base = _base(candidate.strip().lower().replace("_", "-"))
        if base in language_tables.read("namespaces"):
            return base
    return ""


def _base(code: str) -> str:
    if code in _STANDARD:
        return _STANDARD[code]
    if code in _WHOLE:
        return code
    return code.partition("-")[0]
