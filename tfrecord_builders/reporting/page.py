"""The report's page: a dataset's manifest and a sample of it, as HTML."""

import collections
import html
import math
from typing import NamedTuple

import numpy as np

from bert_pretrain.data import records
from tfrecord_builders.reporting import charts, statistics

_NUM_BINS = 32
_NUM_INPUTS_SHOWN = 20
_NUM_INPUTS_DRAWN = 8  # where bands from each to each outcome can be told
_NAME_CHARS = 35  # of an input's name, beside the diagram


def render(data_dir, manifest, samples, near_duplicates):
    """The page as a string.

    Args:
      samples: by split: training, and the one whose rows have masks.
    """
    sample = samples[records.TRAIN]
    split = statistics.split_with_masks(manifest)
    decoded = samples[split].decoded
    sections = [
        ("Where the documents went", _flow(manifest)),
        ("Sources", _sources(manifest)),
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
        # No icon to ask a server for, and nothing from elsewhere.
        '<link rel="icon" href="data:,">'
        '<meta http-equiv="Content-Security-Policy" content="default-src '
        "'none'; style-src 'unsafe-inline'; img-src data:\">"
        f"<title>{title}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{title}</h1>{_tiles(manifest)}{body}</main></body>"
        "</html>\n"
    )


def _tiles(manifest):
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
    if _are_documents_known(manifest):
        kept = _in_short(manifest.documents["kept"])
        tiles.insert(0, ("documents kept", kept))
    return (
        '<div class="tiles">'
        + "".join(f"<div><b>{value}</b>{name}</div>" for name, value in tiles)
        + "</div>"
    )


def _in_short(count):
    """A count that fits into a tile."""
    return f"{count / 1e6:,.1f} M" if count >= 1e7 else f"{count:,}"


def _are_documents_known(manifest):
    """Whether the builder counted them; adopted records come without."""
    return bool(manifest.documents.get("read"))


class _Input(NamedTuple):
    """An --input, and what became of its documents."""

    name: str
    num_files: int
    outcomes: collections.Counter


def _outcomes(counts):
    """How many documents were kept and dropped, by reasons as people read."""
    dropped = {
        reason.replace("_", " "): count
        for reason, count in counts["dropped"].items()
    }
    return collections.Counter(kept=counts["kept"], **dropped)


def _parts(outcomes):
    """What was kept, then what was dropped, the most frequent first."""
    return [
        charts.Part("kept", outcomes["kept"]),
        *(
            charts.Part(reason, count, is_dropped=True)
            for reason, count in outcomes.most_common()
            if reason != "kept" and count
        ),
    ]


def _inputs(manifest, at_most):
    """The largest inputs, and all others as one."""
    num_files = collections.Counter()
    outcomes = collections.defaultdict(collections.Counter)
    for source in manifest.sources:
        # Sets of earlier builders do not tell which --input a file is of.
        name = source.get("input", source["path"])
        num_files[name] += 1
        outcomes[name] += _outcomes(source)
    inputs = sorted(
        (
            _Input(name, num_files[name], counts)
            for name, counts in outcomes.items()
        ),
        key=lambda one: -one.outcomes.total(),
    )
    shown, others = inputs[:at_most], inputs[at_most:]
    if others:
        shown.append(
            _Input(
                f"and {len(others):,} more",
                sum(one.num_files for one in others),
                sum((one.outcomes for one in others), collections.Counter()),
            )
        )
    return shown


def _num_documents(manifest):
    """The documents of each split, those that a weight repeats once."""
    counts = {
        name: manifest.splits[name].num_documents for name in records.SPLITS
    }
    if _are_documents_known(manifest):
        # Only training documents are repeated.
        held_out = counts[records.EVAL] + counts[records.TEST]
        once = manifest.documents["kept"] - held_out
        counts[records.TRAIN] = min(counts[records.TRAIN], once)
    return counts


