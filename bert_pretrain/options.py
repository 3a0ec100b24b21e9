"""Options: a config dataclass <-> absl flags.

A config is a frozen dataclass, a subclass of `Options`. Each of its fields is
declared with `option` and becomes a flag of the same name. The bounds that are
declared with an option are checked when the config is made. A config may hold
other configs; their fields become flags of the same, flat command line.
"""

import dataclasses
import math
import operator
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from absl import app, flags

from bert_pretrain import errors, help_page

# Not the slashes of "/" or "gs://".
_LAST_SLASHES = re.compile(r"(?<=[^:/])/+$")
_INTERRUPTED = 130  # as shells report it: 128 + the signal's number
# How people ask for help; absl's own pages sort by the alphabet.
_HELP = {"--help", "-help", "-h", "--helpfull", "--helpshort", "-?"}
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


def run(main: Callable[[Any], int | None], config_class: type) -> None:
    """Runs `main(config)` with the config that the command line gives.

    What `main` returns is the exit code. A wrong flag or a `UserError` ends
    the program with one line on standard error and exit code 2.
    """
    define_flags(config_class)

    def parse(argv: list[str]) -> list[str]:
        if not _HELP.isdisjoint(argv[1:]):
            description = sys.modules["__main__"].__doc__ or argv[0]
            print(help_page.render(description, config_class), end="")
            sys.exit(0)
        try:
            return _parse(argv, config_class)
        except flags.Error as error:
            sys.exit(_complain(f"{error} (--help lists the options)"))

    def guarded(argv: list[str]) -> int | None:
        try:
            for argument in argv[1:]:
                if not argument.startswith("--"):
                    raise errors.UserError(
                        f"unknown argument {argument!r}: options are written "
                        "--name=value; --help lists them."
                    )
            _refuse_missing(config_class, flags.FLAGS)
            return main(from_flags(config_class, tuple(argv[1:])))
        except errors.UserError as error:
            sys.exit(_complain(error))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(_INTERRUPTED)

    app.run(guarded, flags_parser=parse)


def _parse(argv: list[str], config_class: type) -> list[str]:
    """Parses the flags; returns the program and the flags left unparsed."""
    left = flags.FLAGS(argv, known_only=True)
    for field, _ in _fields(config_class):
        if condition := field.metadata.get("takes_unknown_if"):
            flag, value = condition
            if flags.FLAGS[flag].value == value:
                return left
    # Parsed again only for its error message: flags that may be repeated
    # would be doubled.
    return flags.FLAGS(argv) if left[1:] else left


def _refuse_missing(config_class: type, values: flags.FlagValues) -> None:
    missing = [
        f"--{field.name}"
        for field, _, default in _options_in(config_class)
        if default is dataclasses.MISSING and values[field.name].value is None
    ]
    if missing:
        raise errors.UserError(
            f"{' and '.join(missing)} must be given; --help lists the options."
        )


def _complain(error: object) -> int:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return errors.EXIT_CODE


def parse(config_class: type, arguments: Sequence[str]) -> Any:
    """The config that a command line gives, for notebooks and tests.

    Args:
      arguments: as on the command line, such as "--flagfile=recipe.flags".

    Raises:
      UserError: if an argument is wrong.
    """
    values = flags.FlagValues()
    define_flags(config_class, flag_values=values)
    try:
        values(["", *arguments])
    except flags.Error as error:
        raise errors.UserError(str(error)) from error
    _refuse_missing(config_class, values)
    return from_flags(config_class, flag_values=values)


def define_flags(
    config_class: type, flag_values: flags.FlagValues = flags.FLAGS
) -> None:
    """Defines one flag for each option of `config_class`, nested ones too."""
    for field, kind, default in _options_in(config_class):
        _define_flag(field, kind, default, flag_values)


def _options_in(
    config_class: type,
    defaults: Mapping[str, Any] = types.MappingProxyType({}),
) -> Iterator[tuple[dataclasses.Field, Any, Any]]:
    """Yields (field, type, default) of each option, nested ones too.

    Args:
      defaults: see `nested`.
    """
    for field, kind in _fields(config_class):
        if _is_config(kind):
            given = defaults | field.metadata.get("defaults", {})
            yield from _options_in(kind, given)
        elif "takes_unknown_if" not in field.metadata:
            yield field, kind, defaults.get(field.name, field.default)


def tidy(name: str, value: Any) -> Any:
    """The value of an option; a folder's (`*_dir`) without slashes at its end.

    Names of files are appended to it, and gs://a//b is not gs://a/b.
    """
    if name.endswith("_dir") and value:
        return _LAST_SLASHES.sub("", value)
    return value


def from_flags(
    config_class: type,
    unknown: tuple[str, ...] = (),
    flag_values: flags.FlagValues = flags.FLAGS,
) -> Any:
    """Builds `config_class` from the values of the flags."""
    return config_class(
        **{
            field.name: from_flags(kind, flag_values=flag_values)
            if _is_config(kind)
            else unknown
            if "takes_unknown_if" in field.metadata
            else _from_flag(field.name, kind, flag_values)
            for field, kind in _fields(config_class)
        }
    )


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
    for field, kind in _fields(config_class):
        if field.name not in values:
            continue
        value = values[field.name]
        arguments[field.name] = (
            from_dict(kind, value)
            if _is_config(kind)
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
    for field, kind in _fields(config_class):
        if _is_config(kind):
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


def _fields(
    config_class: type,
) -> Iterator[tuple[dataclasses.Field, Any]]:
    kinds = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        yield field, kinds[field.name]


def _is_config(kind: Any) -> TypeGuard[type]:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _unwrap(kind: Any) -> tuple[Any, bool]:
    """Splits a field's type into (the type of one value, may it repeat?)."""
    if isinstance(kind, types.UnionType):  # `int | None`: a flag may be unset.
        (kind,) = (
            one for one in typing.get_args(kind) if one is not types.NoneType
        )
    if typing.get_origin(kind) is tuple:
        return typing.get_args(kind)[0], True
    return kind, False


_DEFINE: Mapping[tuple[Any, bool], Callable[..., Any]] = {
    (str, False): flags.DEFINE_string,
    (int, False): flags.DEFINE_integer,
    (float, False): flags.DEFINE_float,
    (bool, False): flags.DEFINE_bool,
    (str, True): flags.DEFINE_multi_string,
    (int, True): flags.DEFINE_multi_integer,
    (float, True): flags.DEFINE_multi_float,
}


def _define_flag(
    field: dataclasses.Field,
    kind: Any,
    default: Any,
    flag_values: flags.FlagValues,
) -> None:
    if default is dataclasses.MISSING:
        default = None
    if isinstance(default, tuple):
        default = list(default)
    help_text = field.metadata["help"]
    scalar, repeats = _unwrap(kind)
    if typing.get_origin(scalar) is typing.Literal:
        define = flags.DEFINE_multi_enum if repeats else flags.DEFINE_enum
        define(
            field.name,
            default,
            list(typing.get_args(scalar)),
            help_text,
            flag_values=flag_values,
        )
    else:
        _DEFINE[scalar, repeats](
            field.name, default, help_text, flag_values=flag_values
        )


def _from_flag(name: str, kind: Any, flag_values: flags.FlagValues) -> Any:
    value = flag_values[name].value
    if _unwrap(kind)[1]:
        return tuple(tidy(name, one) for one in value or ())
    return tidy(name, value)
