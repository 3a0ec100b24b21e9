"""Links between pages: their labels, and links that show no text."""

import dataclasses
import functools
import re
import unicodedata

from tfrecord_builders import wiki_languages


@dataclasses.dataclass(frozen=True)
class Syntax:
    """The part of the syntax that differs between wikis.

    Attributes:
      file_names: the wiki's own names of the namespaces of files. Those of its
        language and the English ones (`languages/namespaces.yaml`) are always
        valid too.
      category_names: the same for categories.
      language: code of its language; empty if it is not known.
    """

    file_names: tuple[str, ...] = ()
    category_names: tuple[str, ...] = ()
    language: str = ""

    @functools.cached_property
    def unseen_prefixes(self) -> frozenset[str]:
        """Prefixes of links that show no text where they are."""
        own = map(plain_name, (*self.file_names, *self.category_names))
        kinds = ("file", "media", "category")
        return namespaces(self.language, *kinds) | frozenset(own)


@functools.cache
def namespaces(language: str, *kinds: str) -> frozenset[str]:
    """Returns the plain names that namespaces have in wikis of a language.

    Args:
      language: its code; empty for the names in all languages.
      kinds: "file", "media", "category" or "template".
    """
    return frozenset(
        plain_name(name)
        for entry in wiki_languages.entries("namespaces", language)
        for kind in kinds
        for name in entry.get(kind, ())
    )


# Marks of the direction of writing. MediaWiki ignores them in titles.
_DIRECTIONS = re.compile("[\u200e\u200f\u202a-\u202e]")


@functools.lru_cache(1 << 16)
def plain_name(name: str) -> str:
    """Returns a form of a name that is the same for all its spellings."""
    name = _DIRECTIONS.sub("", name).replace("_", " ").lower()
    return unicodedata.normalize("NFC", " ".join(name.split()))


_PREFIX = re.compile(r"\[\[[ _\u200e\u200f]*([^\[\]{}|<>\n:]+):")
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
    unseen = syntax.unseen_prefixes
    for link in _PREFIX.finditer(text):
        if link.start() < position or plain_name(link[1]) not in unseen:
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

    unseen = syntax.unseen_prefixes

    def label(link: re.Match[str]) -> str:
        target, shown = link[1], link[2]
        if ":" in target and target[0] != ":":
            prefix = target.partition(":")[0].strip()
            if plain_name(prefix) in unseen or _LANGUAGE.match(prefix):
                return ""
        if shown:
            return shown
        if ":" in target or target[0] == "#":
            target = _SISTER_PREFIX.sub("", target, count=1)
            prefix, _, name = target.partition(":")
            return name if plain_name(prefix) in unseen else target
        return target

    return _LINK.sub(label, text)
