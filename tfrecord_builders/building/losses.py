"""Warnings of inputs and files that lost documents."""

import collections
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bert_pretrain import errors
from bert_pretrain.data import manifests
from tfrecord_builders.quality import drop_reasons

# Of a file with fewer documents, all may be dropped by chance.
_MIN_DOCUMENTS_OF_FILE = 10
# More would hide the summary.
_MAX_WARNINGS = 5


def warn(manifest: manifests.Manifest) -> None:
    """Warns of each input that lost nearly all documents for one reason.

    Of the other inputs, it warns of each such file, and of each file without a
    document or with a fault that the user can mend.
    """
    of_input: dict[str, list[Mapping[str, Any]]] = collections.defaultdict(list)
    for source in manifest.sources:
        of_input[source["input"]].append(source)
    warnings: list[str] = []
    for pattern, sources in of_input.items():
        if loss := _find_loss(sources):
            warnings.append(f"{pattern}: {loss}.")
            continue
        for source in sources:
            warnings += _warnings_of_file(source)
    for warning in warnings[:_MAX_WARNINGS]:
        errors.warn(warning)
    if num_more := len(warnings[_MAX_WARNINGS:]):
        errors.warn(
            f"{num_more} more files lost documents; see `sources` in "
            "manifest.json."
        )


def _warnings_of_file(source: Mapping[str, Any]) -> Iterator[str]:
    if not source["read"]:
        yield f"{source['path']}: no document is in it."
    if source["read"] >= _MIN_DOCUMENTS_OF_FILE:
        if loss := _find_loss([source]):
            yield f"{source['path']}: {loss}."
    if source["first_fault"]:
        yield source["first_fault"]


def _find_loss(sources: Iterable[Mapping[str, Any]]) -> str:
    num_read = 0
    dropped: collections.Counter[str] = collections.Counter()
    for source in sources:
        num_read += source["read"]
        dropped.update(source["dropped"])
    return drop_reasons.find_loss(num_read, dropped)
