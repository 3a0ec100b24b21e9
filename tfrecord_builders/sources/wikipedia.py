"""MediaWiki XML dumps as a source of documents: the articles of a wiki.

All versions of the format are read
(https://www.mediawiki.org/wiki/Help:Export). A search for the bytes of the
page tags, which text contains only in escaped form, finds the pages. Each page
is then parsed alone. So the memory is limited to one page, bytes that are not
UTF-8 cost only their own page, and reading may begin anywhere in the file.
"""

import dataclasses
import html
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

from lxml import etree

from bert_pretrain import errors
from tfrecord_builders import wiki_languages
from tfrecord_builders.sources import source_config, streams
from tfrecord_builders.wikitext import (
    article,
    disambiguation,
    headings,
    links,
    templates,
)

_PAGE_START, _PAGE_END = b"<page>", b"</page>"
_HEADER_END = re.compile(rb"</siteinfo>|<page>")
_MAX_HEADER_BYTES = 1 << 20
# Size of the beginning that is kept of a page that is too large. The beginning
# contains the page id.
_HEAD_BYTES = 1 << 20
# Where in a page the parser finds a fault; the line in the file is told.
_PLACE = re.compile(r"\s*, line \d+, column \d+\Z")
_PAGE_ID = re.compile(rb"<id>\s*(\d+)")
_LANGUAGE = re.compile(r'<mediawiki\b[^>]*\sxml:lang="([\w-]*)"')
_DATABASE = re.compile(r"<dbname>\s*(\w+)\s*</dbname>")
_NAMESPACE = re.compile(r'<namespace key="(-?\d+)"[^>/]*>([^<]+)</namespace>')
_FILE_KEYS, _CATEGORY_KEYS, _TEMPLATE_KEY = ("6", "-2"), ("14",), "10"
_TEMPLATE_NAMESPACE = b"<ns>10</ns>"
_TITLE = re.compile(rb"<title>([^<]+)</title>")
_REDIRECT_TARGET = re.compile(rb'<redirect title="([^"]+)"')

# For each database: what `find_redirects` finds.
Redirects = Mapping[str, Mapping[str, str]]

# Notes on an article with sections. A high share of unknown last sections
# means that lists of works and links are in the text.
_KNOWN_END = {"articles_with_sections": 1}
_UNKNOWN_END = {"articles_with_sections": 1, "unknown_last_sections": 1}

# A redirect in an export without <redirect/>: "#REDIRECT [[Target]]". Each
# language has its own word, but no article begins with a numbered list item
# that consists of a word and a link.
_REDIRECT = re.compile(r"\s*#\s*[^\W\d_]+\s*:?\s*\[\[")


def read(
    stream: streams.Stream,
    config: source_config.SourceConfig,
    redirects: Redirects = types.MappingProxyType({}),
) -> Iterator[streams.Document | streams.Dropped]:
    """Yields the articles of a span, and its other pages as dropped.

    Raises:
      UserError: if the file is not a dump, or its XML is broken.
    """
    del config
    header = _read_header(stream.span, redirects)
    for page in _pages(stream):
        yield _document(page, header, stream.span)


def find_redirects(
    stream: streams.Stream,
) -> tuple[str, str, dict[str, str]]:
    """Finds the redirects between templates in a span.

    It searches for bytes and parses no XML, so it takes little more time than
    to decompress the span. What is broken is left to `read`.

    Returns:
      The database of the wiki, its language, and for names of templates: the
      name of the template that the page leads to.
    """
    header = _read_header(stream.span, {})
    found: dict[str, str] = {}
    for piece in _pieces(stream):
        start = piece.content.find(_PAGE_START)
        if start >= 0 and piece.position + start >= stream.limit:
            break
        if _TEMPLATE_NAMESPACE not in piece.content:
            continue
        title = _TITLE.search(piece.content)
        target = _REDIRECT_TARGET.search(piece.content)
        if title and target:
            name, leads_to = (
                html.unescape(match[1].decode("utf-8", "replace"))
                for match in (title, target)
            )
            found[_without_namespace(name)] = _without_namespace(leads_to)
    return header.database, header.syntax.language, found


def _without_namespace(title: str) -> str:
    return links.plain_name(title.partition(":")[2])


def is_redirect(markup: str) -> bool:
    """Whether the markup of a page says that it is a redirect."""
    return _REDIRECT.match(markup) is not None


