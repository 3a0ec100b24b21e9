"""Expands the templates of wikitext that contain prose, and cuts out others."""

import re

from tfrecord_builders.wikitext import expansions

_BRACES = re.compile(r"\{{2,}|\}{2,}")
_ARGUMENT_BAR = re.compile(r"\|(?![^\[\]]*\]\])")
_NAMED = re.compile(r"\s*([\w -]+?)\s*=")


# Parser functions that give their first argument: {{lc:Text}}.
_FUNCTIONS = ("formatnum", "lc", "uc", "ucfirst", "lcfirst", "nowrap")


def expand(text: str) -> str:
    """Replaces each {{template}} by its text, which is empty for most of them.

    Braces are matched as MediaWiki does it: the innermost first, and three
    braces before two. Braces that are not closed are text.
    """
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
            expanded = "" if num_closed == 3 else _expand_one("".join(pieces))
            count -= num_closed
            if num_open - num_closed >= 2:
                stack.append((num_open - num_closed, [expanded]))
            else:
                stack[-1][1].append(expanded)
        stack[-1][1].append("}" * count)
    stack[-1][1].append(text[position:])
    whole = "".join(
        "{" * num_open + "".join(pieces) for num_open, pieces in stack
    )
    return whole.replace(expansions.BAR, "|")


def _expand_one(content: str) -> str:
    """Expands one template.

    Args:
      content: the text between its braces.
    """
    name = content.partition("|")[0].strip().lower().replace("_", " ")
    expansion = expansions.BY_NAME.get(name)
    if isinstance(expansion, str):
        return expansion
    if expansion is None:
        head, colon, rest = name.partition(":")
        if colon and head in _FUNCTIONS:
            return content.partition(":")[2].partition("|")[0]
        if not name.startswith("lang-"):
            return ""
        expansion = expansions.first
    positional, named = _arguments(content)
    return expansion(positional, named)


def _arguments(content: str) -> tuple[list[str], dict[str, str]]:
    """Returns the positional and the named arguments of a template."""
    positional: list[str] = []
    named: dict[str, str] = {}
    for argument in _ARGUMENT_BAR.split(content)[1:]:
        match = _NAMED.match(argument)
        if not match:
            positional.append(argument.strip())
        elif match[1].isdecimal():
            positional.append(argument[match.end() :].strip())
        else:
            named[match[1].lower()] = argument[match.end() :].strip()
    return positional, named
