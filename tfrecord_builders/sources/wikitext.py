"""Wikitext to text: what a reader of the article reads, a paragraph a line.

mwparserfromhell reads about two megabytes a second, so it is given only the
lines whose links need a parser. What surrounds prose is cut out before, in
the order in which MediaWiki reads it (Preprocessor_Hash.php, Parser.php):
comments and nowiki, elements of extensions, templates, tables, links, quotes.
Every step takes time linear in the page.
"""

import dataclasses
import functools
import html
import re

import mwparserfromhell
from mwparserfromhell.parser import ParserError

from tfrecord_builders.sources import wikitext_templates

# Lines that need the parser but are beyond what an article can hold: the
# parser's time may grow with the square of the open brackets.
_MAX_OPEN_BRACKETS = 1000


class UnparsableError(ValueError):
    """Markup that the parser fails on, or would take too long for."""


@dataclasses.dataclass(frozen=True)
class Syntax:
    """What markup depends on the wiki: its own names of the namespaces of
    files and categories, in lower case, beside the English ones."""

    file_names: tuple = ()
    category_names: tuple = ()

    @functools.cached_property
    def unseen_prefixes(self):
        """Prefixes of links that show no text in their place."""
        return frozenset(
            {
                "file",
                "image",
                "media",
                "category",
                *self.file_names,
                *self.category_names,
            }
        )

    @functools.cached_property
    def unseen_link(self):
        names = "|".join(map(re.escape, sorted(self.unseen_prefixes)))
        return re.compile(rf"\[\[[ _]*(?:{names})[ _]*:", re.IGNORECASE)


def to_text(markup, syntax):
    """The text of an article, without markup, headings and end sections.

    Raises:
      UnparsableError: if a page is too broken.
    """
    text = _cut_comments(markup)
    text = _cut_sections(text)
    text = _cut_elements(text)
    text = wikitext_templates.expand(text)
    text = _choose_variants(text)
    text = _cut_tables(text)
    text = _cut_unseen_links(text, syntax)
    text = _open_links(text, syntax)
    text = _open_tags(text)
    text = "\n".join(filter(None, map(_open_line, text.split("\n"))))
    text = html.unescape(_tidy(text))
    return _HIDDEN.sub(lambda match: match[0].translate(_FROM_NOWIKI), text)


# ------------------------------------------------- comments, nowiki, sections

_COMMENT = re.compile(
    r"(?s)<!--.*?(?:-->|\Z)|(?i:<nowiki\s*/>|"
    r"<nowiki\s*>(.*?)(?:</nowiki\s*>|\Z))|"
    r"__[^\W\d_a-z]+(?:_[^\W\d_a-z]+)*__"
)
# Characters with a meaning, as private ones while the markup is read.
_MEANINGFUL = "[]{}|'<>=*#:;!-_"
_TO_NOWIKI = {ord(c): 0xE000 + i for i, c in enumerate(_MEANINGFUL)}
_FROM_NOWIKI = {private: chr(char) for char, private in _TO_NOWIKI.items()}
_HIDDEN = re.compile("[\ue000-\ue0fe]+")


def _cut_comments(text):
    """Cuts out comments and switches, and hides what nowiki protects."""
    return _COMMENT.sub(
        lambda match: (match[1] or "").translate(_TO_NOWIKI), text
    )


_HEADING = re.compile(
    r"^(={1,6})[^\S\n]*(\S.*?)[^\S\n]*\1[^\S\n]*$", re.MULTILINE
)
_HEADING_MARKS = re.compile(r"[\[\]':]|\{\{[^{}]*\}\}|<[^<>]*>")
# Sections that hold lists of works and links.
_END_SECTIONS = frozenset(
    """
see also/references/external links/external link/further reading/notes
footnotes/bibliography/sources/citations/works cited/notes and references
references and notes/references and sources/sources and references
notes and citations/citations and notes/footnotes and references
references and further reading/select bibliography/selected bibliography
literature/literature cited/general references/cited sources/cited references
primary sources/secondary sources/notes and sources/endnotes
einzelnachweise/weblinks/literatur/siehe auch/quellen/anmerkungen/fußnoten
références/voir aussi/liens externes/lien externe/notes et références
bibliographie/articles connexes/notes/annexes
referencias/véase también/enlaces externos/bibliografía/notas/fuentes
note/voci correlate/altri progetti/collegamenti esterni/bibliografia
referências/ver também/ligações externas/bibliografia/notas
zie ook/externe links/bronnen/externe link/bronnen, noten en/of referenties
referenser/se även/externa länkar/källor/noter
przypisy/zobacz też/linki zewnętrzne/uwagi
примечания/см. также/ссылки/литература/источники
примітки/див. також/посилання/література/джерела
脚注/関連項目/外部リンク/参考文献/出典/参考资料/外部链接/参见/參見/外部連結/參考資料/参考来源
각주/같이 보기/외부 링크/참고 문헌/الوصلات الخارجية/مراجع/انظر أيضا
kaynakça/ayrıca bakınız/dış bağlantılar
""".strip()
    .replace("\n", "/")
    .split("/")
)


