"""The report's page: a dataset's manifest and a sample of it, as HTML."""

import collections
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_pretrain.data import manifests, records, vocabulary
from tfrecord_builders.reporting import (
    charts,
    inputs,
    language_shares,
    statistics,
    style,
)

_NUM_BINS = 32
_NUM_INPUTS_SHOWN = 20
_NUM_LANGUAGES_SHOWN = 20
# In the diagram: more inputs have too many bands to tell them apart.
_NUM_INPUTS_DRAWN = 8
_NAME_CHARS = 35  # of an input's name in the diagram


def render(
    data_dir: str,
    manifest: manifests.Manifest,
    samples: Mapping[str, statistics.Sample],
    near_duplicates: Sequence[Mapping[str, Any]],
) -> str:
    """Returns the page as HTML.

    Args:
      samples: by split; the training split, and a split whose rows have masks.
      near_duplicates: some pairs, as the builder writes them to
        near_duplicates.json.
    """
    sample = samples[records.TRAIN]
    split = statistics.split_with_masks(manifest)
    decoded = samples[split].decoded
    sections = [
        ("Where the documents went", _flow(manifest)),
        ("Sources", _sources(manifest) + _last_sections(manifest)),
        *([("Languages", _languages(manifest))] if manifest.languages else []),
        ("Splits", _splits(manifest)),
        ("Lengths", _lengths(manifest, sample)),
        ("Masks: asked and found", _masks(manifest, split, samples[split])),
        ("Most frequent tokens", charts.bars(sample.tokens)),
        ("Near-duplicates", _near_duplicates(near_duplicates)),
        (
            f"{len(decoded)} examples",
            _legend(manifest, split)
            + "".join(f"<p>{text}</p>" for text in decoded),
        ),
        ("Options", _options(manifest)),
    ]
    body = "".join(
        f"<section><h2>{html.escape(title)}</h2>{content}</section>"
        for title, content in sections
    )
    title = html.escape(f"Records in {data_dir}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        # Without this icon a browser would ask the server for one. The policy
        # forbids all other requests.
        '<link rel="icon" href="data:,">'
        '<meta http-equiv="Content-Security-Policy" content="default-src '
        "'none'; style-src 'unsafe-inline'; img-src data:\">"
        f"<title>{title}</title><style>{style.CSS}</style></head>"
        f"<body><main><h1>{title}</h1>{_tiles(manifest)}{body}</main></body>"
        "</html>\n"
    )


def _tiles(manifest: manifests.Manifest) -> str:
    train = manifest.splits[records.TRAIN]
    num_bytes = sum(
        shard.num_bytes
        for split in manifest.splits.values()
        for shard in split.shards
    )
    padding = "padding"
    if train.unpacked_padding_fraction is not None:
        padding += f", {train.unpacked_padding_fraction:.1%} if not packed"
    tiles = [
        ("training examples", _in_short(train.num_examples)),
        ("training tokens", f"{train.num_tokens / 1e6:,.1f} M"),
        (padding, f"{train.padding_fraction:.1%}"),
        ("on disk", f"{num_bytes / 2**20:,.1f} MB"),
        ("vocabulary", f"{manifest.vocab_size:,}"),
    ]
    if inputs.are_known(manifest):
        kept = _in_short(manifest.documents["kept"])
        tiles.insert(0, ("documents kept", kept))
    return (
        '<div class="tiles">'
        + "".join(f"<div><b>{value}</b>{name}</div>" for name, value in tiles)
        + "</div>"
    )


def _in_short(count: int) -> str:
    """A count that is short enough for a tile."""
    return f"{count / 1e6:,.1f} M" if count >= 1e7 else f"{count:,}"


def _flow(manifest: manifests.Manifest) -> str:
    if not inputs.are_known(manifest):
        return "<p>Not known: another builder made the records.</p>"
    counts = manifest.documents
    largest = inputs.largest(manifest, _NUM_INPUTS_DRAWN)
    outcomes = _portions(inputs.count_outcomes(counts))
    num_documents = _num_documents(manifest)
    # A kept document without tokens is in no split.
    splits = [
        charts.Portion(name, count)
        for name, count in num_documents.items()
        if count
    ]
    into_outcomes = [
        (0, i, j, entry.outcomes[outcome.name])
        for i, entry in enumerate(largest)
        for j, outcome in enumerate(outcomes)
        if entry.outcomes[outcome.name]
    ]
    into_splits = [(1, 0, i, split.count) for i, split in enumerate(splits)]
    num_train = num_documents[records.TRAIN]
    num_with_copies = manifest.splits[records.TRAIN].num_documents
    return charts.flow(
        [
            (
                f"read {counts['read']:,}",
                [
                    charts.Portion(_shorten(entry.name), entry.outcomes.total())
                    for entry in largest
                ],
            ),
            (
                f"kept {counts['kept']:,}, "
                f"dropped {counts['read'] - counts['kept']:,}",
                outcomes,
            ),
            ("in the dataset", splits),
        ],
        into_outcomes + into_splits,
    ) + (
        f"<p>Because of the weights, the dataset holds the {num_train:,} "
        f"training documents {num_with_copies:,} times.</p>"
        if num_with_copies > num_train
        else ""
    )


