"""Writes one HTML page about a built set: what it holds, and why.

    python -m tfrecord_builders.report --data_dir=records \
        --output_file=report.html

The page is self-contained: it opens without a network, and no script runs.
"""

import collections
import dataclasses
import html
import itertools
import math

import numpy as np
import tensorflow as tf

from bert_pretrain import errors, files, options, records, vocabulary
from tfrecord_builders import charts

_NUM_DECODED = 20
_NUM_TOKENS_SHOWN = 30
_NUM_BINS = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig:
    data_dir: str = options.option("Folder of the set.")
    output_file: str = options.option("The page to write.", "report.html")
    num_examples: int = options.option(
        "Examples to read for the statistics, evenly from all training shards.",
        20_000,
    )

    def __post_init__(self):
        if self.num_examples < 1:
            raise errors.UserError(
                f"num_examples={self.num_examples} must be at least 1."
            )


def main(config):
    manifest = records.read_manifest(config.data_dir)
    records.check_set(config.data_dir, manifest)
    vocab = vocabulary.read(f"{config.data_dir}/{vocabulary.FILE_NAME}")
    sample = read_sample(config.data_dir, manifest, vocab, config.num_examples)
    path = f"{config.data_dir}/{records.NEAR_DUPLICATES_NAME}"
    pairs = files.read_json(path) if tf.io.gfile.exists(path) else []
    files.write_text(
        config.output_file, render(config.data_dir, manifest, sample, pairs)
    )
    print(f"Wrote {config.output_file}, from {sample.num_examples:,} examples.")


@dataclasses.dataclass(frozen=True)
class Sample:
    """What was counted in some of the training examples."""

    num_examples: int
    lengths: np.ndarray  # tokens of each example
    num_predictions: int
    num_maskable: int  # tokens that may be predicted
    fates: dict  # what stands at the predicted positions: counts
    tokens: list  # (token, count), the most frequent first
    decoded: list  # examples as HTML


