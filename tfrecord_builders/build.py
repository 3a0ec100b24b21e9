"""Builds a set of masked TFRecords from raw text.

    python -m tfrecord_builders.build --source=wikipedia \
        --input='dumps/*.xml.bz2' --vocab_file=vocab.txt --output_dir=records

The same command goes on where an earlier one was stopped.
"""

import collections
import dataclasses
import math
import time
from typing import Literal

import tensorflow as tf

from bert_pretrain import errors, files, options, records, vocabulary
from tfrecord_builders import documents, engine, filters, stages


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildConfig(options.Options):
    set: stages.SetConfig
    output_dir: str = options.option("Folder of the set; local or gs://.")
    engine: Literal["local", "beam"] = options.option(
        "Where the work is done: in processes of this machine, or by Apache "
        "Beam, whose own flags may then be given, such as --runner.",
        "local",
    )
    num_workers: int = options.option(
        "Worker processes; 0: one for each core. With --engine=beam it is "
        "Beam's flag of this name.",
        0,
        at_least=0,
    )
    beam_flags: tuple[str, ...] = options.unknown_flags("engine", "beam")


def main(config):
    started = time.monotonic()
    work = stages.Work(_resolve(config.set), config.output_dir)
    vocab = vocabulary.read(work.config.vocab_file)
    # Before anything is looked at: what another build writes is not settled.
    with files.locked(work.output_dir):
        if _is_built(work, vocab):
            _tidy(work)  # It may have been killed just before it did.
            print(f"{work.output_dir} already holds this set; nothing to do.")
            return
        manifest, seconds = build(work, vocab, _engine(work, config))
    _print_summary(work, manifest, seconds, time.monotonic() - started)


def build(work, vocab, workers):
    """Builds the set.

    Args:
      workers: an engine over `work.dir`, not yet entered.

    Returns:
      (its `Manifest`, the seconds that each stage took).

    Raises:
      UserError: if the text, the options or what an earlier build left in
        the folder do not allow it.
      RuntimeError: if a unit failed by a defect of this program.
    """
    extract = stages.extract_stage(work)
    inputs = documents.identify(extract.units)
    with workers:
        _settle_origin(work, vocab, inputs, extract)
        files.remove_asides(work.output_dir)
        work = _with_own_vocabulary(work, vocab)
        extracted = workers.run(extract)
        parts = stages.extracted_parts(work, extracted)
        if not parts:
            raise errors.UserError(_why_none_is_kept(work, extracted))
        deduplicate = stages.deduplicate_stage(work, parts)
        workers.run(deduplicate)
        (resolved,) = workers.run(
            stages.resolve_stage(work, parts, deduplicate)
        )
        parts = stages.weigh_parts(work, parts, resolved)
        shards = stages.count_shards(work.config, parts)
        make_rows = stages.rows_stage(work, parts, shards)
        row_counts = workers.run(make_rows)
        written = workers.run(
            stages.shards_stage(work, len(make_rows.units), shards)
        )
    manifest = _manifest(
        work,
        vocab,
        parts,
        [*extracted, resolved, *(rows["sampling"] for rows in row_counts)],
        row_counts,
        written,
    )
    _refuse_empty_split(manifest)
    vocab.write(f"{work.output_dir}/{vocabulary.FILE_NAME}")
    files.write_json(
        f"{work.output_dir}/{records.NEAR_DUPLICATES_NAME}",
        resolved["examples"],
    )
    records.check_set(work.output_dir, manifest)
    records.write_manifest(work.output_dir, manifest)
    _tidy(work)
    return manifest, workers.seconds


def _engine(work, config):
    if config.engine == "local":
        return engine.LocalEngine(
            work.dir, config.num_workers or engine.num_cores()
        )
    try:
        from tfrecord_builders import beam
    except ModuleNotFoundError as error:
        raise errors.UserError(
            f"engine=beam needs Apache Beam ({error}): pip install -c "
            "constraints.txt -e '.[beam]'."
        ) from error
    flags = list(config.beam_flags)
    if config.num_workers:
        flags.append(f"--num_workers={config.num_workers}")
    return beam.BeamEngine(work.dir, flags, config.set.source.input)


def _with_own_vocabulary(work, vocab):
    """The work with a copy of the vocabulary among its files.

    There workers on any machine find it, and nobody edits it meanwhile.
    """
    path = f"{work.dir}/{vocabulary.FILE_NAME}"
    vocab.write(path)
    return dataclasses.replace(
        work, config=dataclasses.replace(work.config, vocab_file=path)
    )


