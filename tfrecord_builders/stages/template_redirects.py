"""The stage that finds other names of templates in Wikipedia dumps.

A template has many names: {{Zit}} leads to {{Zitat}}. A dump's pages say so,
and may stand after the articles or in another file. So all dumps are searched
before any article is read.
"""

import collections
import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bert_pretrain import files
from tfrecord_builders.engines import work_units
from tfrecord_builders.sources import documents
from tfrecord_builders.stages import build_config
from tfrecord_builders.wikitext import expansions

_NAME = "template_redirects"


def stage(
    work: build_config.Work, units: Sequence[Sequence[documents.Span]]
) -> work_units.Stage[list[documents.Span]]:
    """The stage; a unit is spans of dumps, and may have none to read.

    The summary of a unit has, for each wiki, its `language` and `redirects`.

    Args:
      units: those of the stage that reads the documents.
    """
    is_wanted = work.config.source.template_redirects
    dumps = [
        [span for span in unit if span.source == "wikipedia"] for unit in units
    ]
    return work_units.Stage(
        name=_NAME,
        item="dumps",
        units=[unit for unit in dumps if unit and is_wanted],
        run=_find,
        num_bytes=sum(span.num_bytes for unit in dumps for span in unit),
    )


def folder_of(work: build_config.Work) -> str:
    """The folder of the stage's summaries."""
    return f"{work.dir}/{_NAME}"


def path_of(work: build_config.Work) -> str:
    """Path of the file that `write` writes."""
    return f"{work.dir}/{_NAME}.json"


def write(
    work: build_config.Work, summaries: Iterable[work_units.Summary]
) -> None:
    """Writes the redirects to templates whose text is known.

    If an earlier build in the folder found others, because a file has changed
    since then, the text that it extracted is not valid any more.
    """
    redirects = _resolve(summaries)
    is_written = os.path.basename(path_of(work)) in files.list_names(work.dir)
    if is_written and files.read_json(path_of(work)) != redirects:
        files.remove_directory(f"{work.dir}/extract")
    files.write_json(path_of(work), redirects)
    read.cache_clear()


@functools.cache
def read(path: str) -> documents.Redirects:
    """Reads what `write` wrote.

    Returns:
      For each wiki: other names of templates, and the names they stand for.
    """
    redirects: documents.Redirects = files.read_json(path)
    return redirects


def _find(
    unit: Sequence[documents.Span],
    prefix: str,
    progress: work_units.UnitProgress,
) -> work_units.Summary:
    del prefix
    wikis: dict[str, dict[str, Any]] = {}
    for span in unit:
        progress.place = span.path
        if found := documents.find_redirects(span):
            database, language, redirects = found
            wiki = wikis.setdefault(
                database, {"language": language, "redirects": {}}
            )
            wiki["redirects"] |= redirects
        progress.add(span.num_bytes, 1)
    return {"wikis": wikis}


def _resolve(summaries: Iterable[work_units.Summary]) -> documents.Redirects:
    languages: dict[str, str] = {}
    found: dict[str, dict[str, str]] = collections.defaultdict(dict)
    for summary in summaries:
        for database, wiki in summary["wikis"].items():
            languages[database] = wiki["language"]
            found[database] |= wiki["redirects"]
    return {
        database: _known(redirects, expansions.of_language(languages[database]))
        for database, redirects in sorted(found.items())
    }


def _known(
    redirects: Mapping[str, str], table: expansions.Table
) -> dict[str, str]:
    """The names that are not known, and lead to a name that is known."""
    known: dict[str, str] = {}
    for name in sorted(redirects):
        if table.find(name) is not None:
            continue
        target, seen = name, set()
        # Redirects to redirects are few, and circles are mistakes.
        while target in redirects and target not in seen:
            seen.add(target)
            target = redirects[target]
            if table.find(target) is not None:
                known[name] = target
                break
    return known