def _portions(outcomes: collections.Counter[str]) -> list[charts.Portion]:
    """The kept documents, then the dropped ones, most frequent reason first."""
    return [
        charts.Portion("kept", outcomes["kept"]),
        *(
            charts.Portion(reason, count, is_dropped=True)
            for reason, count in outcomes.most_common()
            if reason != "kept" and count
        ),
    ]


def _num_documents(manifest: manifests.Manifest) -> dict[str, int]:
    """The documents of each split, without the copies that weights make."""
    counts = {
        name: manifest.splits[name].num_documents for name in records.SPLITS
    }
    if inputs.are_known(manifest):
        # Only training documents have copies.
        held_out = counts[records.EVAL] + counts[records.TEST]
        once = manifest.documents["kept"] - held_out
        counts[records.TRAIN] = min(counts[records.TRAIN], once)
    return counts


def _shorten(name: str) -> str:
    """The end of a long name; files in one folder differ at the end."""
    if len(name) <= _NAME_CHARS:
        return name
    return "…" + name[1 - _NAME_CHARS :]


def _sources(manifest: manifests.Manifest) -> str:
    """A bar and numbers for each input; all bars have the same width."""
    return (
        "".join(
            f'<div class="source">{html.escape(entry.name)}'
            f"{charts.shares(_portions(entry.outcomes))}"
            f"<small>{html.escape(_describe(entry))}</small></div>"
            for entry in inputs.largest(manifest, _NUM_INPUTS_SHOWN)
        )
        or "<p>Not known: another builder made the records.</p>"
    )


def _last_sections(manifest: manifests.Manifest) -> str:
    """How many articles end with a section that no table knows, and which."""
    counts = manifest.documents
    num_articles = counts.get("articles_with_sections", 0)
    if not num_articles:
        return ""
    titles = ", ".join(
        f"{html.escape(title)} ({count:,})"
        for title, count in counts["unknown_headings"].items()
    )
    return (
        f"<p>{counts['unknown_last_sections'] / num_articles:.1%} of "
        f"{num_articles:,} articles with sections do not end with a known list "
        f"of works or links{': ' if titles else ''}{titles}.</p>"
    )


def _describe(entry: inputs.Input) -> str:
    kept, *dropped = _portions(entry.outcomes)
    num_read = entry.outcomes.total()
    return (
        (f"{entry.num_files:,} files: " if entry.num_files > 1 else "")
        + f"{num_read:,} read, {kept.count:,} kept "
        f"({kept.count / max(1, num_read):.1%})"
        + (", dropped: " if dropped else "")
        + ", ".join(f"{reason.name} {reason.count:,}" for reason in dropped)
    )


def _languages(manifest: manifests.Manifest) -> str:
    """What became of the text in each language."""
    rows = [
        [language or "not known", *language_shares.describe(counts)]
        for language, counts in sorted(
            manifest.languages.items(), key=lambda entry: -entry[1]["read"]
        )[:_NUM_LANGUAGES_SHOWN]
    ]
    return _table(["language", *language_shares.TITLES], rows) + (
        "<p>The language is the one of the wiki, that of --language, or a "
        "guess from the words. Kept: by the filters, before duplicates are "
        "dropped. Marks: brackets, braces, quotes and tags that may be left of "
        "markup. A language with few documents kept, many tokens per word or "
        f"many {vocabulary.UNK} needs other filters or another vocabulary.</p>"
    )


def _splits(manifest: manifests.Manifest) -> str:
    num_documents = _num_documents(manifest)
    train = manifest.splits[records.TRAIN]
    left_out = set()
    if train.num_documents <= num_documents[records.TRAIN]:
        left_out.add("with copies")
    if train.unpacked_padding_fraction is None:
        left_out.add("if not packed")
    rows = [
        {
            "split": name,
            "documents": f"{num_documents[name]:,}",
            "with copies": f"{split.num_documents:,}",
            "examples": f"{split.num_examples:,}",
            "tokens": f"{split.num_tokens:,}",
            "padding": f"{split.padding_fraction:.1%}",
            "if not packed": f"{split.unpacked_padding_fraction or 0:.1%}",
            "predictions": f"{split.num_predictions:,}",
            "shards": f"{len(split.shards):,}",
        }
        for name in records.SPLITS
        for split in [manifest.splits[name]]
    ]
    head = [name for name in rows[0] if name not in left_out]
    return _table(head, [[row[name] for name in head] for row in rows])


