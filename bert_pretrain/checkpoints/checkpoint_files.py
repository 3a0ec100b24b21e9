"""The files of a checkpoint, and the check that they are complete.

    ckpt-N.*       the state of the run after N steps
    ckpt-N.json    sizes and hashes of these files; written last
    checkpoint     names the newest checkpoint

A checkpoint is torn if its JSON file is missing or does not match the other
files. A torn checkpoint is never read.
"""

import contextlib
import re
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import tensorflow as tf

from bert_pretrain import errors, file_errors, files

_NAME = re.compile(r"ckpt-(\d+)[._]")
_DATA = re.compile(r"\.data-\d+-of-(\d+)$")
_NEWEST = "checkpoint"
_NAMED = re.compile(r'^model_checkpoint_path: "ckpt-(\d+)"', re.MULTILINE)
_LISTING_SECONDS = 1, 2, 4, 8, 15, 30


def list_whole(
    folder: str, warn: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields whole checkpoints, newest first.

    Args:
      folder: that holds the checkpoints.
      warn: whether a torn checkpoint causes a warning.

    Yields:
      (path without ending, content of the JSON file).

    Raises:
      UserError: if a file cannot be read now, but perhaps later.
    """
    for step in sorted(list_steps(folder), reverse=True):
        path = f"{folder}/ckpt-{step}"
        try:
            yield path, _read_facts(path)
        except errors.UserError as error:
            if file_errors.is_transient(error):
                raise  # The checkpoint may be whole.
            if warn:
                errors.warn(f"{error} An earlier checkpoint is used.")


def list_steps(folder: str) -> set[int]:
    """The steps of all checkpoints, whole or not."""
    steps = {_step_of(name) for name in _list_names(folder)}
    # An object store may list the newest one late, but it can be read.
    newest = _newest_named(folder)
    if newest is not None and newest not in steps:
        with file_errors.naming(folder):
            if tf.io.gfile.exists(f"{folder}/ckpt-{newest}.json"):
                steps.add(newest)
    return steps


def finish(path: str, facts: dict[str, Any], keep: int) -> None:
    """Declares a checkpoint whole, and removes old checkpoints.

    Args:
      path: of the checkpoint, without ending.
      facts: goes into its JSON file; "step", "bad_steps_in_row" and "is_good"
        at least.
      keep: so many of the newest checkpoints stay. The newest one that a run
        can go back to stays too.
    """
    folder, _, name = path.rpartition("/")
    described: dict[str, dict[str, int | str]] = {
        file_name: {"bytes": files.size(f"{folder}/{file_name}")}
        for file_name in _wait_for_names(path)
    }
    # The index holds checksums of all values. TensorFlow compares them when
    # it reads the values.
    described[f"{name}.index"]["sha256"] = files.sha256(f"{path}.index")
    files.write_json(f"{path}.json", facts | {"files": described})
    # TensorFlow's own file, which some tools look for.
    files.write_text(
        f"{folder}/{_NEWEST}", f'model_checkpoint_path: "{name}"\n'
    )
    whole = [
        old for _, old in list_whole(folder) if old["step"] != facts["step"]
    ]
    # The new checkpoint comes first. After a rollback its step can be smaller
    # than that of an older checkpoint.
    newest = [facts, *whole]
    good = [old for old in newest if can_go_back_to(old)]
    kept = {old["step"] for old in (*newest[:keep], *good[:1])}
    remove(folder, list_steps(folder) - kept)


def update(path: str, **facts: Any) -> None:
    """Changes facts in the JSON file of a whole checkpoint."""
    files.write_json(f"{path}.json", files.read_json(f"{path}.json") | facts)


def can_go_back_to(facts: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's weights were good, and its last update applied."""
    # Checkpoints of earlier versions do not say whether they are good.
    return not facts["bad_steps_in_row"] and facts.get("is_good", True)


def remove(folder: str, steps: Collection[int]) -> None:
    """Removes the checkpoints of some steps, whole or not."""
    # The JSON files go first, so that no checkpoint seems to be whole while
    # its files are removed; also those that are not listed yet.
    for step in steps:
        files.remove(f"{folder}/ckpt-{step}.json")
    for name in _list_names(folder):
        if _step_of(name) in steps:
            path = f"{folder}/{name}"
            if tf.io.gfile.isdir(path):
                files.remove_directory(path)
            else:
                files.remove(path)


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Lets a block read a whole checkpoint with TensorFlow's reader.

    Raises:
      UserError: in place of any error of the reader; it names the checkpoint.
    """
    try:
        _wait_for_names(path)  # TensorFlow looks for them in the listing.
        yield
    # TensorFlow raises IndexError if bytes are missing, AssertionError if
    # variables are missing, and ValueError if shapes differ.
    except (
        tf.errors.OpError,
        IndexError,
        AssertionError,
        ValueError,
    ) as error:
        raise errors.UserError(
            f"{path}: this checkpoint cannot be read "
            f"({file_errors.reason(error, path)}); restore its files, or give "
            "another --model_dir."
        ) from error


def _read_facts(path: str) -> dict[str, Any]:
    """The content of a checkpoint's JSON file.

    Raises:
      UserError: if the checkpoint is torn.
    """
    if not tf.io.gfile.exists(f"{path}.json"):
        raise errors.UserError(
            f"{path} is not a whole checkpoint: the process that wrote it "
            "ended too early."
        )
    facts = files.read_json(f"{path}.json")
    for name, expected in facts["files"].items():
        file_path = f"{path.rpartition('/')[0]}/{name}"
        actual = files.size(file_path)
        if actual != expected["bytes"]:
            raise errors.UserError(
                f"{file_path}: this checkpoint is torn, the file has "
                f"{actual:,} of {expected['bytes']:,} bytes."
            )
        if "sha256" not in expected:
            continue
        if files.sha256(file_path) != expected["sha256"]:
            raise errors.UserError(
                f"{file_path}: this checkpoint is torn, the file has another "
                "sha256."
            )
    return facts


def _list_names(folder: str) -> list[str]:
    """Names of files and folders that belong to checkpoints."""
    names = (name.rstrip("/") for name in files.list_names(folder))
    return [name for name in names if _NAME.match(name)]


def _wait_for_names(path: str) -> list[str]:
    """The names of the files of a checkpoint that is written.

    An object store may list them late. So it waits until all are listed.

    Raises:
      UserError: if some are still missing after a minute; on this machine,
        if some are missing.
    """
    folder, _, name = path.rpartition("/")
    waits = () if files.is_local(folder) else _LISTING_SECONDS
    for seconds in (*waits, 0):
        names = [
            each for each in _list_names(folder) if each.startswith(f"{name}.")
        ]
        data = [found for each in names if (found := _DATA.search(each))]
        if f"{name}.index" in names and data:
            if len(data) == int(data[0][1]):
                return names
        time.sleep(seconds)
    raise errors.UserError(
        f"{path} is written, but the folder lists only "
        f"{', '.join(names) or 'nothing'} of it."
    )


def _newest_named(folder: str) -> int | None:
    """The step that TensorFlow's own file of the folder names."""
    path = f"{folder}/{_NEWEST}"
    with file_errors.naming(path):
        if not tf.io.gfile.exists(path):
            return None
    found = _NAMED.search(files.read_text(path))
    return int(found[1]) if found else None


def _step_of(name: str) -> int:
    """The step of a name that `_list_names` returns."""
    found = _NAME.match(name)
    assert found
    return int(found[1])