def _tidy(work):
    """Removes what a build left that is no part of a finished set."""
    with errors.naming(work.dir):
        if not tf.io.gfile.exists(_origin_path(work)):
            return
        files.remove_asides(work.output_dir)
        # The origin last: without it a build that was killed here would leave
        # the rest for good.
        for name in tf.io.gfile.listdir(work.dir):
            if tf.io.gfile.isdir(f"{work.dir}/{name}"):
                tf.io.gfile.rmtree(f"{work.dir}/{name}")
        tf.io.gfile.rmtree(work.dir)


def _why_none_is_kept(work, extracted):
    for summary in extracted:
        if summary["fault"]:
            return summary["fault"]
    counts = _document_counts(extracted)
    dropped = ", ".join(
        f"{n} {reason}" for reason, n in counts["dropped"].items()
    )
    return (
        f"no document was kept of {', '.join(work.config.source.input)}: "
        f"{counts['read']} read, {dropped or 'none dropped'}; check "
        "source, the names of the fields, and min_document_chars."
    )


def _resolve(config):
    """Fills in the options that follow from others."""
    if config.masking.max_predictions_per_seq:
        return config
    return dataclasses.replace(
        config,
        masking=dataclasses.replace(
            config.masking,
            max_predictions_per_seq=math.ceil(
                config.rows.seq_length * config.masking.masked_fraction
            ),
        ),
    )


def _set_options(config, vocab):
    """The options that decide the bytes of the set, flat, by flag."""
    flat = {}
    for name, value in options.to_dict(config).items():
        flat.update(value if isinstance(value, dict) else {name: value})
    del flat["vocab_file"]  # What is in it counts, not where it lies.
    return flat | {"vocab_sha256": vocab.sha256}


def _is_built(work, vocab):
    path = f"{work.output_dir}/{records.MANIFEST_NAME}"
    with errors.naming(path):
        if not tf.io.gfile.exists(path):
            return False
    manifest = records.read_manifest(work.output_dir)
    _refuse_other_options(work, manifest.options, vocab)
    earlier = {source["path"]: source for source in manifest.sources}
    try:
        inputs = documents.identify(stages.extract_stage(work).units)
    except errors.UserError:
        inputs = {}  # The text of a finished set is no longer needed.
    _refuse_other_inputs(work, earlier, earlier | inputs)
    records.check_set(work.output_dir, manifest)
    return True


def _settle_origin(work, vocab, inputs, extract):
    """Goes on with an earlier build, of the same options and text, or begins.

    A file that no finished unit has read may be another now: it was corrupt,
    say. Where none kept a document everything may be. Nobody may be at work
    in the folder.
    """
    path = _origin_path(work)
    with errors.naming(path):
        is_first = not tf.io.gfile.exists(path)
    if is_first:
        _refuse_other_work(work)
    else:
        earlier = files.read_json(path)
        try:
            _refuse_other_options(work, earlier["options"], vocab)
            _refuse_other_inputs(work, earlier["inputs"], inputs)
            return
        except errors.UserError:
            finished = _finished_units(work)
        # All of them, unless one kept a document.
        stale = finished
        if any(summary["parts"] for summary in finished.values()):
            _refuse_other_options(work, earlier["options"], vocab)
            unread = _unread(earlier["inputs"], inputs, finished.values())
            _refuse_other_inputs(work, earlier["inputs"], inputs | unread)
            stale = _find_stale(work, finished, extract)
        # Before the origin: until this is done, the units are the earlier's.
        for summary_path in stale:
            with errors.naming(summary_path):
                tf.io.gfile.remove(summary_path)
    options_now = _set_options(work.config, vocab)
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


def _origin_path(work):
    return f"{work.dir}/origin.json"


def _refuse_other_inputs(work, earlier, inputs):
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


def _refuse_other_options(work, earlier, vocab):
    for name, value in _set_options(work.config, vocab).items():
        if earlier.get(name) != value:
            raise errors.UserError(
                f"{work.output_dir} holds a build with {name}="
                f"{earlier.get(name)!r}, not {value!r}: give that value or "
                "another output_dir, or remove the folder."
            )


# -------------------------------------------------------------- the manifest


def _sum_counts(summaries):
    return sum(
        (collections.Counter(summary["counts"]) for summary in summaries),
        collections.Counter(),
    )


def _manifest(work, vocab, parts, counted, row_summaries, written):
    """The manifest, from the parts and the summaries of the stages.

    Args:
      counted: summaries that have counts of documents by file.
    """
    config, row_counts = work.config, _sum_counts(row_summaries)
    weights = {
        source.path: part.weight for part in parts for source in part.sources
    }
    return records.Manifest(
        seq_length=config.rows.seq_length,
        max_predictions_per_seq=config.masking.max_predictions_per_seq,
        pairing=config.rows.pairing,
        masking=config.masking.masking,
        is_packed=config.rows.packing,
        vocab_size=vocab.size,
        vocab_sha256=vocab.sha256,
        is_lower_case=vocab.is_lower_case,
        splits={
            name: _split(name, config, row_counts, written)
            for name in records.SPLITS
        },
        options=_set_options(config, vocab),
        sources=tuple(_sources(work, weights, counted)),
        documents=_document_counts(counted) | _state_thresholds(config.filters),
        rows={
            name: sum(row_counts[f"{split}_{name}"] for split in records.SPLITS)
            for name in ("num_tokens_cut", "num_documents_unpaired")
        },
    )


