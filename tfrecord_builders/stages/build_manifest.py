"""The manifest of a build, from the summaries of its stages."""

import collections

from bert_pretrain import files
from bert_pretrain.data import manifests, records
from tfrecord_builders.quality import filters
from tfrecord_builders.stages import origin


def _sum_counts(summaries):
    return sum(
        (collections.Counter(summary["counts"]) for summary in summaries),
        collections.Counter(),
    )


def make(work, vocab, parts, counted, row_summaries, written):
    """The manifest, from the parts and the summaries of the stages.

    Args:
      counted: summaries that have counts of documents by file.
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
        splits={
            name: _split(name, config, row_counts, written)
            for name in records.SPLITS
        },
        options=origin.dataset_options(config, vocab),
        sources=tuple(_sources(work, weights, counted)),
        documents=document_counts(counted) | _state_thresholds(config.filters),
        rows={
            name: sum(row_counts[f"{split}_{name}"] for split in records.SPLITS)
            for name in ("num_tokens_cut", "num_documents_unpaired")
        },
    )


def _split(name, config, row_counts, written):
    mine = [summary for summary in written if summary["split"] == name]
    counts = _sum_counts(mine)
    shards = tuple(manifests.Shard(**summary["shard"]) for summary in mine)
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
    inputs = files.read_json(origin.path_of(work))["inputs"]
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


def document_counts(counted):
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
