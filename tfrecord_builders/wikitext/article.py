"""Extracts the prose of an article from wikitext, one paragraph in each line.

mwparserfromhell reads about 2 MB per second. So only lines with links that
need a parser are given to it, and everything around the prose is cut out
before. The order is that of MediaWiki (Preprocessor_Hash.php, Parser.php):
comments and nowiki, elements of extensions, templates, tables, links, quotes.
Each step takes time linear in the length of the page.
"""

import html
import re

import mwparserfromhell
from mwparserfromhell.parser import ParserError

from tfrecord_builders.wikitext import (
    blocks,
    headings,
    links,
    quantities,
    templates,
)

# A line with more brackets is not parsed, because the parser's time may grow
# with the square of the open brackets. No article needs such a line.
_MAX_OPEN_BRACKETS = 1000


class UnparsableError(ValueError):
    """Markup on which the parser fails, or would take too long."""


def to_text(
    markup: str,
    syntax: links.Syntax,
    wiki: templates.Wiki | None = None,
    title: str = "",
) -> str:
    """Returns the text of an article without headings and end sections.

    Args:
      wiki: what its templates depend on; by default only the language.
      title: the article's title, which its text may show.

    Raises:
      UnparsableError: if the page is too broken.
    """
    wiki = wiki or templates.Wiki(syntax.language)
    text = blocks.cut_comments(markup)
    text = headings.cut_end_sections(text, syntax.language)
    text = blocks.cut_elements(text)
    text = blocks.mark_variants(text)
    text = templates.expand(text, wiki, title)
    text = blocks.choose_variants(text)
    text = blocks.cut_tables(text)
    text = links.cut_unseen_links(text, syntax)
    text = links.replace_links(text, syntax)
    text = _remove_tags(text)
    text = "\n".join(filter(None, map(_line_text, text.split("\n"))))
    text = html.unescape(_tidy(text))
    return blocks.restore_nowiki(text)


_BREAK = re.compile(
    r"</?(?:br|hr|p|div|li|ul|ol|dl|dt|dd|center|blockquote|"
    r"poem|h[1-6])\b[^<>]*/?>|</br\s*>",
    re.IGNORECASE,
)
# How characters are read, above them; the text would name them twice.
_READING = re.compile(
    r"<r[pt]c?\b[^<>]*>[^<>]*(?:</r[pt]c?\s*>)?", re.IGNORECASE
)
_CODE_BLOCK = re.compile(r"<code>[^<]*\n[^<]*</code\s*>", re.IGNORECASE)
_INLINE_TAG = re.compile(
    r"</?(?:abbr|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|ins|kbd|"
    r"mark|noinclude|onlyinclude|q|rb|rp|rt|rtc|ruby|s|samp|small|span|strike|"
    r"strong|sub|sup|time|tt|u|var|wbr|nowiki|ref|references|math|gallery|"
    r"table|tr|td|th|caption|tbody|thead|includeonly|section|pre|source|"
    r"syntaxhighlight|translate|tvar|chem|timeline|poem)\b[^<>]*>",
    re.IGNORECASE,
)


def _remove_tags(text: str) -> str:
    """Removes tags, and keeps the text between them."""
    if "<" not in text:
        return text
    text = quantities.replace_tags(text)
    text = _READING.sub("", text)
    text = _CODE_BLOCK.sub("", text)
    return _INLINE_TAG.sub("", _BREAK.sub("\n", text))


_LIST_MARKS = " \t*#:;"
_NEEDS_PARSER = re.compile(
    r"\[\[|\]\]|\[(?:[a-z]+:)?//|\[mailto:", re.IGNORECASE
)
_QUOTES = re.compile("'{2,}")
_MARKUP = re.compile(
    r"\[\[|\]\]|\{\{+|\}\}+|\{\||\|\}|<ref[^>]*>?|</ref>?|"
    r"''+|<!--|-->"
)
_WORD = re.compile(r"\w")


def _line_text(line: str) -> str:
    """Removes the markup that is left in a line."""
    if line[:1] in _LIST_MARKS:
        line = line.lstrip(_LIST_MARKS)
    if _NEEDS_PARSER.search(line):
        line = _parse(line)
    if "''" in line:
        line = _remove_quotes(line)
    line = _MARKUP.sub("", line)
    return line if _WORD.search(line) else ""


def _parse(line: str) -> str:
    if line.count("[") > _MAX_OPEN_BRACKETS:
        raise UnparsableError(
            f"{line.count('[')} brackets in a line of {len(line)} characters"
        )
    try:
        # `_remove_quotes` handles quotes, line by line as MediaWiki does.
        code = mwparserfromhell.parse(line, skip_style_tags=True)
    except ParserError as error:
        raise UnparsableError(str(error)) from error
    for link in code.ifilter_external_links(recursive=False):
        if link.brackets and link.title is None:
            code.remove(link)
    return code.strip_code(normalize=False, collapse=False)


def _remove_quotes(line: str) -> str:
    """Removes the quotes of bold and italic text, and keeps apostrophes.

    ''Titanic'''s becomes Titanic's. One of four quotes is an apostrophe. Of
    more than five quotes, five are markup. If neither bold nor italic text is
    closed, one of three quotes is an apostrophe. (doQuotes in Parser.php)
    """
    runs = list(_QUOTES.finditer(line))
    lengths = [len(run[0]) for run in runs]
    # Quotes of a run that are markup: 2 for italic, 3 for bold, 5 for both.
    markup = [2 if n == 2 else 3 if n in (3, 4) else 5 for n in lengths]
    num_bold = sum(n != 2 for n in markup)
    num_italic = sum(n != 3 for n in markup)
    if num_bold % 2 and num_italic % 2:
        candidates = [i for i, n in enumerate(lengths) if n == 3]
        if candidates:
            markup[_likeliest_apostrophe(line, runs, candidates)] = 2
    kept: list[str] = []
    position = 0
    for run, length, num_markup in zip(runs, lengths, markup, strict=True):
        kept += [line[position : run.start()], "'" * (length - num_markup)]
        position = run.end()
    return _QUOTES.sub("", "".join([*kept, line[position:]]))


def _likeliest_apostrophe(
    line: str, runs: list[re.Match[str]], candidates: list[int]
) -> int:
    """Chooses the run of quotes that most likely begins with an apostrophe.

    The first one after a word of one letter, as in l'''amour''; else the first
    one after another word; else the first one.
    """

    def rank(i: int) -> int:
        before = line[max(0, runs[i].start() - 2) : runs[i].start()]
        if before[-1:].isspace() or not before:
            return 2
        return 0 if len(before) < 2 or before[0].isspace() else 1

    return min(candidates, key=rank)


# Templates and references that were cut out leave brackets without content,
# and punctuation with nothing before or after it.
_OPENING = re.compile(r"\((?:[^\S\n]|[,;:](?=[\s,;:]))+")
_BEFORE_CLOSING = " \t\xa0,;:"
_REPEATED = re.compile(r"([,;])(?:[^\S\n]*[,;])+(?=\s)")
_BEFORE_STOP = re.compile(r"[^\S\n]+([,.;])(?=\s|$)")


def _tidy(text: str) -> str:
    text = _OPENING.sub("(", text)
    # `rstrip` takes a tenth of the time of a pattern.
    *pieces, last = text.split(")")
    text = ")".join(
        [*(piece.rstrip(_BEFORE_CLOSING) for piece in pieces), last]
    )
    for empty in (" ()", " []", "（）", "「」"):
        text = text.replace(empty, "")
    text = _REPEATED.sub(r"\1", text)
    return _BEFORE_STOP.sub(r"\1", text)
