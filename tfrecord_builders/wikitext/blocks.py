"""Cuts out the blocks of wikitext that are not prose.

`article.to_text` calls these functions in the order of this file.
"""

import functools
import re

_COMMENT = re.compile(
    r"(?s)<!--.*?(?:-->|\Z)|(?i:<nowiki\s*/>|"
    r"<nowiki\s*>(.*?)(?:</nowiki\s*>|\Z))|"
    r"__[^\W\d_a-z]+(?:_[^\W\d_a-z]+)*__"
)
# While markup is parsed, characters of the private use area stand for the
# characters that have a meaning in markup and are protected by <nowiki>.
_MEANINGFUL = "[]{}|'<>=*#:;!-_"
_TO_PRIVATE = {ord(c): 0xE000 + i for i, c in enumerate(_MEANINGFUL)}
_FROM_PRIVATE = {private: chr(char) for char, private in _TO_PRIVATE.items()}
_PRIVATE = re.compile("[\ue000-\ue0fe]+")


def cut_comments(text: str) -> str:
    """Cuts out comments and switches, and protects the content of <nowiki>.

    A switch is, for example, __NOTOC__. `restore_nowiki` ends the protection.
    """
    return _COMMENT.sub(
        lambda match: (match[1] or "").translate(_TO_PRIVATE), text
    )


def restore_nowiki(text: str) -> str:
    """Restores the characters that `cut_comments` has protected."""
    return _PRIVATE.sub(lambda match: match[0].translate(_FROM_PRIVATE), text)


_ELEMENT = re.compile(
    r"<(ref|references|math|chem|ce|gallery|imagemap|timeline|score|hiero|"
    r"graph|mapframe|maplink|source|syntaxhighlight|pre|templatedata|"
    r"templatestyles|inputbox|categorytree|indicator|section|includeonly|"
    r"rss|table)\b([^<>]*)>",
    re.IGNORECASE,
)


def cut_elements(text: str) -> str:
    """Cuts out the elements without prose, together with their content."""
    kept: list[str] = []
    position = 0
    unclosed: set[str] = set()
    for tag in _ELEMENT.finditer(text):
        if tag.start() < position:
            continue
        kept.append(text[position : tag.start()])
        position = tag.end()
        name = tag[1].lower()
        if tag[2].endswith("/") or name in unclosed:
            continue
        end = _end_of_element(text, position, name)
        if end is None:
            # No later element of this name has an end either. A new search
            # for each would take quadratic time.
            unclosed.add(name)
        else:
            position = end
    return "".join([*kept, text[position:]])


def _end_of_element(text: str, position: int, name: str) -> int | None:
    """Returns the end of an element; None if it has no end tag.

    A <ref> without an end tag ends at once, because prose follows it up to the
    next <ref>.

    Args:
      position: the end of the start tag.
    """
    depth = 1
    for tag in _tags_of(name).finditer(text, position):
        if not tag[1]:
            if name == "ref" and not tag[0].endswith("/>"):
                return position
            depth += name == "table"
        else:
            depth -= 1
            if not depth:
                return tag.end()
    return None


@functools.cache
def _tags_of(name: str) -> re.Pattern[str]:
    return re.compile(rf"<(/?){name}\b[^<>]*>", re.IGNORECASE)


_VARIANTS = re.compile(r"-\{([^{}]*)\}-")


def choose_variants(text: str) -> str:
    """Replaces each -{…}- by the first of its scripts, as in Chinese."""
    return _VARIANTS.sub(_first_variant, text) if "-{" in text else text


def _first_variant(match: re.Match[str]) -> str:
    flags, bar, rules = match[1].rpartition("|")
    if bar and set(flags) & set("HTD-"):  # Rules that show no text.
        return ""
    first = rules.partition(";")[0]
    return first.rpartition(":")[2].strip()


_TABLE = re.compile(r"^[ \t:*#]*(?:(\{\|)|(\|\}))", re.MULTILINE)
# A line of a table without a beginning or an end.
_TABLE_LINE = re.compile(r"^[^\S\n]*(?:\|[-}+|]?|\{\||!.*!!).*$", re.MULTILINE)


def cut_tables(text: str) -> str:
    """Cuts out tables, and lines of tables that are not complete."""
    kept: list[str] = []
    starts: list[int] = []  # Of the tables that are open, outermost first.
    position = 0
    for mark in _TABLE.finditer(text):
        if mark[1]:
            starts.append(mark.start())
        elif starts:
            start = starts.pop()
            if not starts:
                kept.append(text[position:start])
                position = mark.end()
    return _TABLE_LINE.sub("", "\n".join([*kept, text[position:]]))
