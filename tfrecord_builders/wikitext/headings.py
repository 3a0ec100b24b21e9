"""Headings, and the sections that they begin: which of them are prose.

The titles of other sections are data (`languages/end_sections.yaml`).
"""

import functools
import html
import re
import unicodedata

from tfrecord_builders import wiki_languages

_HEADING = re.compile(
    r"^(={1,6})[^\S\n]*(\S.*?)[^\S\n]*\1[^\S\n]*$", re.MULTILINE
)
_COMMENT = re.compile("<!--.*?-->")


def cut_end_sections(text: str, language: str) -> str:
    """Cuts out all headings, and whole sections of works, links and notes.

    Args:
      language: code of the wiki's language; empty if it is not known.
    """
    kept: list[str] = []
    position = 0
    cut_level = None  # The level of the end section at `position`.
    for heading in _HEADING.finditer(text):
        if cut_level is None:
            kept.append(text[position : heading.start()])
        position = heading.end()
        level = len(heading[1])
        # Sections inside an end section belong to it.
        if cut_level is None or level <= cut_level:
            cut_level = level if is_end(heading[2], language) else None
    if cut_level is None:
        kept.append(text[position:])
    return "".join(kept)


def last_title(markup: str) -> str:
    """Returns the title of the last section of the second level, or ''."""
    text = f"\n{markup}\n"
    start = len(text)
    # From the end on, since few lines of a page are looked at.
    while (start := text.rfind("\n==", 0, start)) >= 0:
        line = text[start + 1 : text.index("\n", start + 1)]
        heading = _HEADING.match(_COMMENT.sub("", line))
        if heading and len(heading[1]) == 2:
            return heading[2]
    return ""


# Between two titles: punctuation, or a word for "and".
_AND = re.compile(
    r"\s*[,;/|&+·・،、]\s*|\s(?:"
    "a|agus|an|and|at|ba|bilan|dan|e|en|en/of|et|eta|ha|hamda|i|in|ir|ja|kaj|"
    "lan|na|och|og|ou|si|u|un|und|ve|və|y|û|és|și|şi|và|"
    "και|и|й|і|та|ва|да|ды|және|һәм|և|ու|და|اور|और|एवं|तथा|व|आणि|र|ও|এবং|আৰু|"
    r"மற்றும்|మరియు|ಮತ್ತು|અને|ਅਤੇ|ଓ|සහ|እና)\s|"
    # Arabic, Persian and Hebrew write it with the next word.
    r"\s[וو]\s?|"
    r"\s*(?:および|及び|并|並|及|与|與|和|と|และ|및)\s*"
)
# Markup in titles. The variants of a Chinese title begin with their code.
_MARKS = re.compile(
    r"\[\[(?:[^\[\]|]*\|)?|\]\]|\{\{[^{}]*\}\}|<[^<>]*>|-\{|\}-|"
    r"\bzh(?:-\w+)?:"
)
_IN_PARENTHESES = re.compile(r"\s*[(（][^()（）]*[)）]\s*\Z")


@functools.lru_cache(1 << 16)
def is_end(title: str, language: str) -> bool:
    """Whether the section of this title is a list of works, links or notes.

    So is a section whose title joins several such titles.

    Args:
      title: its markup.
      language: code of the wiki's language; empty if it is not known.
    """
    titles = _end_titles(language)
    text = html.unescape(_MARKS.sub("", title))
    if _key(text) in titles:
        return True
    keys = [_key(part) for part in _AND.split(_IN_PARENTHESES.sub("", text))]
    return any(keys) and all(not key or key in titles for key in keys)


@functools.cache
def _end_titles(language: str) -> frozenset[str]:
    return frozenset(
        _key(title)
        for titles in wiki_languages.entries("end_sections", language)
        for title in titles
    )


# Accents, points of Hebrew, vowels of Arabic, dots below of Hindi. Other
# scripts have marks that are letters.
_POINTS = re.compile(
    "[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed"
    "\u093c]"
)
# Letters that one wiki writes in several ways.
_ALIKE = str.maketrans(
    {
        **dict.fromkeys("يىېۍے", "ی"),
        **dict.fromkeys("كڪ", "ک"),
        **dict.fromkeys("ةۃەہھ", "ه"),
        "ٱ": "ا",
        "ı": "i",
        "\u0901": "\u0902",  # ँ and ं of Hindi
    }
)
_NO_LETTER = re.compile("[^\\w\u0900-\u109f\u1780-\u17ff]|[_\u0640]")


def _key(title: str) -> str:
    """Returns a form of a title that is the same for all its spellings."""
    text = unicodedata.normalize("NFKD", title.casefold())
    return _NO_LETTER.sub("", _POINTS.sub("", text).translate(_ALIKE))
