"""The manifest of a build, from the summaries of its stages."""

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bert_pretrain import files
from bert_pretrain.data import manifests, records, vocabulary
from tfrecord_builders.building import origin
from tfrecord_builders.engines import work_units
from tfrecord_builders.quality import filters, quality_config
from tfrecord_builders.stages import build_config, document_parts
from tfrecord_builders.tokens import language_counts

# Counts that are not documents dropped for this reason.
NOTES = (
    "boilerplate_lines",
    "articles_with_sections",
    "unknown_last_sections",
    "charsets_guessed",
    "texts_with_nul",
    "texts_with_undecodable_bytes",
)
_NUM_HEADINGS = 10


def make(
    work: build_config.Work,
    vocab: vocabulary.Vocabulary,
    parts: Sequence[document_parts.DocumentPart],
    *,
    document_summaries: Sequence[work_units.Summary],
    row_summaries: Sequence[work_units.Summary],
    shard_summaries: Sequence[work_units.Summary],
) -> manifests.Manifest:
    """Makes the manifest.

    Args:
      document_summaries: of all stages that count documents by file.
      row_summaries: of the stage "rows".
      shard_summaries: of the stage "shards".
    """
    config, row_counts = work.config, _sum_counts(row_summaries)
    weights = {
        source.path: part.weight for part in parts for source in part.sources
    }
    return manifests.Manifest(
        seq_length=config.rows.seq_length,
        max_predictions_per_seq=config.masking.max_predictions_per_seq,
        pairing=config.rows.pairing,
        masking=config.masking.masking,
        is_packed=config.rows.packing,
        vocab_size=vocab.size,
        vocab_sha256=vocab.sha256,
        is_lower_case=vocab.is_lower_case,
        strips_accents=vocab.strips_accents,
        splits={
            name: _split(name, config, row_counts, shard_summaries)
            for name in records.SPLITS
        },
        options=origin.dataset_options(config, vocab),
        sources=tuple(_sources(work, weights, document_summaries)),
        documents=document_counts(document_summaries)
        | _unknown_headings(document_summaries)
        | _thresholds(config.filters),
        rows={
            name: sum(row_counts[f"{split}_{name}"] for split in records.SPLITS)
            for name in ("num_tokens_cut", "num_documents_unpaired")
        },
        languages=language_counts.add(
            summary["languages"]
            for summary in (*document_summaries, *row_summaries)
            if "languages" in summary
        ),
    )


def document_counts(summaries: Iterable[work_units.Summary]) -> dict[str, Any]:
    """Counts the documents of all files that were read, kept and dropped.

    Args:
      summaries: of all stages that count documents by file.
    """
    counts: collections.Counter[str] = collections.Counter()
    for summary in summaries:
        for file_counts in summary["counts"].values():
            counts.update(file_counts)
    return _kept_and_dropped(counts)


def _split(
    name: str,
    config: build_config.DatasetConfig,
    row_counts: Mapping[str, int],
    shard_summaries: Sequence[work_units.Summary],
) -> manifests.Split:
    of_split = [
        summary for summary in shard_summaries if summary["split"] == name
    ]
    counts = _sum_counts(of_split)
    shards = tuple(manifests.Shard(**summary["shard"]) for summary in of_split)
    num_examples = sum(shard.num_examples for shard in shards)
    capacity = num_examples * config.rows.seq_length
    return manifests.Split(
        num_documents=row_counts[f"{name}_documents"],
        num_examples=num_examples,
        num_tokens=counts["num_tokens"],
        num_predictions=counts["num_predictions"],
        num_random_next=counts["num_random_next"],
        padding_fraction=round(1 - counts["num_tokens"] / max(1, capacity), 4),
        unpacked_padding_fraction=_unpacked_padding(name, config, row_counts),
        max_id=max(
            (summary["counts"].get("max_id", 0) for summary in of_split),
            default=0,
        ),
        shards=shards,
    )


def _unpacked_padding(
    name: str,
    config: build_config.DatasetConfig,
    row_counts: Mapping[str, int],
) -> float | None:
    if not config.rows.packing:
        return None
    capacity = row_counts[f"{name}_num_rows_unpacked"] * config.rows.seq_length
    num_tokens = row_counts[f"{name}_num_tokens_unpacked"]
    return round(1 - num_tokens / max(1, capacity), 4)


def _sources(
    work: build_config.Work,
    weights: Mapping[str, float],
    summaries: Iterable[work_units.Summary],
) -> Iterator[dict[str, Any]]:
    """Yields the manifest's entry for each input file."""
    inputs = files.read_json(origin.path_of(work))["inputs"]
    by_path: dict[str, collections.Counter[str]] = {
        path: collections.Counter() for path in inputs
    }
    faults: dict[str, str] = {}
    for summary in summaries:
        faults = summary.get("faults", {}) | faults
        for path, counts in summary["counts"].items():
            by_path[path].update(counts)
    for path, counts in sorted(by_path.items()):
        yield {
            "path": path,
            **inputs[path],
            # The pattern instead of its number, which means little here.
            "input": work.config.source.input[inputs[path]["input"]],
            "weight": round(weights.get(path, 1.0), 6),
            **_kept_and_dropped(counts),
            "first_fault": faults.get(path, ""),
        }


def _unknown_headings(
    summaries: Iterable[work_units.Summary],
) -> dict[str, dict[str, int]]:
    """The most frequent titles of last sections that no table knows."""
    headings: collections.Counter[str] = collections.Counter()
    for summary in summaries:
        headings.update(summary.get("unknown_headings", {}))
    return {"unknown_headings": dict(headings.most_common(_NUM_HEADINGS))}


def _thresholds(config: quality_config.FiltersConfig) -> dict[str, Any]:
    if config.filters == "none":
        return {}
    return {"thresholds": filters.THRESHOLDS}


def _kept_and_dropped(counts: Mapping[str, int]) -> dict[str, Any]:
    dropped = {
        name: n
        for name, n in counts.items()
        if name != "read" and name not in NOTES
    }
    return {
        "read": counts["read"],
        "kept": counts["read"] - sum(dropped.values()),
        "dropped": dict(sorted(dropped.items())),
        **{name: counts.get(name, 0) for name in NOTES},
    }


def _sum_counts(
    summaries: Iterable[work_units.Summary],
) -> collections.Counter[str]:
    return sum(
        (collections.Counter(summary["counts"]) for summary in summaries),
        collections.Counter(),
    )
