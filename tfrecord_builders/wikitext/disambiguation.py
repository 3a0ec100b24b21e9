"""Disambiguation pages, which list articles and have no prose.

Their marks are data (`languages/disambiguation.yaml`).
"""

import functools
import re
from collections.abc import Iterable

from tfrecord_builders import wiki_languages
from tfrecord_builders.wikitext import links

_TEMPLATE_OR_SWITCH = re.compile(r"\{\{\s*([^{}|<>\n]+)|__DISAMBIG__")
_END_OF_TITLE = re.compile(r"[(（]([^()（）]+)[)）]\s*\Z")


def is_in_markup(markup: str, language: str) -> bool:
    """Whether the markup of a page says that it is a disambiguation page."""
    templates = _templates(language)
    return any(
        not match[1] or _template(match[1], language) in templates
        for match in _TEMPLATE_OR_SWITCH.finditer(markup)
    )


def is_in_title(title: str, language: str) -> bool:
    """Whether a title ends as only those of disambiguation pages do."""
    end = _END_OF_TITLE.search(title)
    return end is not None and (
        links.plain_name(end[1]) in _words(language, "names", "titles")
    )


def is_in_names(
    templates: Iterable[str], categories: Iterable[str], language: str
) -> bool:
    """Whether one of a page's templates or categories says so.

    Args:
      templates: names, with or without their namespace.
      categories: names without their namespace.
    """
    marks = _templates(language)
    if any(_template(name, language) in marks for name in templates):
        return True
    marks = _words(language, "categories")
    return any(links.plain_name(name) in marks for name in categories)


@functools.cache
def _templates(language: str) -> frozenset[str]:
    # Wikis also copy templates of other languages, with their names.
    return _words(language, "names", "templates") | _words("", "names")


@functools.lru_cache(1 << 16)
def _template(name: str, language: str) -> str:
    prefix, colon, rest = name.partition(":")
    namespaces = links.namespaces(language, "template")
    if colon and links.plain_name(prefix) in namespaces:
        name = rest
    return links.plain_name(name)


@functools.cache
def _words(language: str, *kinds: str) -> frozenset[str]:
    return frozenset(
        links.plain_name(word)
        for entry in wiki_languages.entries("disambiguation", language)
        for kind in kinds
        for word in entry.get(kind, ())
    )
