"""A config dataclass <-> absl flags.

A config is a frozen dataclass, an `Options`, that lies beside what it
configures. Each of its fields is declared with `option` and becomes one flag of
the same name; the bounds that are declared with it are checked when the config
is made. A config may hold other configs; their fields become flags of the same,
flat, command line.
"""

import dataclasses
import math
import operator
import re
import sys
import types
import typing

from absl import app, flags

from bert_pretrain import errors

# But of no "/" or "gs://".
_LAST_SLASHES = re.compile(r"(?<=[^:/])/+$")
_INTERRUPTED = 130  # as shells say it: 128 and the number of the signal
_COMPARE = {
    "at_least": operator.ge,
    "above": operator.gt,
    "at_most": operator.le,
    "below": operator.lt,
}


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What a number may be; None stands for no bound."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def complaint(self, value: float) -> str | None:
        """What is wrong with the value, or None if nothing is."""
        if isinstance(value, float) and not math.isfinite(value):
            return "must be a finite number"
        limits = {k: v for k, v in vars(self).items() if v is not None}
        if all(_COMPARE[name](value, limit) for name, limit in limits.items()):
            return None
        if limits == {"at_least": 0}:
            return "must not be negative"
        if limits == {"above": 0}:
            return "must be positive"
        return "must be " + " and ".join(
            f"{name.replace('_', ' ')} {limit}"
            for name, limit in limits.items()
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The base of every config.

    One that relates its options to one another does so in a `__post_init__` of
    its own, which calls this one first.

    Raises:
      UserError: if the value of an option is out of its bounds, or is no
        finite number.
    """

    def __post_init__(self):
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
    help_text,
    default=dataclasses.MISSING,
    *,
    at_least=None,
    above=None,
    at_most=None,
    below=None,
    usual="",
    changes_result=True,
):
    """Declares a config field; one without a default is a required flag.

    Args:
      at_least, above, at_most, below: the bounds of a number, or of each of
        several.
      usual: a value to try instead of one that is out of bounds, in words.
      changes_result: whether what is made depends on it, and not only where,
        when and on what it is made: see `changes`.
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


def part(**defaults):
    """Declares a field that holds another config.

    Args:
      defaults: of options of that config, or of its parts, which ask for a
        value elsewhere but need none here.
    """
    return dataclasses.field(metadata={"defaults": defaults})


def unknown_flags(flag, value):
    """Declares a field that takes the flags nobody knows, as they stand.

    They are errors unless the option `flag` has this `value`.
    """
    return dataclasses.field(
        default=(), metadata={"takes_unknown_if": (flag, value)}
    )


def run(main, config_class):
    """Runs `main(config)` with the config that the command line gives.

    A wrong flag or a `UserError` ends the program with one line on standard
    error and exit code 2.
    """
    define_flags(config_class)

    def parse(argv):
        try:
            return _parse(argv, config_class)
        except flags.Error as error:
            sys.exit(_complain(f"{error} (--help lists the options)"))

    def guarded(argv):
        try:
            for argument in argv[1:]:
                if not argument.startswith("--"):
                    raise errors.UserError(
                        f"unknown argument {argument!r}: options are written "
                        "--name=value; --help lists them."
                    )
            return main(from_flags(config_class, tuple(argv[1:])))
        except errors.UserError as error:
            sys.exit(_complain(error))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(_INTERRUPTED)

    app.run(guarded, flags_parser=parse)


def _parse(argv, config_class):
    """Parses the flags; returns the program and what is left to the config."""
    left = flags.FLAGS(argv, known_only=True)
    for field, _ in _fields(config_class):
        if condition := field.metadata.get("takes_unknown_if"):
            flag, value = condition
            if flags.FLAGS[flag].value == value:
                return left
    # Only to say what is wrong: flags that repeat would be doubled.
    return flags.FLAGS(argv) if left[1:] else left


def _complain(error):
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return errors.EXIT_CODE


def define_flags(config_class, defaults=types.MappingProxyType({})):
    """Defines one flag for each option of `config_class` and its parts.

    Args:
      defaults: see `part`.
    """
    for field, kind in _fields(config_class):
        if dataclasses.is_dataclass(kind):
            define_flags(kind, defaults | field.metadata.get("defaults", {}))
        elif "takes_unknown_if" not in field.metadata:
            _define_flag(field, kind, defaults.get(field.name, field.default))


def tidy(name, value):
    """A value as it is used: of a folder (`*_dir`) without slashes behind it,
    since files are named in it, and gs://a//b is not gs://a/b."""
    if name.endswith("_dir") and value:
        return _LAST_SLASHES.sub("", value)
    return value


def from_flags(config_class, unknown=()):
    """Builds `config_class` from the values of the flags."""
    return config_class(
        **{
            field.name: from_flags(kind)
            if dataclasses.is_dataclass(kind)
            else unknown
            if "takes_unknown_if" in field.metadata
            else _from_flag(field.name, kind)
            for field, kind in _fields(config_class)
        }
    )


def to_dict(config):
    """The config as plain values that JSON holds, its parts nested."""
    return {
        field.name: to_dict(value)
        if dataclasses.is_dataclass(value)
        else _plain(value)
        for field in dataclasses.fields(config)
        for value in [getattr(config, field.name)]
    }


def from_dict(config_class, values):
    """The inverse of `to_dict`; an option that is missing gets its default."""
    arguments = {}
    for field, kind in _fields(config_class):
        if field.name not in values:
            continue
        value = values[field.name]
        arguments[field.name] = (
            from_dict(kind, value)
            if dataclasses.is_dataclass(kind)
            else tuple(value)
            if isinstance(value, list)
            else value
        )
    return config_class(**arguments)


def changes(config_class, before, after):
    """What would change the result: (name, value before, value after) each.

    Args:
      before, after: as `to_dict` makes them; an option that is missing has
        its default, since it came later.
    """
    for field, kind in _fields(config_class):
        if dataclasses.is_dataclass(kind):
            parts = [values.get(field.name, {}) for values in (before, after)]
            yield from changes(kind, *parts)
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


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def _fields(config_class):
    kinds = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        yield field, kinds[field.name]


def _unwrap(kind):
    """Splits a field's type into (the type of one value, may it repeat)."""
    if isinstance(kind, types.UnionType):  # `int | None`: a flag may be unset.
        (kind,) = (
            part for part in typing.get_args(kind) if part is not types.NoneType
        )
    if typing.get_origin(kind) is tuple:
        return typing.get_args(kind)[0], True
    return kind, False


_DEFINE = {
    (str, False): flags.DEFINE_string,
    (int, False): flags.DEFINE_integer,
    (float, False): flags.DEFINE_float,
    (bool, False): flags.DEFINE_bool,
    (str, True): flags.DEFINE_multi_string,
    (int, True): flags.DEFINE_multi_integer,
    (float, True): flags.DEFINE_multi_float,
}


def _define_flag(field, kind, default):
    required = default is dataclasses.MISSING
    if required:
        default = None
    if isinstance(default, tuple):
        default = list(default)
    # Flags belong to the program, so that --help shows them.
    common = {"required": required, "module_name": sys.argv[0]}
    help_text = field.metadata["help"]
    scalar, repeats = _unwrap(kind)
    if typing.get_origin(scalar) is typing.Literal:
        define = flags.DEFINE_multi_enum if repeats else flags.DEFINE_enum
        define(
            field.name,
            default,
            list(typing.get_args(scalar)),
            help_text,
            **common,
        )
    else:
        _DEFINE[scalar, repeats](field.name, default, help_text, **common)


def _from_flag(name, kind):
    value = flags.FLAGS[name].value
    if _unwrap(kind)[1]:
        return tuple(tidy(name, part) for part in value or ())
    return tidy(name, value)
