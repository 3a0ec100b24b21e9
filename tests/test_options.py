"""A config gives the flags; a wrong flag gives one line and exit code 2."""

import dataclasses
import math
import os
import subprocess
import sys
import textwrap

import pytest

from bert_pretrain import errors, options

PROGRAM = textwrap.dedent('''
    """A program."""
    import dataclasses
    from typing import Literal
    from bert_pretrain import command_line, errors, options

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Part:
        """Rows."""

        seq_length: int = options.option("Tokens of a row.", 128, at_least=2)
        kinds: tuple[Literal["a", "b"], ...] = options.option("Kinds.", ("a",))
        width: int = options.option("Required, but not here.")

        def __post_init__(self):
            if self.seq_length < 8:
                raise errors.UserError(
                    f"seq_length={self.seq_length} is\\ntoo small.")

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        """What is written."""

        part: Part = options.nested(width=7)
        output_dir: str = options.option("Where to write.")
        rate: float | None = options.option("A rate.", None)
        is_fast: bool = options.option("Whether to hurry.", False)
        runner: Literal["a", "b"] = options.option("Who runs.", "a")
        left: tuple[str, ...] = options.unknown_flags("runner", "b")

    def main(config):
        if config.is_fast:
            raise KeyError("a defect of the program")
        assert options.from_dict(Config, options.to_dict(config)) == config
        print(config)

    if __name__ == "__main__":
        command_line.run(main, Config)
''')


def run(tmp_path, *arguments):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    return subprocess.run(
        [sys.executable, program, *arguments],
        capture_output=True,
        text=True,
        # As without jax, which TensorFlow loads in the tests before the
        # package can say so.
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


@pytest.mark.slow
def test_flags_build_the_config(tmp_path):
    done = run(
        tmp_path,
        "--output_dir=x",
        "--seq_length=64",
        "--kinds=b",
        "--kinds=a",
        "--rate=0.5",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "Config(part=Part(seq_length=64, kinds=('b', 'a'), width=7), "
        "output_dir='x', rate=0.5, is_fast=False, runner='a', left=())\n"
    )


@pytest.mark.slow
def test_a_slash_behind_a_folder_changes_nothing(tmp_path):
    # On gs:// a//b and a/b are two files.
    for given, folder in (("gs://a/b//", "gs://a/b"), ("/", "/")):
        done = run(tmp_path, f"--output_dir={given}")
        assert f"output_dir='{folder}'" in done.stdout, done.stderr


@pytest.mark.slow
def test_unknown_flags_are_passed_on_if_an_option_says_so(tmp_path):
    flags = ["--output_dir=x", "--kinds=b", "--region=here", "--fast"]
    done = run(tmp_path, *flags, "--runner=b", "--seq_length=64")
    assert done.returncode == 0, done.stderr
    assert "seq_length=64, kinds=('b',)" in done.stdout
    assert "runner='b', left=('--region=here', '--fast')" in done.stdout
    for more, expected in (
        ([], "Unknown command line flag 'region'"),
        (["--runner=b", "extra"], "unknown argument 'extra'"),
    ):
        done = run(tmp_path, *flags, *more)
        assert done.returncode == 2 and expected in done.stderr


def test_each_wrong_command_line_gives_one_line_and_exit_code_2(tmp_path):
    for arguments, expected in [
        ([], "output_dir"),
        (["--output_dir=x", "--seq_len=64"], "seq_len"),
        (["--output_dir=x", "--seq_length=many"], "many"),
        (["--output_dir=x", "--kinds=c"], "kinds"),
        (["--output_dir=x", "extra"], "'extra'"),
        (["--output_dir=x", "--seq_length=4"], "seq_length=4 is too small."),
    ]:
        done = run(tmp_path, *arguments)
        assert done.returncode == 2
        assert expected in done.stderr
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert not done.stdout


@pytest.mark.slow
def test_help_shows_the_options_by_topic_with_their_defaults(tmp_path):
    for flag in ("--help", "-h", "--helpfull"):
        done = run(tmp_path, "--output_dir=x", flag)
        assert done.returncode == 0, done.stderr
        page = done.stdout
        assert page.startswith("A program.\n\nWhat is written\n")
        assert "  --output_dir=FOLDER  (required)\n      Where to" in page
        assert "  --[no]is_fast  (default no)\n      Whether" in page
        assert "  --runner=a|b  (default a)\n" in page
        before, rows = page.split("\n\nRows\n")
        assert "--seq_length=N  (default 128; at least 2)\n" in rows
        assert "--kinds=a|b  (default a; may be repeated)\n" in rows
        # Required elsewhere, but not here.
        assert "--width=N  (default 7)\n" in rows
        assert "--seq_length" not in before


@pytest.mark.slow
def test_a_wrong_flag_names_the_nearest_one(tmp_path):
    done = run(tmp_path, "--output_dir=x", "--seqlength=64")
    assert done.returncode == 2
    assert "Did you mean: seq_length" in done.stderr


@pytest.mark.slow
def test_a_defect_of_the_program_keeps_its_traceback(tmp_path):
    done = run(tmp_path, "--output_dir=x", "--is_fast")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    folder: str = options.option("", "a", changes_result=False)
    rate: float = options.option("", 0.1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trip:
    names: tuple[str, ...] = options.option("", ("x",))
    size: int = options.option("")
    place: Place = Place()


def test_changes_are_named_unless_they_change_no_result():
    before = options.to_dict(Trip(size=1))
    after = options.to_dict(
        Trip(names=("x", "y"), size=1, place=Place(folder="b", rate=0.2))
    )
    assert list(options.changes(Trip, before, after)) == [
        ("names", ["x"], ["x", "y"]),
        ("rate", 0.1, 0.2),
    ]


def test_a_new_option_counts_as_having_had_its_default():
    after = options.to_dict(Trip(size=1))
    assert not list(options.changes(Trip, {"size": 1}, after))
    assert list(options.changes(Trip, {}, after)) == [("size", None, 1)]


def test_a_number_out_of_bounds_is_refused_and_the_flag_is_named():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Bounded(options.Options):
        size: int = options.option("", 8, at_least=1, usual="8 is usual")
        rates: tuple[float, ...] = options.option("", (), above=0, at_most=1)
        share: float | None = options.option("", None, at_least=0)

    Bounded(size=1, rates=(0.5, 1.0), share=0.0)
    for values, line in (
        ({"size": 0}, "--size=0 must be at least 1; 8 is usual."),
        ({"rates": (0.5, 0.0)}, "--rates=0.0 must be above 0 and at most 1."),
        ({"share": -0.5}, "--share=-0.5 must not be negative."),
        ({"share": math.nan}, "--share=nan must be a finite number."),
        ({"rates": (math.inf,)}, "--rates=inf must be a finite number."),
    ):
        with pytest.raises(errors.UserError) as refused:
            Bounded(**values)
        assert str(refused.value) == line