def read_sample(data_dir, manifest, vocab, num_examples):
    """Counts what the first examples of every training shard hold."""
    shards = manifest.splits[records.TRAIN].shards
    per_shard = -(-num_examples // max(1, len(shards)))
    total = sum(min(per_shard, shard.num_examples) for shard in shards)
    # Spread over all that is read; of a small set, each once.
    is_decoded = {i * total // _NUM_DECODED for i in range(_NUM_DECODED)}
    lengths, fates = [], collections.Counter()
    token_counts = np.zeros(vocab.size, np.int64)
    num_predictions = num_maskable = 0
    decoded = []
    for example in itertools.chain.from_iterable(
        itertools.islice(
            records.read_examples([f"{data_dir}/{shard.file}"]), per_shard
        )
        for shard in shards
    ):
        original = _original_ids(example)
        ids = original[example["attention_mask"] > 0]
        token_counts += np.bincount(ids, minlength=vocab.size)
        num_maskable += int((~vocab.is_special[ids]).sum())
        fates.update(_fates(example, vocab))
        num_predictions += int((example["masked_lm_weights"] > 0).sum())
        if len(lengths) in is_decoded:
            decoded.append(_decode(example, vocab))
        lengths.append(len(ids))
    order = np.argsort(-token_counts, kind="stable")
    shown = [i for i in order if not vocab.is_special[i]][:_NUM_TOKENS_SHOWN]
    return Sample(
        num_examples=len(lengths),
        lengths=np.array(lengths),
        num_predictions=num_predictions,
        num_maskable=num_maskable,
        fates=dict(fates),
        tokens=[(vocab.tokens[i], int(token_counts[i])) for i in shown],
        decoded=decoded,
    )


def _original_ids(example):
    ids = example["input_ids"].copy()
    is_real = example["masked_lm_weights"] > 0
    positions = example["masked_lm_positions"][is_real]
    ids[positions] = example["masked_lm_ids"][is_real]
    return ids


def _fates(example, vocab):
    """What the model sees where it must predict: counts by name."""
    is_real = example["masked_lm_weights"] > 0
    seen = example["input_ids"][example["masked_lm_positions"][is_real]]
    labels = example["masked_lm_ids"][is_real]
    is_mask = seen == vocab.id(vocabulary.MASK)
    return {
        "[MASK]": int(is_mask.sum()),
        "kept": int((seen == labels).sum()),
        "random": int((~is_mask & (seen != labels)).sum()),
    }


def _decode(example, vocab):
    """An example as HTML, its predictions in colour."""
    num_tokens = int(example["attention_mask"].sum())
    is_real = example["masked_lm_weights"] > 0
    labels = dict(
        zip(
            example["masked_lm_positions"][is_real].tolist(),
            example["masked_lm_ids"][is_real].tolist(),
            strict=True,
        )
    )
    pieces = []
    for position, token_id in enumerate(example["input_ids"][:num_tokens]):
        token = vocab.tokens[token_id]
        glue = "" if token.startswith(vocabulary.CONTINUATION) else " "
        shown = html.escape(token.removeprefix(vocabulary.CONTINUATION))
        if position in labels:
            label = vocab.tokens[labels[position]]
            kind = (
                "mask"
                if token == vocabulary.MASK
                else "kept"
                if token == label
                else "random"
            )
            answer = html.escape(label)
            shown = (
                f'<span class="{kind}">{shown}'
                + ("" if kind == "kept" else f"<b>{answer}</b>")
                + "</span>"
            )
        elif vocab.is_special[token_id]:
            shown = f'<span class="special">{shown}</span>'
        pieces.append(glue + shown)
    return "".join(pieces)


# ------------------------------------------------------------------ the page


def render(data_dir, manifest, sample, near_duplicates):
    """The page as a string."""
    sections = [
        ("Where the documents went", _flow(manifest)),
        ("Sources", _sources(manifest)),
        ("Splits", _splits(manifest)),
        ("Tokens of an example", _lengths(manifest, sample)),
        ("Masks: asked and found", _masks(manifest, sample)),
        ("Most frequent tokens", charts.bars(sample.tokens)),
        ("Near-duplicates", _near_duplicates(near_duplicates)),
        (
            f"{len(sample.decoded)} examples",
            _legend() + "".join(f"<p>{text}</p>" for text in sample.decoded),
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
    tiles = [
        ("documents kept", f"{manifest.documents['kept']:,}"),
        ("training examples", f"{train.num_examples:,}"),
        ("training tokens", f"{train.num_tokens / 1e6:,.1f} M"),
        ("padding", f"{train.padding_fraction:.1%}"),
        ("on disk", f"{num_bytes / 2**20:,.1f} MB"),
        ("vocabulary", f"{manifest.vocab_size:,}"),
    ]
    return (
        '<div class="tiles">'
        + "".join(f"<div><b>{value}</b>{name}</div>" for name, value in tiles)
        + "</div>"
    )


def _flow(manifest):
    counts = manifest.documents
    outcomes = [("kept", counts["kept"])]
    outcomes += [
        (reason.replace("_", " "), count)
        for reason, count in counts["dropped"].items()
    ]
    # Documents of which no token is left are in no split.
    splits = [
        (name, manifest.splits[name].num_documents)
        for name in records.SPLITS
        if manifest.splits[name].num_documents
    ]
    return charts.flow(("read", counts["read"]), outcomes, splits)


def _sources(manifest):
    reasons = sorted(
        {name for source in manifest.sources for name in source["dropped"]}
    )
    rows = [
        [
            source["path"],
            f"{source['read']:,}",
            f"{source['kept']:,}",
            *(f"{source['dropped'].get(reason, 0):,}" for reason in reasons),
        ]
        for source in manifest.sources
    ]
    head = ["input", "read", "kept", *(r.replace("_", " ") for r in reasons)]
    return _table(head, rows)


def _splits(manifest):
    head = "split documents examples tokens padding predictions shards".split()
    rows = [
        [
            name,
            f"{split.num_documents:,}",
            f"{split.num_examples:,}",
            f"{split.num_tokens:,}",
            f"{split.padding_fraction:.1%}",
            f"{split.num_predictions:,}",
            f"{len(split.shards):,}",
        ]
        for name in records.SPLITS
        for split in [manifest.splits[name]]
    ]
    return _table(head, rows)


def _lengths(manifest, sample):
    counts, edges = np.histogram(
        sample.lengths,
        bins=min(_NUM_BINS, manifest.seq_length),
        range=(0, manifest.seq_length),
    )
    bins = [
        (f"{low + 1:.0f} – {high:.0f} tokens", int(count))
        for low, high, count in zip(
            np.floor(edges[:-1]), np.floor(edges[1:]), counts, strict=True
        )
    ]
    mean = sample.lengths.mean() if len(sample.lengths) else 0
    return (
        charts.histogram(bins, f"0 to {manifest.seq_length} tokens")
        + f"<p>Mean {mean:.1f} of {manifest.seq_length}; "
        f"{1 - mean / manifest.seq_length:.1%} of the positions are padding, "
        f"in {sample.num_examples:,} examples.</p>"
    )


def _masks(manifest, sample):
    if manifest.masking == "none":
        return "<p>The training rows are whole: the trainer masks them.</p>"
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
    return (
        _table(["", "asked", "found"], rows)
        + f"<p>Masked by {manifest.masking.replace('_', ' ')}, at most "
        f"{manifest.max_predictions_per_seq} predictions in an example.</p>"
    )


def _percentage(share):
    return "not known" if math.isnan(share) else f"{share:.1%}"


def _near_duplicates(pairs):
    """What was kept beside what was dropped, two texts a pair."""
    if not pairs:
        return "<p>None was found, or they were not looked for.</p>"
    return "".join(
        f"<p>Similarity {pair['similarity']:.2f}</p>"
        '<div class="pair">'
        + "".join(
            f"<div><small>{name}: {html.escape(pair[key]['id'])}</small>"
            f"{html.escape(pair[key]['text'])}</div>"
            for name, key in (("kept", "earlier"), ("dropped", "later"))
        )
        + "</div>"
        for pair in pairs
    )


def _legend():
    return (
        '<p class="legend"><span class="mask">[MASK]<b>answer</b></span> '
        '<span class="random">replaced<b>answer</b></span> '
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
section p { margin: .8rem 0 0 }
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


if __name__ == "__main__":
    options.run(main, ReportConfig)