def _flow(manifest):
    if not _are_documents_known(manifest):
        return "<p>Not known: another builder made the records.</p>"
    counts = manifest.documents
    inputs = _inputs(manifest, _NUM_INPUTS_DRAWN)
    outcomes = _parts(_outcomes(counts))
    num_documents = _num_documents(manifest)
    # Documents of which no token is left are in no split.
    splits = [charts.Part(*item) for item in num_documents.items() if item[1]]
    into_outcomes = [
        (0, i, number, one.outcomes[part.name])
        for i, one in enumerate(inputs)
        for number, part in enumerate(outcomes)
        if one.outcomes[part.name]
    ]
    into_splits = [(1, 0, i, part.count) for i, part in enumerate(splits)]
    once = num_documents[records.TRAIN]
    repeated = manifest.splits[records.TRAIN].num_documents
    return charts.flow(
        [
            (
                f"read {counts['read']:,}",
                [
                    charts.Part(_shorten(one.name), one.outcomes.total())
                    for one in inputs
                ],
            ),
            (
                f"kept {counts['kept']:,}, "
                f"dropped {counts['read'] - counts['kept']:,}",
                outcomes,
            ),
            ("in the set", splits),
        ],
        into_outcomes + into_splits,
    ) + (
        f"<p>By their weights the {once:,} training documents are in the set "
        f"{repeated:,} times.</p>"
        if repeated > once
        else ""
    )


def _shorten(name):
    """The end of a long name, which tells files of one folder apart."""
    if len(name) <= _NAME_CHARS:
        return name
    return "…" + name[1 - _NAME_CHARS :]


def _sources(manifest):
    """A bar for each input, as wide for all, and its numbers."""
    return (
        "".join(
            f'<div class="source">{html.escape(one.name)}'
            f"{charts.shares(_parts(one.outcomes))}"
            f"<small>{html.escape(_describe(one))}</small></div>"
            for one in _inputs(manifest, _NUM_INPUTS_SHOWN)
        )
        or "<p>Not known: another builder made the records.</p>"
    )


def _describe(one):
    kept, *dropped = _parts(one.outcomes)
    num_read = one.outcomes.total()
    return (
        (f"{one.num_files:,} files: " if one.num_files > 1 else "")
        + f"{num_read:,} read, {kept.count:,} kept "
        f"({kept.count / max(1, num_read):.1%})"
        + (", dropped: " if dropped else "")
        + ", ".join(f"{part.name} {part.count:,}" for part in dropped)
    )


def _splits(manifest):
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


def _lengths(manifest, sample):
    drawn = "".join(
        f"<div><h3>{html.escape(name)}</h3>"
        f"{charts.histogram(_bins(values))}</div>"
        for name, values in sample.values.items()
        if values.any()
    )
    mean = (
        sample.values[statistics.TOKENS_FILE].mean()
        if sample.num_examples
        else 0
    )
    before = manifest.splits[records.TRAIN].unpacked_padding_fraction
    return (
        f'<div class="charts">{drawn}</div>'
        f"<p>Mean {mean:.1f} of {manifest.seq_length} tokens, special ones "
        f"included; {1 - mean / manifest.seq_length:.1%} of the positions are "
        f"padding, in {sample.num_examples:,} training examples."
        + (
            f" With one document a row, {before:.1%} would be."
            if before is not None
            else ""
        )
        + "</p>"
    )


def _bins(values):
    """(the numbers that a bin is of, how many values), up to the largest."""
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


def _masks(manifest, split, sample):
    is_whole = manifest.masking == "none"
    note = "<p>The training rows are whole: the trainer masks them.</p>"
    if is_whole and split == records.TRAIN:
        return note
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
    rows = [
        [
            "tokens predicted",
            _percentage(asked["masked_fraction"]),
            f"{sample.num_predictions / max(1, sample.num_maskable):.1%}",
        ]
    ]
    rows += [
        [
            f"of these: {name}",
            _percentage(share),
            f"{sample.fates.get(name, 0) / total:.1%}",
        ]
        for name, share in expected.items()
    ]
    # Held-out rows are masked by token where those of training are not.
    masking = "token" if is_whole else manifest.masking.replace("_", " ")
    return (
        (note if is_whole else "")
        + _table(["", "asked", f"found in {split}"], rows)
        + f"<p>Masked by {masking}, at most "
        f"{manifest.max_predictions_per_seq} predictions in an example.</p>"
    )


