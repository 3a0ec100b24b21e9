"""Links between pages: their labels, and links that show no text."""

import dataclasses
import functools
import re


@dataclasses.dataclass(frozen=True)
class Syntax:
    """The part of the syntax that differs between wikis.

    Attributes:
      file_names: the wiki's own names of the namespaces of files, in lower
        case. The English names are always valid too.
      category_names: the same for categories.
    """

    file_names: tuple[str, ...] = ()
    category_names: tuple[str, ...] = ()

    @functools.cached_property
    def unseen_prefixes(self) -> frozenset[str]:
        """Prefixes of links that show no text where they are."""
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
    def unseen_link(self) -> re.Pattern[str]:
        """Matches the beginning of a link that shows no text."""
        names = "|".join(map(re.escape, sorted(self.unseen_prefixes)))
        return re.compile(rf"\[\[[ _]*(?:{names})[ _]*:", re.IGNORECASE)


_BRACKETS = re.compile(r"\[\[|\]\]")
_LINK = re.compile(r"\[\[([^\[\]{}|<>\n]+)(?:\|([^\[\]{}]*))?\]\]")
# Codes of languages. [[de:Lenn]] links to the same article in German and is not
# part of the text, but [[:de:Lenn]] is.
_LANGUAGE = re.compile(
    r"(?!wp|wt|doi|rfc|iso)(?:[a-z]{2,3}|simple|tokipona|"
    r"[a-z]{2,4}(?:-[a-z]{2,9}){1,2})\Z"
)
# Prefixes of links to other projects and namespaces; it may match nothing.
_SISTER_PREFIX = re.compile(
    r"\s*:?\s*(?:(?:wikt|wiktionary|w|wikipedia|s|wikisource|q|wikiquote|b|"
    r"wikibooks|n|wikinews|v|wikiversity|voy|wikivoyage|commons|c|d|wikidata|"
    r"species|wikispecies|m|meta|wp|file|image|category|portal|help|template|"
    r"special|[a-z]{2,3})\s*:)*\s*#?",
    re.IGNORECASE,
)


def cut_unseen_links(text: str, syntax: Syntax) -> str:
    """Cuts out categories, and images with the links in their captions."""
    kept: list[str] = []
    position = 0
    for link in syntax.unseen_link.finditer(text):
        if link.start() < position:
            continue
        kept.append(text[position : link.start()])
        position = _end_of_link(text, link.end())
    return "".join([*kept, text[position:]])


def _end_of_link(text: str, position: int) -> int:
    line_end = text.find("\n", position)
    line_end = len(text) if line_end < 0 else line_end
    depth = 1
    for bracket in _BRACKETS.finditer(text, position):
        depth += 1 if bracket[0] == "[[" else -1
        if not depth:
            return bracket.end()
        # Captions have few links. If there are more, the image's link has no
        # end, and only its line is cut out.
        if depth > 10:
            break
    return line_end


def replace_links(text: str, syntax: Syntax) -> str:
    """Replaces links by their labels, except links that contain links."""

    def label(link: re.Match[str]) -> str:
        target, shown = link[1], link[2]
        if ":" in target and target[0] != ":":
            prefix = target.partition(":")[0].strip()
            is_unseen = prefix.lower() in syntax.unseen_prefixes
            if is_unseen or _LANGUAGE.match(prefix):
                return ""
        if shown:
            return shown
        if ":" in target or target[0] == "#":
            return _SISTER_PREFIX.sub("", target, count=1)
        return target

    return _LINK.sub(label, text)