@dataclasses.dataclass(frozen=True)
class _Header:
    """The data about the wiki at the beginning of a dump.

    Attributes:
      namespaces: plain names of all namespaces except that of the articles.
      syntax: with the language of the wiki.
      wiki: what its templates depend on.
    """

    database: str
    namespaces: frozenset[str]
    syntax: links.Syntax
    wiki: templates.Wiki


def _read_header(span: streams.Span, redirects: Redirects) -> _Header:
    content = b""
    file = streams.Stream(span._replace(start=0))
    for chunk in file.text_chunks():
        content += chunk
        if _HEADER_END.search(content) or len(content) > _MAX_HEADER_BYTES:
            break
    if b"<mediawiki" not in content:
        raise errors.UserError(
            f"{span.path}: not a MediaWiki XML export (no <mediawiki> element "
            f"in its first {len(content)} bytes); check the path and the "
            "source."
        )
    text = content.decode("utf-8", "replace")
    code, dbname = _LANGUAGE.search(text), _DATABASE.search(text)
    names: dict[str, str] = {}
    for key, name in _NAMESPACE.findall(text):
        names.setdefault(key, html.unescape(name))
    database = dbname[1] if dbname else ""
    language = wiki_languages.language_of(code[1] if code else "", database)
    syntax = links.Syntax(
        tuple(names[key] for key in _FILE_KEYS if key in names),
        tuple(names[key] for key in _CATEGORY_KEYS if key in names),
        language,
    )
    return _Header(
        database or "wiki",
        syntax.unseen_prefixes
        | links.namespaces(language, "template")
        | frozenset(map(links.plain_name, names.values())),
        syntax,
        templates.Wiki(
            language,
            names.get(_TEMPLATE_KEY, ""),
            redirects.get(database or "wiki", {}),
        ),
    )


class _Page(NamedTuple):
    """A page of a dump.

    Attributes:
      line: number of its first line, counted from the start of the span.
      content: its XML; if it is not whole, only the beginning.
    """

    line: int
    content: bytes
    is_whole: bool


class _Piece(NamedTuple):
    """The bytes between the ends of two pages."""

    position: int
    line: int
    content: bytes
    is_whole: bool
    is_last: bool


def _pages(stream: streams.Stream) -> Iterator[_Page]:
    """Yields the pages that have their start tag in the span."""
    span = stream.span
    is_first = True
    for piece in _pieces(stream):
        start = piece.content.find(_PAGE_START)
        between = piece.content[:start] if start >= 0 else piece.content
        line = piece.line + between.count(b"\n")
        if start >= 0 and piece.position + start >= stream.limit:
            return
        begins_inside = is_first and span.start > 0
        if piece.is_last and not (begins_inside and start < 0):
            if start >= 0:
                _raise_broken(span, line, "the file ends inside this page")
            if not between.rstrip().endswith(b"</mediawiki>"):
                _raise_broken(span, line, "the file ends without </mediawiki>")
        # Other content before <page> is right in the first piece only: the
        # header, or the rest of a page that began before the span.
        elif start >= 0 and (is_first or not between.strip()):
            yield _Page(line, piece.content[start:] + _PAGE_END, piece.is_whole)
        # The first piece has no <page> if a page began before the span.
        elif not begins_inside:
            _raise_broken(span, line, "<page> is missing")
        is_first = False


def _pieces(stream: streams.Stream) -> Iterator[_Piece]:
    """Divides a dump at the ends of its pages."""
    is_compressed = streams.is_compressed(stream.span.path)
    position, line = 0 if is_compressed else stream.span.start, 1
    # `head` is the beginning of a page that is too large. The next bytes of
    # the page are skipped and only counted.
    head, tail, num_skipped, lines_skipped = b"", b"", 0, 0
    for chunk in stream.chunks():
        *contents, tail = (tail + chunk).split(_PAGE_END)
        for content in contents:
            yield _Piece(position, line, head or content, not head, False)
            position += num_skipped + len(content) + len(_PAGE_END)
            line += lines_skipped + content.count(b"\n")
            head, num_skipped, lines_skipped = b"", 0, 0
        if len(tail) > streams.MAX_DOCUMENT_BYTES:
            # The end tag may begin in this chunk and end in the next.
            skipped = tail[: 1 - len(_PAGE_END)]
            head = head or skipped[:_HEAD_BYTES]
            num_skipped += len(skipped)
            lines_skipped += skipped.count(b"\n")
            tail = tail[len(skipped) :]
    yield _Piece(position, line, head or tail, not head, True)


