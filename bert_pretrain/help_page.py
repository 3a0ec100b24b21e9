"""The page that `--help` prints: the options of a config, grouped by topic.

A topic is a config class, and its title the first line of its docstring.
"""

import dataclasses
import shutil
import textwrap
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from bert_pretrain import options

_MAX_WIDTH = 100
_PLACEHOLDERS = {int: "N", float: "X", str: "TEXT"}
_FOOTER = """\
--flagfile=FILE reads options from a file, one a line. Options of TensorFlow
and absl, such as --verbosity, are there too."""


def render(
    description: str, config_class: type, width: int | None = None
) -> str:
    """The page.

    Args:
      description: of the program, its usage included.
      width: in characters; that of the terminal if not given.
    """
    width = min(width or shutil.get_terminal_size().columns, _MAX_WIDTH)
    blocks = [description.strip()]
    for title, described in _topics(config_class, {}):
        lines = [title]
        for field, kind, default in described:
            lines += _describe(field, kind, default, width)
        blocks.append("\n".join(lines))
    blocks.append(_FOOTER)
    return "\n\n".join(blocks) + "\n"


def _topics(
    config_class: type, defaults: Mapping[str, Any]
) -> Iterator[tuple[str, list[tuple[dataclasses.Field, Any, Any]]]]:
    """Yields (title, its options): first those of the config itself."""
    own, nested = [], []
    for field, kind in options.fields(config_class):
        if options.is_config(kind):
            given = {**defaults, **field.metadata.get("defaults", {})}
            nested.append((kind, given))
        elif "help" in field.metadata:
            default = defaults.get(field.name, field.default)
            own.append((field, kind, default))
    if own:
        yield _title(config_class), own
    for kind, given in nested:
        yield from _topics(kind, given)


def _title(config_class: type) -> str:
    (title, *_) = (config_class.__doc__ or "").strip().splitlines() or [""]
    # A dataclass without a docstring gets its signature as one.
    if not title or title.startswith(f"{config_class.__name__}("):
        return config_class.__name__
    return title.rstrip(".")


def _describe(
    field: dataclasses.Field, kind: Any, default: Any, width: int
) -> Iterator[str]:
    """Yields the lines of one option."""
    facts = []
    if default is dataclasses.MISSING:
        facts.append("required")
    elif default not in (None, "", ()):
        facts.append(f"default {_plain(default)}")
    if limits := field.metadata["bounds"].in_words():
        facts.append(limits)
    if options.unwrap(kind)[1]:
        facts.append("may be repeated")
    told = f"  ({'; '.join(facts)})" if facts else ""
    yield f"  {_usage(field.name, kind)}{told}"
    yield from textwrap.wrap(
        field.metadata["help"],
        width,
        initial_indent=" " * 6,
        subsequent_indent=" " * 6,
    )


def _usage(name: str, kind: Any) -> str:
    scalar, _ = options.unwrap(kind)
    if scalar is bool:
        return f"--[no]{name}"
    if typing.get_origin(scalar) is typing.Literal:
        return f"--{name}={'|'.join(map(str, typing.get_args(scalar)))}"
    if name.endswith("_dir"):
        return f"--{name}=FOLDER"
    if name.endswith("_file"):
        return f"--{name}=FILE"
    return f"--{name}={_PLACEHOLDERS[scalar]}"


def _plain(default: Any) -> str:
    if isinstance(default, tuple):
        return ", ".join(map(str, default))
    if isinstance(default, bool):
        return "yes" if default else "no"
    return str(default)
