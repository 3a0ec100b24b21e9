"""What an unfinished build was made of, and whether one can go on with it."""

import tensorflow as tf

from bert_pretrain import errors, files, options
from tfrecord_builders.engines import engine


def dataset_options(config, vocab):
    """The options that decide the bytes of the set, flat, by flag."""
    flat = {}
    for name, value in options.to_dict(config).items():
        flat.update(value if isinstance(value, dict) else {name: value})
    del flat["vocab_file"]  # What is in it counts, not where it lies.
    return flat | {"vocab_sha256": vocab.sha256}


def settle(work, vocab, inputs, extract):
    """Goes on with an earlier build, of the same options and text, or begins.

    A file that no finished unit has read may be another now: it was corrupt,
    say. Where none kept a document everything may be. Nobody may be at work
    in the folder.
    """
    path = path_of(work)
    with errors.naming(path):
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
        # All of them, unless one kept a document.
        stale = finished
        if any(summary["parts"] for summary in finished.values()):
            refuse_other_options(work, earlier["options"], vocab)
            unread = _unread(earlier["inputs"], inputs, finished.values())
            refuse_other_inputs(work, earlier["inputs"], inputs | unread)
            stale = _find_stale(work, finished, extract)
        # Before the origin: until this is done, the units are the earlier's.
        for summary_path in stale:
            with errors.naming(summary_path):
                tf.io.gfile.remove(summary_path)
    options_now = dataset_options(work.config, vocab)
    files.write_json(path, {"options": options_now, "inputs": inputs})


def _finished_units(work):
    """The summaries of the first stage, by their paths."""
    pattern = engine.summary_path(f"{work.dir}/extract/[0-9]*[0-9]")
    with errors.naming(work.dir):
        paths = tf.io.gfile.glob(pattern)
    return {path: files.read_json(path) for path in paths}


def _unread(earlier, inputs, summaries):
    """What files were that are still there and that no unit has read."""
    read = {path for summary in summaries for path in summary["counts"]}
    return {
        path: was
        for path, was in earlier.items()
        if path in inputs and path not in read
    }


def _find_stale(work, finished, extract):
    """The finished units that the plan, now that a file changed, has not.

    A file's size moves the bounds of the units behind it.
    """
    planned = {
        engine.summary_path(prefix): [list(span) for span in unit]
        for prefix, unit in zip(
            engine.unit_prefixes(work.dir, extract), extract.units, strict=True
        )
    }
    return [
        path
        for path, summary in finished.items()
        if summary["spans"] != planned.get(path)
    ]


def _refuse_other_work(work):
    """Refuses a folder that no build made: the end of one removes it."""
    if found := files.list_finished(work.dir):
        raise errors.UserError(
            f"{work.dir} holds {found[0]!r}, which no build wrote; it would "
            "be lost, since a finished build removes this folder: give "
            "another output_dir."
        )


def path_of(work):
    return f"{work.dir}/origin.json"


def refuse_other_inputs(work, earlier, inputs):
    for name in sorted(inputs | earlier):
        was, now = (_describe(of.get(name)) for of in (earlier, inputs))
        if was != now:
            raise errors.UserError(
                f"{name} was {was} when the build in {work.output_dir} began "
                f"and is {now} now: bring it back to what it was, give "
                "another output_dir, or remove the folder."
            )


def _describe(file):
    if not file:
        return "not there"
    # Sets of earlier builders have no hash.
    ends = file.get("ends_sha256", "")
    return f"{file['num_bytes']:,} bytes (sha256 of its ends: {ends[:12]}…)"


def refuse_other_options(work, earlier, vocab):
    for name, value in dataset_options(work.config, vocab).items():
        if earlier.get(name) != value:
            raise errors.UserError(
                f"{work.output_dir} holds a build with {name}="
                f"{earlier.get(name)!r}, not {value!r}: give that value or "
                "another output_dir, or remove the folder."
            )
