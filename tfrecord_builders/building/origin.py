"""The options and the text of a build, to check if it can be continued."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from bert_pretrain import errors, file_errors, files, options
from bert_pretrain.data import vocabulary
from tfrecord_builders.engines import work_units
from tfrecord_builders.sources import documents
from tfrecord_builders.stages import build_config, template_redirects

_SUMMARY = re.compile(r"\d+\.json")
# For each input file: what `documents.identify` says of it.
_Inputs = Mapping[str, Mapping[str, Any]]


def path_of(work: build_config.Work) -> str:
    """Path of the file that holds the origin of an unfinished build."""
    return f"{work.dir}/origin.json"


def dataset_options(
    config: build_config.DatasetConfig, vocab: vocabulary.Vocabulary
) -> dict[str, Any]:
    """The options that decide the bytes of the dataset, by flag name."""
    flat: dict[str, Any] = {}
    for name, value in options.to_dict(config).items():
        flat.update(value if isinstance(value, dict) else {name: value})
    del flat["vocab_file"]  # Its content counts, not its path.
    return flat | {
        "vocab_sha256": vocab.sha256,
        "lower_case": vocab.is_lower_case,
        "strip_accents": vocab.strips_accents,
    }


def settle(
    work: build_config.Work,
    vocab: vocabulary.Vocabulary,
    inputs: _Inputs,
    extract: work_units.Stage[list[documents.Span]],
) -> None:
    """Continues an earlier build in the folder, or begins a new one.

    An earlier build is continued if its options and text are the same. A file
    may differ if no finished unit has read it, for example because it was
    corrupt. If no finished unit has kept a document, all options and files may
    differ. Call only while no other process works in the folder.

    Args:
      inputs: the files as they are now.
      extract: the first stage.

    Raises:
      UserError: if the folder holds something else.
    """
    path = path_of(work)
    with file_errors.naming(path):
        is_first = not tf.io.gfile.exists(path)
    if is_first:
        _refuse_other_work(work)
    else:
        earlier = files.read_json(path)
        try:
            refuse_other_options(work, earlier["options"], vocab)
            refuse_other_inputs(work, earlier["inputs"], inputs)
            return
        except errors.UserError:
            finished = _finished_units(work)
        stale: Iterable[str] = finished
        if any(summary["parts"] for summary in finished.values()):
            refuse_other_options(work, earlier["options"], vocab)
            unread = _unread(earlier["inputs"], inputs, finished.values())
            refuse_other_inputs(work, earlier["inputs"], {**inputs, **unread})
            stale = _find_stale(work, finished, extract)
        # The stale summaries must be gone before the new origin is written:
        # with the new origin, they would count as finished units.
        for summary_path in stale:
            files.remove(summary_path)
        files.remove_directory(template_redirects.folder_of(work))
    options_now = dataset_options(work.config, vocab)
    files.write_json(path, {"options": options_now, "inputs": inputs})


def refuse_other_options(
    work: build_config.Work,
    earlier: Mapping[str, Any],
    vocab: vocabulary.Vocabulary,
) -> None:
    """Refuses to continue a build that had other options.

    Args:
      earlier: what `dataset_options` returned for the earlier build.

    Raises:
      UserError: naming the first option that differs.
    """
    # Builds of earlier versions lower-cased and removed accents together, and
    # knew no redirects.
    earlier = {
        "template_redirects": work.config.source.template_redirects,
        "lower_case": vocab.is_lower_case,
        "strip_accents": vocab.is_lower_case,
        **earlier,
    }
    for name, value in dataset_options(work.config, vocab).items():
        if earlier.get(name) != value:
            raise errors.UserError(
                f"{work.output_dir} holds a build with {name}="
                f"{earlier.get(name)!r}, not {value!r}: give that value or "
                "another output_dir, or remove the folder."
            )


def refuse_other_inputs(
    work: build_config.Work, earlier: _Inputs, inputs: _Inputs
) -> None:
    """Refuses to continue a build whose text was another.

    Raises:
      UserError: naming the first file that differs.
    """
    for name in sorted({*inputs, *earlier}):
        was, now = (
            _describe(identities.get(name)) for identities in (earlier, inputs)
        )
        if was != now:
            raise errors.UserError(
                f"{name} was {was} when the build in {work.output_dir} began "
                f"and is {now} now: restore the file, give another "
                "output_dir, or remove the folder."
            )


def _refuse_other_work(work: build_config.Work) -> None:
    """Refuses a work folder with files that no build wrote."""
    if found := files.list_finished(work.dir):
        raise errors.UserError(
            f"{work.dir} holds {found[0]!r}, which no build wrote. A finished "
            "build removes this folder, so the file would be lost; give "
            "another output_dir."
        )


def _finished_units(work: build_config.Work) -> dict[str, work_units.Summary]:
    """The summaries of the first stage, by their paths."""
    # No glob pattern: the name of the folder may hold characters of one.
    folder = f"{work.dir}/extract"
    return {
        f"{folder}/{name}": files.read_json(f"{folder}/{name}")
        for name in files.list_finished(folder)
        if _SUMMARY.fullmatch(name)
    }


def _unread(
    earlier: _Inputs, inputs: _Inputs, summaries: Iterable[work_units.Summary]
) -> dict[str, Mapping[str, Any]]:
    """Earlier identities of files that exist now and that no unit has read."""
    read = {path for summary in summaries for path in summary["counts"]}
    return {
        path: identity
        for path, identity in earlier.items()
        if path in inputs and path not in read
    }


def _find_stale(
    work: build_config.Work,
    finished: Mapping[str, work_units.Summary],
    extract: work_units.Stage[list[documents.Span]],
) -> list[str]:
    """Summaries of units that had other spans than the units have now.

    If the size of a file changes, the spans of all later units move.
    """
    planned = {
        work_units.summary_path(prefix): [list(span) for span in unit]
        for prefix, unit in zip(
            work_units.unit_prefixes(work.dir, extract),
            extract.units,
            strict=True,
        )
    }
    return [
        path
        for path, summary in finished.items()
        if summary["spans"] != planned.get(path)
    ]


def _describe(file: Mapping[str, Any] | None) -> str:
    if not file:
        return "not there"
    # Datasets of old versions of the builder have no hash.
    ends = file.get("ends_sha256", "")
    return f"{file['num_bytes']:,} bytes (sha256 of its ends: {ends[:12]}…)"
