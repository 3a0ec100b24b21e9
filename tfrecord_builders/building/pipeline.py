"""Builds a dataset: runs all stages and writes the manifest.

    redirects    Wikipedia dumps                 → other names of templates
    extract      files, or byte ranges of them   → document parts, digests
    deduplicate  ranges of digests and of bands  → links between duplicates
    resolve      all links                       → documents to leave out
    rows         document parts                  → rows, sorted by shard
    shards       final shards                    → shuffled, masked records

A unit depends only on the inputs and the options, never on the number of
workers. Every random draw is seeded by (seed, stage, unit).
"""

import collections
import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from bert_pretrain import errors, file_errors, files, locks
from bert_pretrain.data import manifests, records, vocabulary
from tfrecord_builders.building import build_manifest, losses, origin
from tfrecord_builders.engines import engine, local, work_units
from tfrecord_builders.quality import drop_reasons
from tfrecord_builders.sources import documents
from tfrecord_builders.stages import (
    build_config,
    deduplicate,
    extract,
    make_rows,
    shard_plan,
    template_redirects,
    write_shards,
)


def _ignore(stage: str, seconds: float) -> None:
    del stage, seconds


def build(
    config: build_config.BuildConfig,
    on_stage: Callable[[str, float], None] = _ignore,
) -> manifests.Manifest:
    """Builds a dataset, or continues an earlier build in the same folder.

    Args:
      on_stage: called after each stage with its name and the seconds that it
        took. It is never called if the folder already holds the dataset.

    Returns:
      The manifest that is in the folder of the dataset.

    Raises:
      UserError: if the text or the options are wrong, or if an earlier build
        in the folder had other text or other options.
      RuntimeError: if a unit failed by a defect of this program.
    """
    work = build_config.Work(_resolve(config.dataset), config.output_dir)
    vocab = vocabulary.read(
        work.config.vocab_file,
        work.config.lower_case,
        work.config.strip_accents,
    )
    # Everything below reads files that another build might be writing.
    with locks.locked(work.output_dir):
        manifest = _read_finished(work, vocab)
        if manifest is None:
            workers = _make_engine(work, config)
            manifest = _build(work, vocab, workers, on_stage)
        # Also for a finished dataset: its build may have been killed before
        # it removed these files.
        _remove_work_files(work)
        return manifest


def _resolve(config: build_config.DatasetConfig) -> build_config.DatasetConfig:
    """Fills in options whose default depends on other options."""
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


def _read_finished(
    work: build_config.Work, vocab: vocabulary.Vocabulary
) -> manifests.Manifest | None:
    """The manifest of a finished dataset of the same options and text.

    Returns:
      None if the folder holds no finished dataset.

    Raises:
      UserError: if the folder holds a dataset of other options or text.
    """
    path = f"{work.output_dir}/{manifests.MANIFEST_NAME}"
    with file_errors.naming(path):
        if not tf.io.gfile.exists(path):
            return None
    manifest = manifests.read(work.output_dir)
    origin.refuse_other_options(work, manifest.options, vocab)
    earlier = {source["path"]: source for source in manifest.sources}
    try:
        inputs = documents.identify(extract.stage(work).units)
    except errors.UserError:
        inputs = {}  # A finished dataset no longer needs its text.
    origin.refuse_other_inputs(work, earlier, earlier | inputs)
    manifests.check_dataset(work.output_dir, manifest)
    return manifest


def _make_engine(
    work: build_config.Work, config: build_config.BuildConfig
) -> engine.Engine:
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
    return beam.BeamEngine(work.dir, flags, config.dataset.source.input)


def _build(
    work: build_config.Work,
    vocab: vocabulary.Vocabulary,
    workers: engine.Engine,
    on_stage: Callable[[str, float], None],
) -> manifests.Manifest:
    extract_stage = extract.stage(work)
    inputs = documents.identify(extract_stage.units)
    with workers:
        origin.settle(work, vocab, inputs, extract_stage)
        files.remove_temporary_files(work.output_dir)
        work = _with_own_vocabulary(work, vocab)

        def run(stage: work_units.Stage[Any]) -> list[work_units.Summary]:
            started = time.monotonic()
            summaries = workers.run(stage)
            on_stage(stage.name, time.monotonic() - started)
            return summaries

        manifest, near_duplicates = _run_stages(work, vocab, extract_stage, run)
    _refuse_empty_input(manifest)
    _refuse_empty_split(manifest)
    losses.warn(manifest)
    vocab.write(f"{work.output_dir}/{vocabulary.FILE_NAME}")
    files.write_json(
        f"{work.output_dir}/{manifests.NEAR_DUPLICATES_NAME}", near_duplicates
    )
    manifests.check_dataset(work.output_dir, manifest)
    manifests.write(work.output_dir, manifest)
    return manifest


