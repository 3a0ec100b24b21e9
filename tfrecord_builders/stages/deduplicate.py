"""The stages that find duplicates and choose the documents to leave out."""

import collections
import dataclasses
import functools
from collections.abc import Sequence

from tfrecord_builders.engines import work_units
from tfrecord_builders.quality import quality_config
from tfrecord_builders.sources import documents
from tfrecord_builders.stages import build_config, document_parts, duplicates


def find_stage(
    work: build_config.Work, parts: Sequence[document_parts.DocumentPart]
) -> work_units.Stage[duplicates.KeyRange]:
    """The stage that writes the links between duplicates."""
    config = work.config.deduplication
    units = duplicates.plan(parts, config)
    num_documents = sum(part.num_documents for part in parts)
    return work_units.Stage(
        name="deduplicate",
        item="keys",
        units=units,
        run=functools.partial(_find, config, parts),
        num_bytes=8 * num_documents * len(units),
    )


def resolve_stage(
    work: build_config.Work,
    parts: Sequence[document_parts.DocumentPart],
    find: work_units.Stage[duplicates.KeyRange],
) -> work_units.Stage[Sequence[duplicates.KeyRange]]:
    """The stage that chooses the documents to leave out, in a single unit.

    Args:
      find: the stage that wrote the links.
    """
    return work_units.Stage(
        name="resolve",
        item="documents",
        units=[find.units],
        run=functools.partial(_resolve, work, parts),
        num_bytes=0,
    )


def weigh_parts(
    work: build_config.Work,
    parts: Sequence[document_parts.DocumentPart],
    resolved: work_units.Summary,
) -> list[document_parts.DocumentPart]:
    """Sets the weights of the parts by the options of their inputs.

    Args:
      resolved: the summary of the stage "resolve".
    """
    # Text of each input without its duplicates, approximately.
    num_bytes: collections.defaultdict[int, float] = collections.defaultdict(
        float
    )
    for part, num_dropped in zip(parts, resolved["num_dropped"], strict=True):
        num_kept = part.num_documents - num_dropped
        num_bytes[part.input] += part.num_bytes * num_kept / part.num_documents
    weights = {
        number: documents.capped_weight(work.config.source, number, count)
        for number, count in num_bytes.items()
    }
    return [
        dataclasses.replace(part, weight=weights[part.input]) for part in parts
    ]


def _find(
    config: quality_config.DeduplicationConfig,
    parts: Sequence[document_parts.DocumentPart],
    unit: duplicates.KeyRange,
    prefix: str,
    progress: work_units.UnitProgress,
) -> work_units.Summary:
    num_links = duplicates.find(
        parts, config, unit, prefix + ".links", progress
    )
    return {"num_links": num_links}


def _resolve(
    work: build_config.Work,
    parts: Sequence[document_parts.DocumentPart],
    key_ranges: Sequence[duplicates.KeyRange],
    prefix: str,
    progress: work_units.UnitProgress,
) -> work_units.Summary:
    del progress
    counts, num_dropped, examples = duplicates.resolve(
        parts,
        key_ranges,
        [
            f"{work.dir}/deduplicate/{i:05d}.links"
            for i in range(len(key_ranges))
        ],
        prefix + ".dropped",
    )
    return {"counts": counts, "num_dropped": num_dropped, "examples": examples}
