"""Builds a set of masked TFRecords from raw text.

    python -m tfrecord_builders.build --source=wikipedia \
        --input='dumps/*.xml.bz2' --vocab_file=vocab.txt --output_dir=records

The same command goes on where an earlier one was stopped.
"""

import collections
import dataclasses
import math
import time

import tensorflow as tf

from bert_pretrain import errors, files, options, records, vocabulary
from tfrecord_builders import engine, stages

_OPTIONS_NAME = "options.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildConfig:
    set: stages.SetConfig
    output_dir: str = options.option("Folder of the set; local or gs://.")
    num_workers: int = options.option(
        "Worker processes; 0: one for each core.", 0
    )

    def __post_init__(self):
        if self.num_workers < 0:
            raise errors.UserError(
                f"num_workers={self.num_workers} must not be negative."
            )


def main(config):
    started = time.monotonic()
    work = stages.Work(_resolve(config.set), config.output_dir.rstrip("/"))
    vocab = vocabulary.read(work.config.vocab_file)
    if _is_built(work, vocab):
        print(f"{work.output_dir} already holds this set; nothing to do.")
        return
    with files.locked(work.output_dir):
        manifest, seconds = build(
            work, vocab, config.num_workers or engine.num_cores()
        )
    _print_summary(work, manifest, seconds, time.monotonic() - started)


def build(work, vocab, num_workers):
    """Builds the set.

    Returns:
      (its `Manifest`, the seconds that each stage took).

    Raises:
      UserError: if the text, the options or what an earlier build left in
        the folder do not allow it.
    """
    extract = stages.extract_stage(work)
    _refuse_other_options(work, vocab)
    with engine.LocalEngine(work.dir, num_workers) as workers:
        extracted = workers.run(extract)
        parts = stages.extracted_parts(work, extracted)
        if not parts:
            raise errors.UserError(_why_none_is_kept(work, extracted))
        deduplicate = stages.deduplicate_stage(parts)
        deduplicated = workers.run(deduplicate)
        shards = stages.count_shards(
            work.config, sum(part.num_bytes for part in parts)
        )
        make_rows = stages.rows_stage(
            work, parts, len(deduplicate.units), shards
        )
        row_counts = workers.run(make_rows)
        written = workers.run(
            stages.shards_stage(work, len(make_rows.units), shards)
        )
    manifest = _manifest(
        work, vocab, extracted, deduplicated, row_counts, written
    )
    _refuse_empty_split(manifest)
    vocab.write(f"{work.output_dir}/{vocabulary.FILE_NAME}")
    records.check_set(work.output_dir, manifest)
    records.write_manifest(work.output_dir, manifest)
    tf.io.gfile.rmtree(work.dir)
    return manifest, workers.seconds


def _why_none_is_kept(work, extracted):
    for summary in extracted:
        if summary["fault"]:
            return summary["fault"]
    counts = _document_counts(extracted, [])
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
    if not tf.io.gfile.exists(path):
        return False
    manifest = records.read_manifest(work.output_dir)
    _refuse_difference(work, manifest.options, vocab)
    records.check_set(work.output_dir, manifest)
    return True


def _refuse_other_options(work, vocab):
    path = f"{work.dir}/{_OPTIONS_NAME}"
    if tf.io.gfile.exists(path):
        _refuse_difference(work, files.read_json(path), vocab)
    else:
        files.write_json(path, _set_options(work.config, vocab))


def _refuse_difference(work, earlier, vocab):
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


def _manifest(work, vocab, extracted, deduplicated, row_counts, written):
    config, row_counts = work.config, _sum_counts(row_counts)
    return records.Manifest(
        seq_length=config.rows.seq_length,
        max_predictions_per_seq=config.masking.max_predictions_per_seq,
        pairing=config.rows.pairing,
        masking=config.masking.masking,
        vocab_size=vocab.size,
        vocab_sha256=vocab.sha256,
        is_lower_case=vocab.is_lower_case,
        splits={
            name: _split(name, config, row_counts, written)
            for name in records.SPLITS
        },
        options=_set_options(config, vocab),
        sources=tuple(_sources(extracted)),
        documents=_document_counts(extracted, deduplicated),
        rows={
            name: row_counts[name]
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
        max_id=max(
            (summary["counts"].get("max_id", 0) for summary in mine), default=0
        ),
        shards=shards,
    )


def _sources(extracted):
    """What was read of each input file."""
    by_path = collections.defaultdict(collections.Counter)
    for summary in extracted:
        for path, counts in summary["counts"].items():
            by_path[path].update(counts)
    for path, counts in sorted(by_path.items()):
        yield {"path": path, **_kept_and_dropped(counts)}


def _document_counts(extracted, deduplicated):
    counts = sum(
        (
            collections.Counter(counts)
            for summary in extracted
            for counts in summary["counts"].values()
        ),
        collections.Counter(),
    )
    if num_duplicates := sum(
        summary["num_dropped"] for summary in deduplicated
    ):
        counts["duplicate"] = num_duplicates
    return _kept_and_dropped(counts)


def _kept_and_dropped(counts):
    dropped = {name: n for name, n in counts.items() if name != "read"}
    return {
        "read": counts["read"],
        "kept": counts["read"] - sum(dropped.values()),
        "dropped": dict(sorted(dropped.items())),
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


if __name__ == "__main__":
    options.run(main, BuildConfig)