def _with_own_vocabulary(
    work: build_config.Work, vocab: vocabulary.Vocabulary
) -> build_config.Work:
    """Copies the vocabulary into the work folder, for the workers.

    Workers on any machine can read it there, and nobody edits it during the
    build.
    """
    path = f"{work.dir}/{vocabulary.FILE_NAME}"
    vocab.write(path)
    return dataclasses.replace(
        work, config=dataclasses.replace(work.config, vocab_file=path)
    )


def _run_stages(
    work: build_config.Work,
    vocab: vocabulary.Vocabulary,
    extract_stage: work_units.Stage[Any],
    run: Callable[[work_units.Stage[Any]], list[work_units.Summary]],
) -> tuple[manifests.Manifest, list[dict[str, Any]]]:
    """Returns the manifest, not written yet, and pairs of near duplicates."""
    redirects_stage = template_redirects.stage(work, extract_stage.units)
    redirects = run(redirects_stage) if redirects_stage.units else []
    template_redirects.write(work, redirects)
    extracted = run(extract_stage)
    parts = extract.document_parts_of(work, extracted)
    if not parts:
        raise errors.UserError(_why_nothing_is_kept(work, extracted))
    find_stage = deduplicate.find_stage(work, parts)
    run(find_stage)
    (resolved,) = run(deduplicate.resolve_stage(work, parts, find_stage))
    parts = deduplicate.weigh_parts(work, parts, resolved)
    plan = shard_plan.plan_shards(work.config, parts)
    rows_stage = make_rows.stage(work, parts, plan)
    row_summaries = run(rows_stage)
    shard_summaries = run(write_shards.stage(work, len(rows_stage.units), plan))
    manifest = build_manifest.make(
        work,
        vocab,
        parts,
        document_summaries=[
            *extracted,
            resolved,
            *(summary["sampling"] for summary in row_summaries),
        ],
        row_summaries=row_summaries,
        shard_summaries=shard_summaries,
    )
    return manifest, resolved["examples"]


def _why_nothing_is_kept(
    work: build_config.Work, extracted: Sequence[work_units.Summary]
) -> str:
    for summary in extracted:
        for fault in summary["faults"].values():
            return fault
    counts = build_manifest.document_counts(extracted)
    inputs = ", ".join(work.config.source.input)
    remedy = "check source, text_field, title_field and min_document_chars"
    return f"no document was kept of {inputs}: {_loss(counts, remedy)}"


def _refuse_empty_input(manifest: manifests.Manifest) -> None:
    """Refuses a weight that leaves no training document of an input."""
    kept, not_sampled = collections.Counter[str](), collections.Counter[str]()
    weights = {}
    for source in manifest.sources:
        kept[source["input"]] += source["kept"]
        not_sampled[source["input"]] += source["dropped"].get("not_sampled", 0)
        weights[source["input"]] = source["weight"]
    is_without_train = not manifest.splits[records.TRAIN].num_documents
    for pattern, number in not_sampled.items():
        if number and (is_without_train or not kept[pattern]):
            raise errors.UserError(
                f"input={pattern!r}: weight={weights[pattern]:g}, which weight "
                f"or max_mb sets, leaves none of its {number} training "
                f"documents; give weight={min(1, 3 / number):.1g} or more, or "
                "leave the input out."
            )


def _refuse_empty_split(manifest: manifests.Manifest) -> None:
    for name in records.SPLITS:
        split = manifest.splits[name]
        if split.shards and not split.num_examples:
            fraction = manifest.options.get(f"{name}_fraction", "the rest")
            counts = manifest.documents
            raise errors.UserError(
                f"none of the {counts['kept']} documents that were kept fell "
                f"into {name} (its share: {fraction}): "
                + _loss(counts, "give more text or other shares")
            )


def _loss(counts: Mapping[str, Any], else_remedy: str) -> str:
    """Tells how many documents were dropped, why, and what to do.

    Args:
      counts: of documents, as in the manifest.
      else_remedy: what to do if there are several reasons.
    """
    num_read, dropped = counts["read"], counts["dropped"]
    loss = drop_reasons.find_loss(num_read, dropped)
    if not loss:
        loss = f"{drop_reasons.count(num_read, dropped)}; {else_remedy}"
    return f"{loss}."


def _remove_work_files(work: build_config.Work) -> None:
    """Removes the files that a finished dataset does not need."""
    with file_errors.naming(work.dir):
        if not tf.io.gfile.exists(origin.path_of(work)):
            return
    files.remove_temporary_files(work.output_dir)
    # The file of the origin must be the last: if a build is killed here, the
    # next one finds the work folder by it.
    for name in files.list_names(work.dir):
        if tf.io.gfile.isdir(f"{work.dir}/{name}"):
            files.remove_directory(f"{work.dir}/{name}")
    files.remove_directory(work.dir)
