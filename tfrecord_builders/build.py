"""Builds a set of masked TFRecords from raw text.

    python -m tfrecord_builders.build --source=wikipedia \
        --input='dumps/*.xml.bz2' --vocab_file=vocab.txt --output_dir=records

The same command goes on where an earlier one was stopped.
"""

import dataclasses
import math
import time
from typing import Literal

import tensorflow as tf

from bert_pretrain import errors, files, locks, options
from bert_pretrain.data import manifests, records, vocabulary
from tfrecord_builders.engines import local
from tfrecord_builders.sources import documents
from tfrecord_builders.stages import (
    build_config,
    build_manifest,
    deduplicate,
    extract,
    make_rows,
    origin,
    shard_plan,
    write_shards,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildConfig(options.Options):
    set: build_config.DatasetConfig
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
    work = build_config.Work(_resolve(config.set), config.output_dir)
    vocab = vocabulary.read(work.config.vocab_file)
    # Before anything is looked at: what another build writes is not settled.
    with locks.locked(work.output_dir):
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
    extract_stage = extract.stage(work)
    inputs = documents.identify(extract_stage.units)
    with workers:
        origin.settle(work, vocab, inputs, extract_stage)
        files.remove_temporary_files(work.output_dir)
        work = _with_own_vocabulary(work, vocab)
        extracted = workers.run(extract_stage)
        document_parts = extract.document_parts_of(work, extracted)
        if not document_parts:
            raise errors.UserError(_why_none_is_kept(work, extracted))
        find_stage = deduplicate.find_stage(work, document_parts)
        workers.run(find_stage)
        (resolved,) = workers.run(
            deduplicate.resolve_stage(work, document_parts, find_stage)
        )
        document_parts = deduplicate.weigh_parts(work, document_parts, resolved)
        shards = shard_plan.count_shards(work.config, document_parts)
        rows_stage = make_rows.stage(work, document_parts, shards)
        row_counts = workers.run(rows_stage)
        written = workers.run(
            write_shards.stage(work, len(rows_stage.units), shards)
        )
    manifest = build_manifest.make(
        work,
        vocab,
        document_parts,
        [*extracted, resolved, *(rows["sampling"] for rows in row_counts)],
        row_counts,
        written,
    )
    _refuse_empty_split(manifest)
    vocab.write(f"{work.output_dir}/{vocabulary.FILE_NAME}")
    files.write_json(
        f"{work.output_dir}/{manifests.NEAR_DUPLICATES_NAME}",
        resolved["examples"],
    )
    manifests.check_dataset(work.output_dir, manifest)
    manifests.write(work.output_dir, manifest)
    _tidy(work)
    return manifest, workers.seconds


def _engine(work, config):
    if config.engine == "local":
        return local.LocalEngine(
            work.dir, config.num_workers or local.num_cores()
        )
    try:
        from tfrecord_builders.engines import beam
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
        if not tf.io.gfile.exists(origin.path_of(work)):
            return
        files.remove_temporary_files(work.output_dir)
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
    counts = build_manifest.document_counts(extracted)
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


def _is_built(work, vocab):
    path = f"{work.output_dir}/{manifests.MANIFEST_NAME}"
    with errors.naming(path):
        if not tf.io.gfile.exists(path):
            return False
    manifest = manifests.read(work.output_dir)
    origin.refuse_other_options(work, manifest.options, vocab)
    earlier = {source["path"]: source for source in manifest.sources}
    try:
        inputs = documents.identify(extract.stage(work).units)
    except errors.UserError:
        inputs = {}  # The text of a finished set is no longer needed.
    origin.refuse_other_inputs(work, earlier, earlier | inputs)
    manifests.check_dataset(work.output_dir, manifest)
    return True


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
