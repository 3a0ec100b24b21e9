"""The stages of a build and their work units.

    extract      files, or byte ranges of them   → parts: documents, digests
    deduplicate  ranges of digests and of bands  → links among duplicates
    resolve      all links                       → documents to leave out
    rows         parts                           → rows, sorted by shard
    shards       final shards                    → shuffled, masked records

A unit depends on the inputs and the options alone, never on the number of
workers, and every random draw comes from (seed, stage, unit).
"""

import collections
import dataclasses
import functools

import numpy as np
import tensorflow as tf

from bert_pretrain import errors, files, options, records, vocabulary
from tfrecord_builders import (
    deduplication,
    documents,
    duplicates,
    engine,
    extraction,
    filters,
    masking,
    parts,
    rows,
    segmentation,
    sentences,
    tokenization,
)

# Text that is split and tokenized at once.
_CHARS_AT_ONCE = 1 << 20
# Rows that are masked and serialized at once: a few MB, whatever the shard.
_ROWS_AT_ONCE = 4096
_SHARD_BYTES = 1 << 25
# So much a shard may have that the user asks for.
_UNITS_PER_SHARD = 6
# So that no two stages draw the same numbers.
_ROWS_STREAM, _SHARDS_STREAM = 1, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetConfig(options.Options):
    """All options that decide what is in a set of records."""

    source: documents.SourceConfig
    filters: filters.FiltersConfig
    deduplication: deduplication.DeduplicationConfig
    rows: rows.RowsConfig
    masking: masking.MaskingConfig
    vocab_file: str = options.option("The vocab.txt to tokenize with.")
    eval_fraction: float = options.option(
        "Share of the documents held out for validation.",
        0.01,
        at_least=0,
        below=1,
    )
    test_fraction: float = options.option(
        "Share of the documents held out for the final test.",
        0.01,
        at_least=0,
        below=1,
    )
    dupe_factor: int = options.option(
        "Passes over the training text, each with masks of its own.",
        1,
        at_least=1,
    )
    num_shards: int = options.option(
        "Training shards, a multiple of dupe_factor; 0: one for each 32 MB "
        "of text, and at least 16 where the text is enough.",
        0,
        at_least=0,
    )
    seed: int = options.option("Of all random draws.", 0, at_least=0)
    unit_mb: float = options.option(
        "Text of one work unit, in MB: what a worker holds in memory, five "
        "times over.",
        16.0,
        above=0,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.eval_fraction + self.test_fraction >= 1:
            raise errors.UserError(
                f"eval_fraction={self.eval_fraction} and test_fraction="
                f"{self.test_fraction} leave nothing to train on; their sum "
                "must be below 1."
            )
        if self.num_shards % self.dupe_factor:
            raise errors.UserError(
                f"num_shards={self.num_shards} must be a multiple of "
                f"dupe_factor={self.dupe_factor}, since each pass has shards "
                "of its own."
            )

    @property
    def unit_bytes(self):
        return max(1, int(self.unit_mb * 2**20))


@dataclasses.dataclass(frozen=True)
class Work:
    """What is built, and where."""

    config: SetConfig
    output_dir: str

    @property
    def dir(self):
        """Folder of what the stages hand to one another."""
        return f"{self.output_dir}/work"


def split_of(digest, config):
    """The split that a document belongs to, by its hash alone.

    The same document is held out in every build with the same shares, and
    two documents with one hash are never divided.
    """
    position = int.from_bytes(digest[:8], "little") / 2**64
    if position < config.eval_fraction:
        return records.EVAL
    if position < config.eval_fraction + config.test_fraction:
        return records.TEST
    return records.TRAIN


def num_copies(digest, split, weight):
    """How many times a document is in the set, by its hash alone."""
    if split != records.TRAIN:
        return 1
    position = int.from_bytes(digest[8:16], "little") / 2**64
    return int(weight) + (position < weight % 1)


# ------------------------------------------------------------------- extract


def extract_stage(work):
    units = documents.plan(work.config.source, work.config.unit_bytes)
    return engine.Stage(
        name="extract",
        item="documents",
        units=units,
        run=functools.partial(_extract, work),
        describe=_describe_spans,
        num_bytes=sum(span.num_bytes for unit in units for span in unit),
    )


def _describe_spans(unit):
    paths = [span.path for span in unit]
    if len(set(paths)) > 1:
        return _describe_files(paths)
    return f"{paths[0]}, bytes {unit[0].start:,} to {unit[-1].end:,}"


def _describe_files(paths):
    paths = list(dict.fromkeys(paths))
    if len(paths) > 1:
        return f"{paths[0]} … {paths[-1]} ({len(paths)} files)"
    return paths[0]


def _extract(work, unit, prefix, progress):
    # With the spans, so that it is known what an earlier plan's unit read.
    summary = extraction.extract(unit, prefix, work.config, progress)
    return {**summary, "spans": unit}


def extracted_parts(work, summaries):
    """The parts that the extract stage wrote, in the order of its units."""
    described = [part for summary in summaries for part in summary["parts"]]
    firsts = np.cumsum([0] + [part["num_documents"] for part in described])
    return [
        parts.Part(
            path=f"{work.dir}/extract/{part['name']}",
            number=number,
            first_document=int(firsts[number]),
            num_documents=part["num_documents"],
            num_bytes=part["num_bytes"],
            input=part["input"],
            sources=tuple(parts.Source(*source) for source in part["sources"]),
        )
        for number, part in enumerate(described)
    ]


# ---------------------------------------------------- deduplicate and resolve


def deduplicate_stage(work, all_parts):
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


# ---------------------------------------------------------------------- rows


@dataclasses.dataclass(frozen=True)
class Shards:
    """The final shards of a set: how many of each split, numbered through."""

    num_train: int
    num_eval: int
    num_test: int
    num_passes: int

    @property
    def total(self):
        return self.num_train + self.num_eval + self.num_test

    def passes(self):
        """(split, first shard, past the last shard) of each pass."""
        per_pass = self.num_train // self.num_passes
        for first in range(0, self.num_train, per_pass):
            yield records.TRAIN, first, first + per_pass
        first_test = self.num_train + self.num_eval
        if self.num_eval:
            yield records.EVAL, self.num_train, first_test
        if self.num_test:
            yield records.TEST, first_test, self.total

    def name(self, number):
        """(split, file name) of a shard."""
        for split, first, count in (
            (records.TRAIN, 0, self.num_train),
            (records.EVAL, self.num_train, self.num_eval),
            (records.TEST, self.num_train + self.num_eval, self.num_test),
        ):
            if number - first < count:
                return split, records.shard_name(split, number - first, count)
        raise IndexError(number)


def count_shards(config, all_parts):
    """How many shards a set of the text of the parts has.

    Raises:
      UserError: if those asked for would be too large for a worker.
    """
    num_bytes = int(sum(part.num_bytes * part.weight for part in all_parts))
    num_train = config.num_shards
    if num_train:
        _refuse_large_shards(config, num_bytes * config.dupe_factor)
    else:
        num_bytes *= config.dupe_factor
        num_train = max(
            1, num_bytes // _SHARD_BYTES, min(16, num_bytes // 2**16)
        )
        num_train += -num_train % config.dupe_factor
    held_out = [
        max(1, round(num_train / config.dupe_factor * fraction))
        if fraction
        else 0
        for fraction in (config.eval_fraction, config.test_fraction)
    ]
    return Shards(num_train, *held_out, config.dupe_factor)


def _refuse_large_shards(config, num_bytes):
    # A byte of text takes one in memory here, and four in a unit.
    limit = _UNITS_PER_SHARD * config.unit_bytes
    if num_bytes > limit * config.num_shards:
        num_shards = -(-num_bytes // limit)
        num_shards += -num_shards % config.dupe_factor
        raise errors.UserError(
            f"num_shards={config.num_shards} puts "
            f"{num_bytes / config.num_shards / 2**20:,.0f} MB of text into "
            "each shard, and a worker holds a shard: give at least "
            f"num_shards={num_shards}, or, where there is memory, a larger "
            f"unit_mb than {config.unit_mb:g}."
        )


def rows_stage(work, all_parts, shards):
    units, num_bytes = [[]], 0
    for part in all_parts:  # Small parts share a unit.
        part_bytes = part.num_bytes * max(1, part.weight)
        if units[-1] and num_bytes + part_bytes > work.config.unit_bytes:
            units.append([])
            num_bytes = 0
        units[-1].append(part)
        num_bytes += part_bytes
    return engine.Stage(
        name="rows",
        item="documents",
        units=list(enumerate(units)),
        run=functools.partial(_rows, work, shards),
        describe=_describe_parts,
        num_bytes=sum(part.num_bytes for part in all_parts),
    )


def _describe_parts(unit):
    _, its_parts = unit
    return _describe_files(
        [source.path for part in its_parts for source in part.sources]
    )


def _rows(work, shards, unit, prefix, progress):
    """Writes the rows of some documents: an index, then shard after shard."""
    number, its_parts = unit
    not_sampled = collections.Counter()
    tokens_of = _tokenize(work, its_parts, not_sampled, progress)
    blobs = [b""] * shards.total
    counts = collections.Counter(
        {
            f"{split}_documents": len(tokens.document_ends)
            for split, tokens in tokens_of.items()
        }
    )
    for split, first, stop in shards.passes():
        rng = np.random.default_rng(
            [work.config.seed, _ROWS_STREAM, number, first]
        )
        built, row_counts = rows.build(
            tokens_of[split], work.config.rows, int(rng.integers(2**63))
        )
        counts.update({f"{split}_{name}": n for name, n in row_counts.items()})
        # Dealt like cards, so that the shards of a set are even.
        order, stride = rng.permutation(len(built)), stop - first
        dealer = int(rng.integers(stride))
        for i in range(stride):
            mine = order[(i - dealer) % stride :: stride]
            blobs[first + i] = built.take(mine).to_bytes()
    offsets = np.cumsum([8 * (shards.total + 1), *map(len, blobs)])
    files.write_bytes(
        prefix + ".rows", offsets.astype("<i8").tobytes() + b"".join(blobs)
    )
    by_file = {path: {"not_sampled": n} for path, n in not_sampled.items()}
    return {"counts": counts, "sampling": {"counts": by_file}}


def _tokenize(work, its_parts, not_sampled, progress):
    """The tokens of the documents of each split.

    Counts in `not_sampled` by file the documents that a weight leaves out.
    """
    tokenizer = _tokenizer(work.config.vocab_file)
    segment = segmentation.load(work.config.masking.segmenter)
    buffers = {
        split: _TokenBuffer(tokenizer, segment) for split in records.SPLITS
    }
    repeated = []
    for part in its_parts:
        for path, split, copies, text in _kept_documents(work, part):
            progress.add(len(text), 1)
            if not copies:
                not_sampled[path] += 1
                continue
            buffers[split].add(text)
            if copies > 1:
                repeated.append((copies, text))
    # Behind all others, lest a row holds a text and its copy.
    for i in range(1, max((copies for copies, _ in repeated), default=1)):
        for copies, text in repeated:
            if copies > i:
                buffers[records.TRAIN].add(text)
    return {split: buffer.tokens() for split, buffer in buffers.items()}


def _kept_documents(work, part):
    """Yields (file, split, copies, text) of what is no duplicate."""
    dropped = duplicates.read_dropped(f"{work.dir}/resolve/00000.dropped", part)
    sources = part.source_numbers().tolist()
    for i, (digest, text) in enumerate(part.read()):
        if i not in dropped:
            split = split_of(digest, work.config)
            copies = num_copies(digest, split, part.weight)
            yield part.sources[sources[i]].path, split, copies, text


@functools.lru_cache(maxsize=1)
def _tokenizer(vocab_file):
    return tokenization.Tokenizer(vocabulary.read(vocab_file))


class _TokenBuffer:
    """Collects documents and turns them into tokens, many at a time."""

    def __init__(self, tokenizer, segment):
        self._tokenizer, self._segment = tokenizer, segment
        self._texts, self._num_chars = [], 0
        self._done = []

    def add(self, text):
        self._texts.append(text)
        self._num_chars += len(text)
        if self._num_chars >= _CHARS_AT_ONCE:
            self._flush()

    def _flush(self):
        split_texts = [sentences.split(text) for text in self._texts]
        all_sentences = [sentence for text in split_texts for sentence in text]
        is_continuation = None
        if self._segment:
            ids, sentence_splits, is_continuation = (
                self._tokenizer.tokenize_words(all_sentences, self._segment)
            )
        else:
            ids, sentence_splits = self._tokenizer.tokenize(all_sentences)
        num_sentences = np.cumsum([len(text) for text in split_texts])
        # Sets: a sentence, or document, of which no token is left is none.
        sentence_ends = np.unique(sentence_splits)
        document_ends = np.unique(sentence_splits[num_sentences])
        self._done.append(
            rows.Tokens(
                ids,
                sentence_ends[sentence_ends > 0],
                document_ends[document_ends > 0],
                is_continuation,
            )
        )
        self._texts, self._num_chars = [], 0

    def tokens(self):
        if self._texts:
            self._flush()
        return rows.concatenate_tokens(self._done)


# -------------------------------------------------------------------- shards


def shards_stage(work, num_row_units, shards):
    sources = [f"{work.dir}/rows/{i:05d}.rows" for i in range(num_row_units)]
    return engine.Stage(
        name="shards",
        item="examples",
        units=list(range(shards.total)),
        run=functools.partial(_shard, work, sources, shards),
        describe=functools.partial(_describe_shard, shards),
        num_bytes=sum(files.size(path) for path in sources),
    )


def _describe_shard(shards, unit):
    _, name = shards.name(unit)
    return name


def _shard(work, sources, shards, unit, prefix, progress):
    """Shuffles, masks and serializes the rows of one shard."""
    del prefix  # A shard lies beside the manifest, not among the work files.
    config = work.config
    vocab = vocabulary.read(config.vocab_file)
    split, name = shards.name(unit)
    mask_as = config.masking
    if split != records.TRAIN:
        mask_as = mask_as.held_out
    rng = np.random.default_rng([config.seed, _SHARDS_STREAM, unit])
    shuffled = rows.concatenate([_read_rows(path, unit) for path in sources])
    order = rng.permutation(len(shuffled))
    bytes_per_row = shuffled.num_bytes // max(1, len(order))
    counts = collections.Counter()

    def masked():
        for start in range(0, len(order), _ROWS_AT_ONCE):
            mine = shuffled.take(order[start : start + _ROWS_AT_ONCE])
            features = mine.features(
                config.rows.seq_length, vocab, config.rows.packing
            )
            counts["max_id"] = max(
                counts["max_id"], int(features["input_ids"].max())
            )
            features |= masking.mask(
                features["input_ids"],
                features["attention_mask"],
                vocab,
                mask_as,
                rng,
                features.pop("is_continuation", None),
            )
            counts.update(
                num_tokens=int(features["attention_mask"].sum()),
                num_predictions=int(features["masked_lm_weights"].sum()),
                num_random_next=int(features["next_sentence_labels"].sum()),
            )
            yield features
            progress.add(bytes_per_row * len(mine), len(mine))

    shard = records.write_shard(f"{work.output_dir}/{name}", masked())
    return {
        "split": split,
        "shard": dataclasses.asdict(shard),
        "counts": counts,
    }


def _read_rows(path, shard):
    with errors.naming(path), tf.io.gfile.GFile(path, "rb") as file:
        file.seek(8 * shard)
        start, end = np.frombuffer(file.read(16), "<i8").tolist()
        file.seek(start)
        return rows.Rows.from_bytes(file.read(end - start))