def _lengths(manifest: manifests.Manifest, sample: statistics.Sample) -> str:
    drawn = "".join(
        f"<div><h3>{html.escape(name)}</h3>"
        f"{charts.histogram(_bins(values))}</div>"
        for name, values in sample.values.items()
        if values.any()
    )
    mean = (
        sample.values[statistics.TOKENS_TITLE].mean()
        if sample.num_examples
        else 0
    )
    before = manifest.splits[records.TRAIN].unpacked_padding_fraction
    return (
        f'<div class="charts">{drawn}</div>'
        f"<p>Mean {mean:.1f} of {manifest.seq_length} tokens, with special "
        f"tokens; {1 - mean / manifest.seq_length:.1%} of the positions are "
        f"padding, in {sample.num_examples:,} training examples."
        + (
            f" With one document in each row, {before:.1%} would be padding."
            if before is not None
            else ""
        )
        + "</p>"
    )


def _bins(values: np.ndarray) -> list[tuple[str, int]]:
    """(range of a bin, number of values in it), up to the largest value."""
    first, last = min(1, values.min()), values.max()
    width = -(-(last - first + 1) // _NUM_BINS)
    counts = np.bincount((values - first) // width)
    return [
        (f"{low}" if low == high else f"{low} – {high}", int(count))
        for low, count in zip(
            range(first, last + 1, width), counts, strict=True
        )
        for high in [min(low + width - 1, last)]
    ]


def _masks(
    manifest: manifests.Manifest, split: str, sample: statistics.Sample
) -> str:
    is_dynamic = manifest.masking == "none"
    note = "<p>The training rows have no masks: the trainer masks them.</p>"
    if is_dynamic and split == records.TRAIN:
        return note
    # With dynamic masking the builder masks held-out rows by token.
    masking = "token" if is_dynamic else manifest.masking.replace("_", " ")
    return (
        (note if is_dynamic else "")
        + _table(
            ["", "asked", f"found in {split}"], _mask_rates(manifest, sample)
        )
        + f"<p>Masked by {masking}, at most "
        f"{manifest.max_predictions_per_seq} predictions in an example.</p>"
    )


def _mask_rates(
    manifest: manifests.Manifest, sample: statistics.Sample
) -> list[list[str]]:
    """Rows of (name, rate in the options, rate in the sample)."""
    asked = manifest.options
    if "masked_fraction" not in asked:  # Another builder made the records.
        asked = dict.fromkeys(
            "masked_fraction mask_token_fraction random_token_fraction".split(),
            math.nan,
        )
    total = max(1, sample.num_predictions)
    random_share = asked["random_token_fraction"]
    mask_share = asked["mask_token_fraction"]
    expected = {
        "[MASK]": mask_share,
        "random": random_share,
        "kept": 1 - mask_share - random_share,
    }
    return [
        [
            "tokens predicted",
            _percentage(asked["masked_fraction"]),
            f"{sample.num_predictions / max(1, sample.num_maskable):.1%}",
        ],
        *(
            [
                f"of these: {name}",
                _percentage(share),
                f"{sample.replacements.get(name, 0) / total:.1%}",
            ]
            for name, share in expected.items()
        ),
    ]


def _percentage(share: float) -> str:
    return "not known" if math.isnan(share) else f"{share:.1%}"


def _near_duplicates(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Dropped documents next to the earlier documents that they resemble."""
    if not pairs:
        return "<p>None were found, or the build did not look for them.</p>"
    return (
        "<p>Right: a dropped document. Left: an earlier document that it "
        "resembles. The earlier document was dropped too if it resembles a "
        "document before it.</p>"
    ) + "".join(
        f"<p>Similarity {pair['similarity']:.2f}</p>"
        '<div class="pair">'
        + "".join(
            f"<div><small>{name}: {html.escape(pair[key]['id'])}</small>"
            f"{html.escape(pair[key]['text'])}</div>"
            for name, key in (("earlier", "earlier"), ("dropped", "later"))
        )
        + "</div>"
        for pair in pairs
    )


def _legend(manifest: manifests.Manifest, split: str) -> str:
    origin = ""
    if manifest.masking == "none":
        if split == records.TRAIN:
            return (
                "<p>They hold no masks: the trainer masks rows when it reads "
                "them, and there are no held-out rows.</p>"
            )
        origin = (
            f"<p>From {split}: the training rows hold no masks, because the "
            "trainer masks them.</p>"
        )
    return (
        f'{origin}<p class="legend"><span class="mask">[MASK]<b>answer</b>'
        '</span> <span class="random">replaced<b>answer</b></span> '
        '<span class="kept">kept</span></p>'
    )


def _options(manifest: manifests.Manifest) -> str:
    rows = [
        [name, str(value)] for name, value in sorted(manifest.options.items())
    ]
    return _table(["option", "value"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        inside = "".join(
            f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells
        )
        return f"<tr>{inside}</tr>"

    return (
        '<div class="scroll"><table>'
        + row(head, "th")
        + "".join(row(cells, "td") for cells in rows)
        + "</table></div>"
    )
