"""Options: what a config is, and its plain form.

A config is a frozen dataclass, a subclass of `Options`. Each of its fields is
declared with `option` and becomes a flag (command_line.py). The bounds that are
declared with an option are checked when the config is made. A config may hold
other configs; their fields become flags of the same, flat command line.
"""

import dataclasses
import math
import operator
import os
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from bert_pretrain import errors

# Not the slashes of "/" or "gs://".
_LAST_SLASHES = re.compile(r"(?<=[^:/])/+$")
_COMPARE = {
    "at_least": operator.ge,
    "above": operator.gt,
    "at_most": operator.le,
    "below": operator.lt,
}


@dataclasses.dataclass(frozen=True)
class Bounds:
    """The bounds of a number; None is no bound."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def complaint(self, value: float) -> str | None:
        """What is wrong with the value, or None if nothing is."""
        if isinstance(value, float) and not math.isfinite(value):
            return "must be a finite number"
        limits = self._limits()
        if all(_COMPARE[name](value, limit) for name, limit in limits.items()):
            return None
        if limits == {"at_least": 0}:
            return "must not be negative"
        if limits == {"above": 0}:
            return "must be positive"
        return f"must be {self.in_words()}"

    def in_words(self) -> str:
        """The bounds for a help page; empty if there are none."""
        return " and ".join(
            f"{name.replace('_', ' ')} {limit}"
            for name, limit in self._limits().items()
        )

    def _limits(self) -> dict[str, float]:
        return {k: v for k, v in vars(self).items() if v is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The base of every config.

    A config that checks its options against one another has a `__post_init__`
    of its own, which calls this one first.

    Raises:
      UserError: if the value of an option is out of its bounds, or is not a
        finite number.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            bounds = field.metadata.get("bounds", Bounds())
            value = getattr(self, field.name)
            for single in value if isinstance(value, tuple) else (value,):
                if not isinstance(single, int | float):
                    continue
                if complaint := bounds.complaint(single):
                    usual = field.metadata.get("usual", "")
                    raise errors.UserError(
                        f"--{field.name}={single} {complaint}"
                        + (f"; {usual}." if usual else ".")
                    )


def option(  # noqa: PLR0913 (one keyword for each bound)
    help_text: str,
    default: Any = dataclasses.MISSING,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    usual: str = "",
    changes_result: bool = True,
) -> Any:
    """Declares a field of a config; without a default, the flag is required.

    Args:
      at_least, above, at_most, below: the bounds of a number, or of each
        number of several.
      usual: a remedy for a value that is out of bounds, in words.
      changes_result: whether the result depends on it, and not only the place,
        the time or the machine; see `changes`.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "help": help_text,
            "bounds": Bounds(at_least, above, at_most, below),
            "usual": usual,
            "changes_result": changes_result,
        },
    )


def nested(**defaults: Any) -> Any:
    """Declares a field that holds another config.

    Args:
      defaults: for options of that config, or of the configs in it, that are
        required elsewhere but not here.
    """
    return dataclasses.field(metadata={"defaults": defaults})


def unknown_flags(flag: str, value: str) -> Any:
    """Declares a field that collects unknown flags as they were written.

    Unknown flags are errors unless the option `flag` has this `value`.
    """
    return dataclasses.field(
        default=(), metadata={"takes_unknown_if": (flag, value)}
    )


def tidy(name: str, value: Any) -> Any:
    """The value of an option, with paths as the program needs them.

    A folder (`*_dir`) has no slashes at its end, because names of files are
    appended to it, and gs://a//b is not gs://a/b. A shell does not replace the
    ~ of --model_dir=~/run, so it is replaced here.
    """
    if isinstance(value, str) and (value == "~" or value.startswith("~/")):
        value = os.path.expanduser(value)
    if name.endswith("_dir") and value:
        return _LAST_SLASHES.sub("", value)
    return value


def to_dict(config: Any) -> dict[str, Any]:
    """The config as plain values for JSON; configs in it are nested."""
    return {
        field.name: to_dict(value)
        if dataclasses.is_dataclass(value)
        else _plain(value)
        for field in dataclasses.fields(config)
        for value in [getattr(config, field.name)]
    }


def from_dict(config_class: type, values: Mapping[str, Any]) -> Any:
    """The inverse of `to_dict`; a missing option gets its default."""
    arguments = {}
    for field, kind in fields(config_class):
        if field.name not in values:
            continue
        value = values[field.name]
        arguments[field.name] = (
            from_dict(kind, value)
            if is_config(kind)
            else tuple(value)
            if isinstance(value, list)
            else value
        )
    return config_class(**arguments)


def changes(
    config_class: type, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Yields the options that change the result: name, old and new value.

    Args:
      before, after: from `to_dict`. A missing option has its default: it did
        not exist yet.
    """
    for field, kind in fields(config_class):
        if is_config(kind):
            yield from changes(
                kind, before.get(field.name, {}), after.get(field.name, {})
            )
        elif field.metadata.get("changes_result", True):
            default = (
                None
                if field.default is dataclasses.MISSING
                else _plain(field.default)
            )
            old, new = (
                values.get(field.name, default) for values in (before, after)
            )
            if old != new:
                yield field.name, old, new


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def fields(
    config_class: type,
) -> Iterator[tuple[dataclasses.Field, Any]]:
    """Yields the fields of a config with their types."""
    kinds = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        yield field, kinds[field.name]


def is_config(kind: Any) -> TypeGuard[type]:
    """Whether a field of this type holds another config."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def unwrap(kind: Any) -> tuple[Any, bool]:
    """Splits a field's type into (the type of one value, may it repeat?)."""
    if isinstance(kind, types.UnionType):  # `int | None`: a flag may be unset.
        (kind,) = (
            one for one in typing.get_args(kind) if one is not types.NoneType
        )
    if typing.get_origin(kind) is tuple:
        return typing.get_args(kind)[0], True
    return kind, False