def _raise_broken(span: streams.Span, line: int, problem: str) -> NoReturn:
    place = f"line {line}"
    if span.start:
        place += f" after byte {span.start}"
    raise errors.UserError(
        f"{span.path}: broken XML at {place} ({problem}); fetch or export the "
        "file again."
    )


def _document(
    page: _Page, header: _Header, span: streams.Span
) -> streams.Document | streams.Dropped:
    if unreadable := _why_unreadable(page, header, span):
        return unreadable
    try:
        parser = etree.XMLParser(huge_tree=True, resolve_entities=False)
        root = etree.fromstring(page.content, parser)
    except etree.XMLSyntaxError as error:
        problem = _PLACE.sub("", error.msg)
        _raise_broken(span, page.line + error.position[0] - 1, problem)
    # Bytes between two pages are missing, and one text would hide the other.
    if any(len(root.findall(name)) > 1 for name in ("title", "ns", "id")):
        _raise_broken(span, page.line, "</page> is missing")
    title = root.findtext("title", "")
    name = f"{header.database}:{root.findtext('id', '?')}"
    revision = _newest_revision(root)
    reason = _why_not_article(root, title, revision, header)
    if reason:
        return streams.Dropped(reason, name)
    markup, language = revision.findtext("text", ""), header.syntax.language
    try:
        text = article.to_text(markup, header.syntax, header.wiki, title)
    except article.UnparsableError as error:
        return streams.Dropped("unparsable", name, str(error))
    return streams.Document(name, text, language, **_sections(markup, language))


def _newest_revision(root: etree._Element) -> etree._Element:
    """Returns the newest revision of a page, or an empty one if it has none.

    Histories are in any order. Of revisions without a time or a number, the
    last one is the newest.
    """

    def age(revision: etree._Element) -> tuple[str, int]:
        number = revision.findtext("id", "").strip()
        return (
            revision.findtext("timestamp", "").strip(),
            int(number) if number.isdecimal() else 0,
        )

    revisions = root.findall("revision")[::-1]
    return max(revisions, key=age, default=etree.Element("revision"))


def _sections(markup: str, language: str) -> dict[str, Any]:
    """Says whether the last section of an article is a known end section."""
    title = headings.last_title(markup)
    if not title:
        return {}
    if headings.is_end(title, language):
        return {"notes": _KNOWN_END}
    return {"notes": _UNKNOWN_END, "unknown_heading": title}


def _why_unreadable(
    page: _Page, header: _Header, span: streams.Span
) -> streams.Dropped | None:
    """Returns the reason to drop a page before it is parsed, or None.

    Raises:
      UserError: if damaged bytes hide where the next page begins.
    """
    is_utf8 = True
    try:
        streams.decode(page.content, span.path, 0)
    except streams.NotUtf8Error:
        is_utf8 = False
    if is_utf8 and page.is_whole:
        return None
    number = _PAGE_ID.search(page.content)
    name = f"{header.database}:{int(number[1]) if number else '?'}"
    if not page.is_whole:
        return streams.Dropped("too_long", name)
    if page.content.count(_PAGE_START) > 1:
        _raise_broken(span, page.line, "</page> is missing")
    return streams.Dropped(
        "not_utf8",
        name,
        f"{span.path}: page {name} is not UTF-8; fetch the file again.",
    )


def _why_not_article(
    root: etree._Element,
    title: str,
    revision: etree._Element,
    header: _Header,
) -> str | None:
    """Returns the reason to drop a page that has been parsed, or None."""
    if root.find("redirect") is not None:
        return "redirect"
    namespace = root.findtext("ns")
    if namespace is None:  # The format before version 0.6 has no <ns>.
        prefix, colon, _ = title.partition(":")
        is_article = not (
            colon and links.plain_name(prefix) in header.namespaces
        )
    else:
        is_article = namespace == "0"
    if not is_article:
        return "not_article"
    markup = revision.findtext("text", "")
    model = revision.findtext("model") or "wikitext"
    if not markup or model != "wikitext":
        return "no_text"
    if is_redirect(markup):
        return "redirect"
    language = header.syntax.language
    if disambiguation.is_in_title(title, language):
        return "disambiguation"
    if disambiguation.is_in_markup(markup, language):
        return "disambiguation"
    return None
