"""The stages that find duplicates, and decide which documents to leave out."""

import collections
import dataclasses
import functools

from tfrecord_builders.engines import engine
from tfrecord_builders.sources import documents
from tfrecord_builders.stages import duplicates


def find_stage(work, all_parts):
    config = work.config.deduplication
    units = duplicates.plan(all_parts, config)
    num_documents = sum(part.num_documents for part in all_parts)
    return engine.Stage(
        name="deduplicate",
        item="keys",
        units=units,
        run=functools.partial(_deduplicate, config, all_parts),
        num_bytes=8 * num_documents * len(units),
    )


def _deduplicate(config, all_parts, unit, prefix, progress):
    links = duplicates.find(
        all_parts, config, unit, prefix + ".links", progress
    )
    return {"num_links": links}


def resolve_stage(work, all_parts, deduplicate):
    return engine.Stage(
        name="resolve",
        item="documents",
        units=[deduplicate.units],
        run=functools.partial(_resolve, work, all_parts),
        num_bytes=0,
    )


def _resolve(work, all_parts, units, prefix, progress):
    del progress
    counts, num_dropped, examples = duplicates.resolve(
        all_parts,
        units,
        [f"{work.dir}/deduplicate/{i:05d}.links" for i in range(len(units))],
        prefix + ".dropped",
    )
    return {"counts": counts, "num_dropped": num_dropped, "examples": examples}


def weigh_parts(work, all_parts, resolved):
    """The parts with the weights that the options ask for their inputs."""
    num_bytes = collections.Counter()
    for part, num_dropped in zip(
        all_parts, resolved["num_dropped"], strict=True
    ):
        num_kept = part.num_documents - num_dropped
        num_bytes[part.input] += part.num_bytes * num_kept / part.num_documents
    weights = {
        number: documents.capped_weight(work.config.source, number, count)
        for number, count in num_bytes.items()
    }
    return [
        dataclasses.replace(part, weight=weights[part.input])
        for part in all_parts
    ]
