"""Cuts out the blocks of wikitext that are not prose.

`article.to_text` calls these functions in the order of this file.
"""

import functools
import re
from collections.abc import Mapping
from typing import NamedTuple

from tfrecord_builders import language_tables

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
    # Few pages have any, and `in` takes a tenth of the time of a pattern.
    if not any(chr(private) in text for private in _FROM_PRIVATE):
        return text
    return _PRIVATE.sub(lambda match: match[0].translate(_FROM_PRIVATE), text)


_ELEMENT = re.compile(
    r"<(ref|references|math|chem|ce|gallery|imagemap|timeline|score|hiero|"
    r"graph|mapframe|maplink|source|syntaxhighlight|pre|templatedata|"
    r"templatestyles|inputbox|categorytree|indicator|section|includeonly|"
    r"rss|table)\b([^<>]*)>",
    re.IGNORECASE,
)


# Elements that are blocks of their own: the text around them is not one line.
_BLOCKS = frozenset(
    "gallery imagemap timeline score graph mapframe pre table".split()
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
        if name in _BLOCKS:
            kept.append("\n")
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


# Stand for the beginning and the end of a block of variants while templates
# are expanded. -{{a}} is a template after a hyphen, and -{{{a}}}- is a block
# with a template in it.
_VARIANTS_START, _VARIANTS_END = "\ue0f2", "\ue0f3"
_VARIANTS_MARK = re.compile(r"(-\{(?!\{(?!\{)))|(?:(?<=\}\})|(?<!\}))\}-")
_VARIANTS = re.compile(f"[{_VARIANTS_START}{_VARIANTS_END}]")
# Flags of rules that show no text.
_UNSEEN_FLAGS = frozenset("HTDN-")


def mark_variants(text: str) -> str:
    """Marks the blocks -{…}-, because their braces resemble templates."""
    if "-{" not in text:
        return text
    return _VARIANTS_MARK.sub(
        lambda mark: _VARIANTS_START if mark[1] else _VARIANTS_END, text
    )


def choose_variants(text: str) -> str:
    """Replaces each marked block by one of its variants, innermost first.

    It is the same variant everywhere, as the table "variants" says.
    """
    if _VARIANTS_START not in text:
        return text.replace(_VARIANTS_END, "}-")
    # The pieces of each open block, outermost first; the first ones are text.
    stack: list[list[str]] = [[]]
    position = 0
    for mark in _VARIANTS.finditer(text):
        stack[-1].append(text[position : mark.start()])
        position = mark.end()
        if mark[0] == _VARIANTS_START:
            stack.append([])
        elif len(stack) > 1:
            content = "".join(stack.pop())
            stack[-1].append(_choose_variant(content))
        else:
            stack[-1].append("}-")
    stack[-1].append(text[position:])
    return "-{".join("".join(pieces) for pieces in stack)


def _choose_variant(content: str) -> str:
    patterns = _variant_patterns()
    if flags := patterns.flags.match(content):
        names = set(re.split(r"[;\s]+", (flags[1] or "").lower()))
        if any(name.upper() in _UNSEEN_FLAGS for name in names):
            return ""
        codes = names & set(patterns.ranks)
        if codes and not codes & patterns.shown:
            return ""
        content = content[flags.end() :]
    rules = list(patterns.rule.finditer(content))
    if not rules:  # Text that is not converted: -{12:30}-.
        return content.strip()
    ends = [*(rule.start() for rule in rules[1:]), len(content)]
    _, rule, end = min(
        (patterns.ranks[rule[1].lower()], rule.end(), end)
        for rule, end in zip(rules, ends, strict=True)
    )
    return content[rule:end].strip().rstrip(";").rstrip()


class _VariantPatterns(NamedTuple):
    """The codes of all variants.

    Attributes:
      ranks: the place of each code in the order of choice.
      shown: the codes whose text is shown.
      flags: matches the flags of a block, before its bar.
      rule: matches the beginning of a rule: its code and the colon.
    """

    ranks: Mapping[str, int]
    shown: frozenset[str]
    flags: re.Pattern[str]
    rule: re.Pattern[str]


@functools.cache
def _variant_patterns() -> _VariantPatterns:
    tables = language_tables.read("variants").values()
    shown = [code for table in tables for code in table["shown"]]
    codes = [*shown, *(code for table in tables for code in table["others"])]
    # Long ones first: zh begins zh-hans.
    code = "|".join(sorted(codes, key=len, reverse=True))
    flag = rf"[A-Z+-]|{code}"
    return _VariantPatterns(
        {code: i for i, code in enumerate(codes)},
        frozenset(shown),
        re.compile(
            rf"\s*((?:{flag})(?:\s*;\s*(?:{flag}))*)?\s*;?\s*\|", re.IGNORECASE
        ),
        re.compile(rf"(?:^|;)\s*(?:[^;:]*=>\s*)?({code})\s*:", re.IGNORECASE),
    )


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