def _cut_sections(text):
    """Cuts out the headings, and the end sections whole."""
    parts, position, cut_level = [], 0, None
    for heading in _HEADING.finditer(text):
        if cut_level is None:
            parts.append(text[position : heading.start()])
        position = heading.end()
        level = len(heading[1])
        if cut_level is None or level <= cut_level:
            title = _HEADING_MARKS.sub("", heading[2]).strip().lower()
            cut_level = level if title in _END_SECTIONS else None
    if cut_level is None:
        parts.append(text[position:])
    return "".join(parts)


# ------------------------------------------------------- elements of extensions

_ELEMENT = re.compile(
    r"<(ref|references|math|chem|ce|gallery|imagemap|timeline|score|hiero|"
    r"graph|mapframe|maplink|source|syntaxhighlight|pre|templatedata|"
    r"templatestyles|inputbox|categorytree|indicator|section|includeonly|"
    r"rss|table)\b([^<>]*)>",
    re.IGNORECASE,
)


def _cut_elements(text):
    """Cuts out the elements that hold no prose, with their content."""
    parts, position, unclosed = [], 0, set()
    for tag in _ELEMENT.finditer(text):
        if tag.start() < position:
            continue
        parts.append(text[position : tag.start()])
        position = tag.end()
        name = tag[1].lower()
        if tag[2].endswith("/") or name in unclosed:
            continue
        end = _end_of_element(text, position, name)
        if end is None:
            unclosed.add(name)
        else:
            position = end
    return "".join([*parts, text[position:]])


