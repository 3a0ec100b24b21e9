"""The command line: absl flags to a config, and a config to a program.

Every option of a config, nested ones too, is a flag of the same name.
"""

import dataclasses
import os
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from absl import app, flags

from bert_pretrain import errors, help_page, options

# As shells report signals: 128 + the signal's number.
_INTERRUPTED, _BROKEN_PIPE = 130, 141
# How people ask for help; absl's own pages sort by the alphabet.
_HELP = {"--help", "-help", "-h", "--helpfull", "--helpshort", "-?"}


def run(main: Callable[[Any], int | None], config_class: type) -> None:
    """Runs `main(config)` with the config that the command line gives.

    What `main` returns is the exit code. A wrong flag or a `UserError` ends
    the program with one line on standard error and exit code 2.
    """
    # Where PyTorch is installed, transformers would import it too: a fifth of
    # a program's start, and a quarter of a gigabyte.
    os.environ.setdefault("USE_TORCH", "0")
    define_flags(config_class)

    def parse_or_exit(argv: list[str]) -> list[str]:
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
        except BrokenPipeError:
            # As other programs in a pipe, without a word. Python would print
            # an error when it flushes the stream at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(_BROKEN_PIPE)

    app.run(guarded, flags_parser=parse_or_exit)


def _parse(argv: list[str], config_class: type) -> list[str]:
    """Parses the flags; returns the program and the flags left unparsed."""
    left = flags.FLAGS(argv, known_only=True)
    for field, _ in options.fields(config_class):
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
    for field, kind in options.fields(config_class):
        if options.is_config(kind):
            given = defaults | field.metadata.get("defaults", {})
            yield from _options_in(kind, given)
        elif "takes_unknown_if" not in field.metadata:
            yield field, kind, defaults.get(field.name, field.default)


def from_flags(
    config_class: type,
    unknown: tuple[str, ...] = (),
    flag_values: flags.FlagValues = flags.FLAGS,
) -> Any:
    """Builds `config_class` from the values of the flags."""
    return config_class(
        **{
            field.name: from_flags(kind, flag_values=flag_values)
            if options.is_config(kind)
            else unknown
            if "takes_unknown_if" in field.metadata
            else _from_flag(field.name, kind, flag_values)
            for field, kind in options.fields(config_class)
        }
    )


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
    scalar, repeats = options.unwrap(kind)
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
    if options.unwrap(kind)[1]:
        return tuple(options.tidy(name, one) for one in value or ())
    return options.tidy(name, value)
