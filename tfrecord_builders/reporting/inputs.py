"""The inputs of a dataset, and how many of their documents were kept."""

import collections
from collections.abc import Mapping
from typing import Any, NamedTuple

from bert_pretrain.data import manifests


class Input(NamedTuple):
    """One --input, or several small ones together."""

    name: str
    num_files: int
    outcomes: collections.Counter[str]


def are_known(manifest: manifests.Manifest) -> bool:
    """Whether the builder counted the documents; not so in adopted records."""
    return bool(manifest.documents.get("read"))


def largest(manifest: manifests.Manifest, at_most: int) -> list[Input]:
    """The largest inputs, and one more that stands for all others."""
    num_files: collections.Counter[str] = collections.Counter()
    outcomes: dict[str, collections.Counter[str]] = collections.defaultdict(
        collections.Counter
    )
    for source in manifest.sources:
        # Manifests of earlier versions do not name the --input of a file.
        name = source.get("input", source["path"])
        num_files[name] += 1
        outcomes[name] += count_outcomes(source)
    inputs = sorted(
        (
            Input(name, num_files[name], counts)
            for name, counts in outcomes.items()
        ),
        key=lambda entry: -entry.outcomes.total(),
    )
    shown, others = inputs[:at_most], inputs[at_most:]
    if others:
        all_outcomes: collections.Counter[str] = collections.Counter()
        for entry in others:
            all_outcomes += entry.outcomes
        shown.append(
            Input(
                f"and {len(others):,} more",
                sum(entry.num_files for entry in others),
                all_outcomes,
            )
        )
    return shown


def count_outcomes(counts: Mapping[str, Any]) -> collections.Counter[str]:
    """Counts documents as "kept", or by the reason why they were dropped.

    Args:
      counts: `kept` and `dropped`, as the manifest has them.
    """
    outcomes = collections.Counter(kept=counts["kept"])
    for reason, count in counts["dropped"].items():
        outcomes[reason.replace("_", " ")] = count
    return outcomes
