"""MediaWiki XML dumps as a source of documents: the articles of a wiki.

The format is https://www.mediawiki.org/wiki/Help:Export, of any version. The
pages are found by their tags as bytes, which text cannot hold unescaped, and
only then parsed, one by one: so memory is bounded by a page, a page that is
not UTF-8 costs that page alone, and reading may begin anywhere.
"""

import dataclasses
import re
from typing import NamedTuple

from lxml import etree

from bert_pretrain import errors
from tfrecord_builders.sources import streams, wikitext

_PAGE_START, _PAGE_END = b"<page>", b"</page>"
_HEADER_END = re.compile(rb"</siteinfo>|<page>")
_MAX_HEADER_BYTES = 1 << 20
_HEAD_BYTES = 1 << 20  # of a page too large, after the dump's header
_PAGE_ID = re.compile(rb"<id>\s*(\d+)")
_DATABASE = re.compile(r"<dbname>\s*(\w+)\s*</dbname>")
_NAMESPACE = re.compile(r'<namespace key="(-?\d+)"[^>/]*>([^<]+)</namespace>')
_FILE_KEYS, _CATEGORY_KEYS = ("6", "-2"), ("14",)

# A redirect of an export without <redirect/>. The word differs from wiki to
# wiki, but no article begins with a numbered item that is a word and a link.
_REDIRECT = re.compile(r"\s*#\s*[^\W\d_]+\s*:?\s*\[\[")
_DISAMBIGUATION_WORDS = (
    "disambiguation|begriffsklärung|homonymie|desambiguación|desambiguação|"
    "desambiguació|disambigua|doorverwijspagina|olika betydelser|"
    "ujednoznacznienie|значения|значення|曖昧さ回避|消歧义|消歧義|동음이의|"
    "توضيح|ابهام‌زدایی|anlam ayrımı|täsmennyssivu|rozcestník|flertydig|"
    "peker|egyértelműsítő lap|định hướng|disambiguasi|dezambiguizare|"
    "αποσαφήνιση|apartigilo|פירושונים"
)
_DISAMBIGUATION_TITLE = re.compile(
    rf".*\((?:{_DISAMBIGUATION_WORDS})\)", re.IGNORECASE
)
# Whole names, since {{disambiguation needed}} and {{Begriffsklärungshinweis}}
# stand in articles.
_DISAMBIGUATION = re.compile(
    r"__DISAMBIG__|\{\{\s*(?:(?:template|vorlage)\s*:\s*)?(?:"
    rf"{_DISAMBIGUATION_WORDS}|disambig|disamb|dab|dbig|hndis|geodis|"
    r"roaddis|schooldis|hospitaldis|mathdab|numberdis|letterdis|"
    r"disambiguation cleanup|disambig[- ]cleanup|(?:human name|given name|"
    r"surname|place name|geographical name|road|school|hospital|church|"
    r"airport|station|species|plant|fungus|genus|biology|chemistry|call sign|"
    r"mathematical|military unit|music|letter|number|tropical cyclone|"
    r"taxonomy|title|phonetics|molecular formula|portal|wikipedia|"
    r"letter[-–]number combination|set index) disambiguation|"
    r"homonymie (?:de [^|{}]+|communes|rues?)|desambig|desambiguacion|dp|"
    r"dpintro|förgrening|gren|pekerside|многозначность|неоднозначность|"
    r"багатозначність|неоднозначність|aimai|disambig-page|disambigg|egyért|"
    r"trang định hướng|ابهام زدایی)\s*(?:\||\}\})",
    re.IGNORECASE,
)


def read(stream, config):
    """Yields the articles of a dump, and which of its pages are none."""
    del config
    header = _read_header(stream.span)
    for page in _pages(stream):
        yield _document(page, header, stream.span)


@dataclasses.dataclass(frozen=True)
class _Header:
    """What a dump says of its wiki."""

    database: str
    namespaces: frozenset  # the names, in lower case, but of the articles'
    syntax: wikitext.Syntax


def _read_header(span):
    content = b""
    whole = streams.Stream(span._replace(start=0))
    for chunk in whole.chunks():
        content += chunk
        if _HEADER_END.search(content) or len(content) > _MAX_HEADER_BYTES:
            break
    if b"<mediawiki" not in content:
        raise errors.UserError(
            f"{span.path}: no MediaWiki XML export (no <mediawiki> element "
            f"in its first {len(content)} bytes); check the path and the "
            "source."
        )
    text = content.decode("utf-8", "replace")
    database = _DATABASE.search(text)
    names = {}
    for key, name in _NAMESPACE.findall(text):
        names.setdefault(key, name.lower())
    return _Header(
        database[1] if database else "wiki",
        frozenset(names.values()),
        wikitext.Syntax(
            [names[key] for key in _FILE_KEYS if key in names],
            [names[key] for key in _CATEGORY_KEYS if key in names],
        ),
    )