def _percentage(share):
    return "not known" if math.isnan(share) else f"{share:.1%}"


def _near_duplicates(pairs):
    """What was dropped beside the earlier text it is like."""
    if not pairs:
        return "<p>None was found, or they were not looked for.</p>"
    return (
        "<p>Right what was dropped, left the earlier document that it is "
        "like; which was dropped too if it is like one before it.</p>"
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


def _legend(manifest, split):
    origin = ""
    if manifest.masking == "none":
        if split == records.TRAIN:
            return (
                "<p>They hold no masks: the trainer masks the rows that it "
                "reads, and none are held out.</p>"
            )
        origin = (
            f"<p>From {split}: the training rows hold no masks, the trainer "
            "masks them.</p>"
        )
    return (
        f'{origin}<p class="legend"><span class="mask">[MASK]<b>answer</b>'
        '</span> <span class="random">replaced<b>answer</b></span> '
        '<span class="kept">kept</span></p>'
    )


def _options(manifest):
    rows = [
        [name, str(value)] for name, value in sorted(manifest.options.items())
    ]
    return _table(["option", "value"], rows)


def _table(head, rows):
    def row(cells, tag):
        inside = "".join(
            f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells
        )
        return f"<tr>{inside}</tr>"

    return (
        '<div class="scroll"><table>'
        + row(head, "th")
        + "".join(row(cells, "td") for cells in rows)
        + "</table></div>"
    )


_STYLE = (
    """
:root { --ink: #1c2430; --soft: #5d6b7e; --line: #dfe4ea; --paper: #fff;
  --ground: #f4f6f8; --accent: #2f6fb2; --mask: #d8e8fa; --random: #fbdccb;
  --kept: #dcefd8 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e5eaf0; --soft: #9aa8ba; --line: #344152; --paper: #1c2530;
  --ground: #121920; --accent: #6ea8e0; --mask: #23425f; --random: #5c3322;
  --kept: #2a4a2b } }
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.55 system-ui, sans-serif }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 4rem }
h1 { font-size: 1.5rem; overflow-wrap: anywhere }
h2 { font-size: 1.05rem; margin: 0 0 .8rem }
section { background: var(--paper); border: 1px solid var(--line);
  border-radius: 10px; padding: 1.2rem 1.4rem; margin-top: 1rem }
h3 { font-size: .9rem; font-weight: 600; color: var(--soft); margin: 0 0 .4rem }
section p { margin: .8rem 0 0 }
.charts { display: grid; gap: 1.2rem 2rem;
  grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)) }
.source { overflow-wrap: anywhere; font-size: .9rem }
.source + .source { margin-top: .9rem }
.source svg { margin: .25rem 0 }
.tiles { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)) }
.tiles div { background: var(--paper); border: 1px solid var(--line);
  border-radius: 10px; padding: .8rem 1rem; color: var(--soft);
  font-size: .85rem }
.tiles b { display: block; font-size: 1.35rem; color: var(--ink) }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .3rem .6rem;
  border-bottom: 1px solid var(--line); vertical-align: top }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere }
th { color: var(--soft); font-weight: 600 }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem;
  font-size: .9rem }
small { display: block; color: var(--soft); overflow-wrap: anywhere }
span.mask, span.random, span.kept { border-radius: 4px; padding: 0 .25em }
.mask { background: var(--mask) } .random { background: var(--random) }
.kept { background: var(--kept) } .special { color: var(--soft) }
span b { margin-left: .35em; font-weight: 600 }
section p + p { border-top: 1px solid var(--line); padding-top: .8rem }
"""
    + charts.STYLE
)