def _split(name, config, row_counts, written):
    mine = [summary for summary in written if summary["split"] == name]
    counts = _sum_counts(mine)
    shards = tuple(records.Shard(**summary["shard"]) for summary in mine)
    num_examples = sum(shard.num_examples for shard in shards)
    capacity = num_examples * config.rows.seq_length
    return records.Split(
        num_documents=row_counts[f"{name}_documents"],
        num_examples=num_examples,
        num_tokens=counts["num_tokens"],
        num_predictions=counts["num_predictions"],
        num_random_next=counts["num_random_next"],
        padding_fraction=round(1 - counts["num_tokens"] / max(1, capacity), 4),
        unpacked_padding_fraction=_unpacked_padding(name, config, row_counts),
        max_id=max(
            (summary["counts"].get("max_id", 0) for summary in mine), default=0
        ),
        shards=shards,
    )


def _unpacked_padding(name, config, row_counts):
    if not config.rows.packing:
        return None
    capacity = row_counts[f"{name}_num_rows_unpacked"] * config.rows.seq_length
    num_tokens = row_counts[f"{name}_num_tokens_unpacked"]
    return round(1 - num_tokens / max(1, capacity), 4)


def _sources(work, weights, counted):
    """What was read of each input file."""
    inputs = files.read_json(_origin_path(work))["inputs"]
    by_path = {path: collections.Counter() for path in inputs}
    for summary in counted:
        for path, counts in summary["counts"].items():
            by_path[path].update(counts)
    for path, counts in sorted(by_path.items()):
        yield {
            "path": path,
            **inputs[path],
            # The pattern: its number says little beside other files.
            "input": work.config.source.input[inputs[path]["input"]],
            "weight": round(weights.get(path, 1.0), 6),
            **_kept_and_dropped(counts),
        }


def _document_counts(counted):
    counts = collections.Counter()
    for summary in counted:
        for of_file in summary["counts"].values():
            counts.update(of_file)
    return _kept_and_dropped(counts)


def _state_thresholds(config):
    """What documents were judged by, where they were."""
    if config.filters == "none":
        return {}
    return {"thresholds": filters.THRESHOLDS}


def _kept_and_dropped(counts):
    dropped = {
        name: n
        for name, n in counts.items()
        if name not in ("read", "boilerplate_lines")
    }
    return {
        "read": counts["read"],
        "kept": counts["read"] - sum(dropped.values()),
        "dropped": dict(sorted(dropped.items())),
        "boilerplate_lines": counts["boilerplate_lines"],
    }


def _refuse_empty_split(manifest):
    for name in records.SPLITS:
        split = manifest.splits[name]
        if split.shards and not split.num_examples:
            fraction = manifest.options.get(f"{name}_fraction", "the rest")
            raise errors.UserError(
                f"none of the {manifest.documents['kept']} documents fell "
                f"into {name} (its share: {fraction}); give more text or "
                "other shares."
            )


# --------------------------------------------------------------- the summary


def _print_summary(work, manifest, seconds, total_seconds):
    print(
        f"\nBuilt {work.output_dir} in {total_seconds:.1f} s "
        f"({', '.join(f'{k} {v:.1f} s' for k, v in seconds.items())})."
    )
    counts = manifest.documents
    print(
        f"Documents: {counts['read']:,} read, {counts['kept']:,} kept"
        + "".join(
            f", {count:,} {reason.replace('_', ' ')}"
            for reason, count in counts["dropped"].items()
        )
        + "."
    )
    if cut := manifest.rows["num_tokens_cut"]:
        print(f"Pairs: {cut:,} tokens cut from parts of other documents.")
    print(
        f"{'split':8}{'documents':>11}{'examples':>11}{'tokens':>13}"
        f"{'padding':>9}{'shards':>8}{'MB':>9}"
    )
    for name, split in manifest.splits.items():
        num_bytes = sum(shard.num_bytes for shard in split.shards)
        print(
            f"{name:8}{split.num_documents:11,}{split.num_examples:11,}"
            f"{split.num_tokens:13,}{split.padding_fraction:9.1%}"
            f"{len(split.shards):8,}{num_bytes / 2**20:9.1f}"
        )
    if manifest.is_packed:
        padding = manifest.splits[records.TRAIN].unpacked_padding_fraction
        print(f"With one document a row, {padding:.1%} would be padding.")


if __name__ == "__main__":
    options.run(main, BuildConfig)