def _end_of_element(text, position, name):
    """The end of an element open at `position`; None if it has none.

    A <ref> left open ends at once: what follows up to the next one is prose.
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
def _tags_of(name):
    return re.compile(rf"<(/?){name}\b[^<>]*>", re.IGNORECASE)


# ------------------------------------------------------- variants and tables

_VARIANTS = re.compile(r"-\{([^{}]*)\}-")


def _choose_variants(text):
    """Takes the first of the scripts that -{…}- offers, as in Chinese."""
    return _VARIANTS.sub(_variant, text) if "-{" in text else text


def _variant(match):
    flags, bar, rules = match[1].rpartition("|")
    if bar and set(flags) & set("HTD-"):
        return ""
    first = rules.partition(";")[0]
    return first.rpartition(":")[2].strip()


_TABLE = re.compile(r"^[ \t:*#]*(?:(\{\|)|(\|\}))", re.MULTILINE)
# What is left of tables that do not begin or do not end.
_TABLE_LINE = re.compile(r"^[^\S\n]*(?:\|[-}+|]?|\{\||!.*!!).*$", re.MULTILINE)


def _cut_tables(text):
    parts, position, starts = [], 0, []
    for mark in _TABLE.finditer(text):
        if mark[1]:
            starts.append(mark.start())
        elif starts:
            start = starts.pop()
            if not starts:
                parts.append(text[position:start])
                position = mark.end()
    return _TABLE_LINE.sub("", "\n".join([*parts, text[position:]]))


# -------------------------------------------------------------------- links

_BRACKETS = re.compile(r"\[\[|\]\]")
_LINK = re.compile(r"\[\[([^\[\]{}|<>\n]+)(?:\|([^\[\]{}]*))?\]\]")
# Links to the same article in other languages stand beside the text; those
# with a colon before the code stand in it.
_LANGUAGE = re.compile(
    r"(?!wp|wt|doi|rfc|iso)(?:[a-z]{2,3}|simple|tokipona|"
    r"[a-z]{2,4}(?:-[a-z]{2,9}){1,2})\Z"
)
_SISTER_PREFIX = re.compile(
    r"\s*:?\s*(?:(?:wikt|wiktionary|w|wikipedia|s|wikisource|q|wikiquote|b|"
    r"wikibooks|n|wikinews|v|wikiversity|voy|wikivoyage|commons|c|d|wikidata|"
    r"species|wikispecies|m|meta|wp|file|image|category|portal|help|template|"
    r"special|[a-z]{2,3})\s*:)*\s*#?",
    re.IGNORECASE,
)


def _cut_unseen_links(text, syntax):
    """Cuts out images, with the links in their captions, and categories."""
    parts, position = [], 0
    for link in syntax.unseen_link.finditer(text):
        if link.start() < position:
            continue
        parts.append(text[position : link.start()])
        position = _end_of_link(text, link.end())
    return "".join([*parts, text[position:]])


def _end_of_link(text, position):
    line_end = text.find("\n", position)
    line_end = len(text) if line_end < 0 else line_end
    depth = 1
    for bracket in _BRACKETS.finditer(text, position):
        depth += 1 if bracket[0] == "[[" else -1
        if not depth:
            return bracket.end()
        # A caption holds a few links; more of them are a link left open.
        if depth > 10:
            break
    return line_end


def _open_links(text, syntax):
    """Puts their labels in the place of links without links in them."""

    def label(link):
        target, shown = link[1], link[2]
        if ":" in target and target[0] != ":":
            prefix = target.partition(":")[0].strip()
            if prefix.lower() in syntax.unseen_prefixes or _LANGUAGE.match(
                prefix
            ):
                return ""
        if shown:
            return shown
        if ":" in target or target[0] == "#":
            return target[_SISTER_PREFIX.match(target).end() :]
        return target

    return _LINK.sub(label, text)


# --------------------------------------------------------------------- tags

_SUP = re.compile(r"<sup>\s*([-+−]?\d{1,4}[-+−]?)\s*</sup\s*>", re.IGNORECASE)
_BREAK = re.compile(
    r"</?(?:br|hr|p|div|li|ul|ol|dl|dt|dd|center|blockquote|"
    r"poem|h[1-6])\b[^<>]*/?>|</br\s*>",
    re.IGNORECASE,
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


def _open_tags(text):
    """Takes the tags away and leaves what they enclose."""
    if "<" not in text:
        return text
    text = _SUP.sub(
        lambda match: wikitext_templates.superscript(match[1]), text
    )
    text = _CODE_BLOCK.sub("", text)
    return _INLINE_TAG.sub("", _BREAK.sub("\n", text))


# -------------------------------------------------------------------- lines

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


def _open_line(line):
    """Takes the markup of one line away."""
    if line[:1] in _LIST_MARKS:
        line = line.lstrip(_LIST_MARKS)
    if _NEEDS_PARSER.search(line):
        line = _parse(line)
    if "''" in line:
        line = _QUOTES.sub("", _keep_apostrophes(line))
    line = _MARKUP.sub("", line)
    return line if _WORD.search(line) else ""


def _parse(line):
    if line.count("[") > _MAX_OPEN_BRACKETS:
        raise UnparsableError(
            f"{line.count('[')} brackets in a line of {len(line)} characters"
        )
    try:
        # Quotes are read below, as MediaWiki does it: line by line.
        code = mwparserfromhell.parse(line, skip_style_tags=True)
    except ParserError as error:
        raise UnparsableError(str(error)) from error
    for link in code.ifilter_external_links(recursive=False):
        if link.brackets and link.title is None:
            code.remove(link)
    return code.strip_code(normalize=False, collapse=False)


def _keep_apostrophes(line):
    """Tells apostrophes beside quotes: ''Titanic'''s is Titanic's.

    Of four quotes one is an apostrophe, of more than five all but five; and
    if neither bold nor italics are closed, one of three is.
    """
    runs = list(_QUOTES.finditer(line))
    lengths = [len(run[0]) for run in runs]
    styles = [2 if n == 2 else 3 if n in (3, 4) else 5 for n in lengths]
    num_bold = sum(style != 2 for style in styles)
    num_italic = sum(style != 3 for style in styles)
    if num_bold % 2 and num_italic % 2 and 3 in styles:
        # Best after a word of one letter (l'''amour''), as in doQuotes.
        candidates = [i for i, n in enumerate(lengths) if n == 3]
        if candidates:

            def preference(i):
                before = line[max(0, runs[i].start() - 2) : runs[i].start()]
                if before[-1:].isspace() or not before:
                    return 2
                return 0 if len(before) < 2 or before[0].isspace() else 1

            styles[min(candidates, key=preference)] = 2
    parts, position = [], 0
    for run, length, style in zip(runs, lengths, styles, strict=True):
        parts += [line[position : run.start()], "'" * (length - style)]
        # A mark keeps the apostrophe from the quotes that are taken away.
        parts.append("''" if not length - style else "")
        position = run.end()
    return "".join([*parts, line[position:]])


# --------------------------------------------------------------------- tidy

# What templates and references leave: brackets without content, punctuation
# that divides nothing.
_OPENING = re.compile(r"\((?:[^\S\n]|[,;:](?=[\s,;:]))+")
_BEFORE_CLOSING = " \t\xa0,;:"
_REPEATED = re.compile(r"([,;])(?:[^\S\n]*[,;])+(?=\s)")
_BEFORE_STOP = re.compile(r"[^\S\n]+([,.;])(?=\s|$)")


def _tidy(text):
    text = _OPENING.sub("(", text)
    # Stripping pieces takes a tenth of a pattern's time.
    *pieces, last = text.split(")")
    text = ")".join(
        [*(piece.rstrip(_BEFORE_CLOSING) for piece in pieces), last]
    )
    text = text.replace(" ()", "").replace(" []", "")
    text = _REPEATED.sub(r"\1", text)
    return _BEFORE_STOP.sub(r"\1", text)
