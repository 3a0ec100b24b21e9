"""Expands the templates of wikitext that contain prose, and cuts out others."""

import dataclasses
import functools
import re
from collections.abc import Mapping

from tfrecord_builders.wikitext import expansions, guesses, links

# Seven times as fast as with {2,}.
_BRACES = re.compile(r"\{\{+|\}\}+")
_ARGUMENT_BAR = re.compile(r"\|(?![^\[\]]*\]\])")
_NAMED = re.compile(r"\s*([\w -]+?)\s*=")
# The first lines of a template that has no end: its name and its arguments.
_UNCLOSED = re.compile(r"[^\n|{}]*(?:\n[^\S\n]*\|[^\n]*)+")
# Parser functions that give their first argument: {{lc:Text}}.
_FUNCTIONS = ("formatnum", "lc", "uc", "ucfirst", "lcfirst", "nowrap")
_LATIN = re.compile(r"[A-Za-zÀ-ɏ]")
_OTHER_LETTER = re.compile(r"[^\W\d_A-Za-zÀ-ɏ]")


@dataclasses.dataclass(frozen=True)
class Wiki:
    """What the templates of a wiki depend on.

    Attributes:
      language: its code, for example "de".
      namespace: the wiki's own name of the namespace of templates. Those of
        its language and the English one are always valid too.
      redirects: for other names of templates: the name of the template that
        they stand for. Names are as `links.plain_name` returns them.
    """

    language: str = ""
    namespace: str = ""
    redirects: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def namespaces(self) -> frozenset[str]:
        """Plain names of the namespace of templates."""
        names = links.namespaces(self.language, "template")
        own = links.plain_name(self.namespace)
        return names | {own} if own else names


_ANY_WIKI = Wiki()


def expand(text: str, wiki: Wiki = _ANY_WIKI, title: str = "") -> str:
    """Replaces each {{template}} by its text, which is empty for most of them.

    Braces are matched as MediaWiki does it: the innermost first, and three
    braces before two. Braces that are not closed are text.

    Args:
      title: the title of the page, which {{PAGENAME}} shows.
    """
    page = _Page(wiki, title, text)
    # The groups of open braces, outermost first: (number of braces, pieces of
    # the text after them). The first one is the text outside of templates.
    stack: list[tuple[int, list[str]]] = [(0, [])]
    position = 0
    for braces in _BRACES.finditer(text):
        stack[-1][1].append(text[position : braces.start()])
        position = braces.end()
        count = len(braces[0])
        if braces[0][0] == "{":
            stack.append((count, []))
            continue
        while count >= 2 and len(stack) > 1:
            num_open, pieces = stack.pop()
            num_closed = min(num_open, count, 3)
            # Three braces are a parameter of a template, which has no value.
            content = "".join(pieces)
            expanded = "" if num_closed == 3 else page.expand(content)
            expanded = expanded or guesses.nothing_of(content)
            count -= num_closed
            if num_open - num_closed >= 2:
                stack.append((num_open - num_closed, [expanded]))
            else:
                stack[-1][1].append(expanded)
        stack[-1][1].append("}" * count)
    stack[-1][1].append(text[position:])
    whole = "".join(
        "{" * num_open + _without_arguments("".join(pieces), num_open)
        for num_open, pieces in stack
    )
    whole = guesses.keep_inside_sentences(whole)
    whole = _BLOCK.sub(_place_block, whole)
    return whole.replace(expansions.BAR, "|")


_BLOCK = re.compile(
    f"{expansions.BLOCK_START}(.*?){expansions.BLOCK_END}", re.DOTALL
)


def _place_block(block: re.Match[str]) -> str:
    """Puts a quotation on a line of its own, or into its sentence."""
    text, end = block.string, block.end()
    before = text[max(0, block.start() - 1) : block.start()]
    following = text[end : end + 2].lstrip(" ")[:1]
    goes_on = following.islower() or following in tuple(",.;)»")
    is_inside = goes_on and before not in ("", "\n")
    return block[1] if is_inside else f"\n{block[1]}\n"


def _without_arguments(text: str, num_open: int) -> str:
    """Cuts the arguments of an infobox that is never closed."""
    return _UNCLOSED.sub("", text, count=1) if num_open else text


class _Page:
    """Expands the templates of one page."""

    def __init__(self, wiki: Wiki, title: str, text: str) -> None:
        self._wiki, self._title, self._text = wiki, title, text
        self._table = expansions.of_language(wiki.language)

    def expand(self, content: str) -> str:
        """Expands one template.

        Args:
          content: the text between its braces.
        """
        name = content.partition("|")[0].strip()
        key = links.plain_name(name)
        expansion = self._table.find(key)
        if expansion is None:
            head, colon, _ = key.partition(":")
            if colon:
                return self._expand_prefixed(head.strip(), content)
            expansion = self._table.find(self._wiki.redirects.get(key, ""))
        if expansion is None:
            return self._guess(name, content)
        if expansion == expansions.TITLE:
            return self._title
        if isinstance(expansion, str):
            return expansion
        return expansion(*_arguments(content))

    def _expand_prefixed(self, head: str, content: str) -> str:
        rest = content.partition(":")[2]
        if head in _FUNCTIONS:
            return rest.partition("|")[0].strip()
        if head in self._wiki.namespaces:
            return self.expand(rest)
        return ""  # Magic words, and functions such as #if.

    def _guess(self, name: str, content: str) -> str:
        if guesses.has_many_parameters(content):
            return ""
        positional, named = _arguments(content)
        return guesses.guess(
            name,
            positional,
            named,
            language=self._wiki.language,
            is_latin=self._is_latin,
        )

    @functools.cached_property
    def _is_latin(self) -> bool:
        # Names in templates and links are in Latin letters in every language.
        beginning = self._text[:5000]
        num_latin = len(_LATIN.findall(beginning))
        return 4 * len(_OTHER_LETTER.findall(beginning)) < num_latin


def _arguments(content: str) -> tuple[list[str], dict[str, str]]:
    """Returns the positional and the named arguments of a template."""
    positional: list[str] = []
    named: dict[str, str] = {}
    for argument in _ARGUMENT_BAR.split(guesses.unmark(content))[1:]:
        match = _NAMED.match(argument)
        if not match:
            positional.append(argument.strip())
        elif match[1].isdecimal():
            positional.append(argument[match.end() :].strip())
        else:
            named[match[1].lower()] = argument[match.end() :].strip()
    return positional, named