class _Page(NamedTuple):
    line: int  # counted from the span's start
    content: bytes
    is_whole: bool  # False: it was too large to be held


class _Piece(NamedTuple):
    """The bytes between two ends of pages."""

    position: int
    line: int
    content: bytes
    is_whole: bool
    is_last: bool


def _pages(stream):
    """Yields the pages whose start tag lies in the span."""
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
                _raise_broken(span, line, "it ends inside this page")
            if not between.rstrip().endswith(b"</mediawiki>"):
                _raise_broken(span, line, "it ends without </mediawiki>")
        elif start >= 0 and (is_first or not between.strip()):
            yield _Page(line, piece.content[start:] + _PAGE_END, piece.is_whole)
        # A span may begin inside a page, and the file with its header.
        elif not begins_inside:
            _raise_broken(span, line, "no <page> where one must begin")
        is_first = False


def _pieces(stream):
    """Divides a dump at the ends of its pages."""
    is_compressed = streams.is_compressed(stream.span.path)
    position, line = 0 if is_compressed else stream.span.start, 1
    head, tail, num_skipped, line_skipped = b"", b"", 0, 0
    for chunk in stream.chunks():
        *contents, tail = (tail + chunk).split(_PAGE_END)
        for content in contents:
            yield _Piece(position, line, head or content, not head, False)
            position += num_skipped + len(content) + len(_PAGE_END)
            line += line_skipped + content.count(b"\n")
            head, num_skipped, line_skipped = b"", 0, 0
        if len(tail) > streams.MAX_DOCUMENT_BYTES:
            # The end tag may be divided between this chunk and the next.
            passed = tail[: 1 - len(_PAGE_END)]
            head = head or passed[:_HEAD_BYTES]
            num_skipped += len(passed)
            line_skipped += passed.count(b"\n")
            tail = tail[len(passed) :]
    yield _Piece(position, line, head or tail, not head, True)


def _raise_broken(span, line, what):
    where = f"line {line}"
    if span.start:
        where += f" after byte {span.start}"
    raise errors.UserError(
        f"{span.path}: broken XML at {where} ({what}); fetch or export the "
        "file again."
    )


def _document(page, header, span):
    try:
        content = streams.decode(page.content, span.path, 0)
    except streams.NotUtf8Error:
        content = None
    if content is None or not page.is_whole:
        number = _PAGE_ID.search(page.content)
        name = f"{header.database}:{int(number[1]) if number else '?'}"
        if not page.is_whole:
            return streams.Dropped("too_long", name)
        return streams.Dropped(
            "not_utf8",
            name,
            (f"{span.path}: page {name} is not UTF-8; fetch the file again."),
        )
    try:
        root = etree.fromstring(page.content, _parser())
    except etree.XMLSyntaxError as error:
        _raise_broken(span, page.line + error.position[0] - 1, error.msg)
    title = root.findtext("title", "")
    name = f"{header.database}:{root.findtext('id', '?')}"
    # A full history holds the revisions from the oldest on.
    revision = root.findall("revision")[-1:]
    markup = revision[0].findtext("text") if revision else None
    reason = _why_not_article(root, title, markup, header)
    if reason:
        return streams.Dropped(reason, name)
    try:
        return streams.Document(name, wikitext.to_text(markup, header.syntax))
    except wikitext.UnparsableError as error:
        return streams.Dropped("unparsable", name, str(error))


def _parser():
    return etree.XMLParser(huge_tree=True, resolve_entities=False)


def _why_not_article(root, title, markup, header):
    """The reason to drop a page, or None."""
    if root.find("redirect") is not None:
        return "redirect"
    namespace = root.findtext("ns")
    if namespace is None:  # Exports before version 0.6.
        prefix, colon, _ = title.partition(":")
        is_article = not (colon and prefix.lower() in header.namespaces)
    else:
        is_article = namespace == "0"
    if not is_article:
        return "not_article"
    model = root.findtext("revision/model") or "wikitext"
    if not markup or model != "wikitext":
        return "no_text"
    if _REDIRECT.match(markup):
        return "redirect"
    if _DISAMBIGUATION_TITLE.match(title) or _DISAMBIGUATION.search(markup):
        return "disambiguation"
    return None
