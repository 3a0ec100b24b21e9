"""CirrusSearch dumps as a source of documents: the articles of a wiki.

The dump of a wiki's search index holds the text of its pages as the wiki shows
it, with all templates expanded
(https://www.mediawiki.org/wiki/Extension:CirrusSearch/Schema). Lines of
actions, {"index": {"_id": "12"}}, and of documents alternate. Documents without
actions are read too.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tfrecord_builders import wiki_languages
from tfrecord_builders.sources import source_config, streams, wikipedia
from tfrecord_builders.wikitext import disambiguation

_ACTIONS = ("index", "create")


def read(
    stream: streams.Stream, config: source_config.SourceConfig
) -> Iterator[streams.Document | streams.Dropped]:
    """Yields the articles of a file, and its other pages as dropped.

    A file is read as a whole: a span that began inside it could not tell which
    action its first document belongs to.
    """
    del config
    path = stream.span.path
    action = None  # The line before, if a document has to follow it.
    for position, line in stream.lines():
        if line is not None and not line.strip():
            continue
        item = _parse(path, position, line)
        if isinstance(item, streams.Dropped):
            yield item
            action = None
        elif not _is_action(item):
            yield _document(f"{path}:{position}", item, action)
            action = None
        else:
            if action:
                yield _without_document(path, action)
            action = item
    if action:
        yield _without_document(path, action)


def _parse(
    path: str, position: int, line: bytes | None
) -> dict[str, Any] | streams.Dropped:
    """Returns the JSON object of a line."""
    name = f"{path}:{position}"
    if line is None:
        return streams.Dropped("too_long", name)
    try:
        item = json.loads(streams.decode(line, path, position))
    except streams.NotUtf8Error as error:
        return streams.Dropped("not_utf8", name, str(error))
    except (ValueError, RecursionError) as error:
        cause = f" ({error})"
    else:
        if isinstance(item, dict):
            return item
        cause = ""
    return streams.Dropped(
        "not_json",
        name,
        f"{path}: no JSON object at byte {position}{cause}; a dump of "
        "CirrusSearch has one in each line, so check the path and the source.",
    )


def _is_action(item: Mapping[str, Any]) -> bool:
    return len(item) == 1 and any(
        isinstance(item.get(name), dict) for name in _ACTIONS
    )


def _page_number(action: Mapping[str, Any]) -> str:
    (target,) = action.values()
    return str(target.get("_id", "?"))


def _without_document(path: str, action: Mapping[str, Any]) -> streams.Dropped:
    return streams.Dropped("no_document", f"{path}:{_page_number(action)}")


def _document(
    place: str, page: Mapping[str, Any], action: Mapping[str, Any] | None
) -> streams.Document | streams.Dropped:
    """Makes a document of a page.

    Args:
      place: file and position of the page, for messages.
      action: the line before the page, if it was an action.
    """
    if not isinstance(page.get("namespace"), int):
        return streams.Dropped(
            "not_cirrus",
            place,
            f"{place}: no CirrusSearch document, which has the number of its "
            "namespace in a field 'namespace'; read other JSON lines with "
            "source=jsonl.",
        )
    database = _string(page, "wiki") or "wiki"
    number = _page_number(action) if action else str(page.get("page_id", "?"))
    name = f"{database}:{number}" if number != "?" else place
    language = wiki_languages.language_of(_string(page, "language"), database)
    if reason := _why_not_article(page, language):
        return streams.Dropped(reason, name)
    return streams.Document(name, _text(page), language)


def _why_not_article(page: Mapping[str, Any], language: str) -> str | None:
    """Returns the reason to drop a page, or None."""
    if page["namespace"] != 0:
        return "not_article"
    markup = _string(page, "source_text")
    if wikipedia.is_redirect(markup):
        return "redirect"
    model = _string(page, "content_model") or "wikitext"
    if model != "wikitext" or not _text(page):
        return "no_text"
    is_disambiguation = (
        disambiguation.is_in_title(_string(page, "title"), language)
        or disambiguation.is_in_names(
            _strings(page, "template"), _strings(page, "category"), language
        )
        or disambiguation.is_in_markup(markup, language)
    )
    return "disambiguation" if is_disambiguation else None


def _text(page: Mapping[str, Any]) -> str:
    """Returns the text, with a line break after the introduction."""
    text = _string(page, "text").strip()
    opening = _string(page, "opening_text").strip()
    if opening and text.startswith(opening):
        return f"{opening}\n{text[len(opening) :].lstrip()}"
    return text


def _string(page: Mapping[str, Any], field: str) -> str:
    value = page.get(field)
    return value if isinstance(value, str) else ""


def _strings(page: Mapping[str, Any], field: str) -> list[str]:
    values = page.get(field)
    if not isinstance(values, list):
        return []
    return [value for value in values if isinstance(value, str)]
