"""The stages of a build and their work units.

    extract      files, or byte ranges of them   → parts: documents, digests
    deduplicate  ranges of digests               → documents to leave out
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
    engine,
    masking,
    parts,
    rows,
    sentences,
    tokenization,
)

# Digests that one unit of deduplication holds: 8 M documents, 128 MB.
_DIGESTS_PER_UNIT = 1 << 23
# Text that is split and tokenized at once.
_CHARS_AT_ONCE = 1 << 20
# Rows that are masked and serialized at once: a few MB, whatever the shard.
_ROWS_AT_ONCE = 4096
_SHARD_BYTES = 1 << 25
# So that no two stages draw the same numbers.
_ROWS_STREAM, _SHARDS_STREAM = 1, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetConfig:
    """All options that decide what is in a set of records."""

    source: documents.SourceConfig
    rows: rows.RowsConfig
    masking: masking.MaskingConfig
    vocab_file: str = options.option("The vocab.txt to tokenize with.")
    eval_fraction: float = options.option(
        "Share of the documents held out for validation.", 0.01
    )
    test_fraction: float = options.option(
        "Share of the documents held out for the final test.", 0.01
    )
    dupe_factor: int = options.option(
        "Passes over the training text, each with masks of its own.", 1
    )
    num_shards: int = options.option(
        "Training shards, a multiple of dupe_factor; 0: one for each 32 MB "
        "of text, and at least 16 where the text is enough.",
        0,
    )
    seed: int = options.option("Of all random draws.", 0)
    unit_mb: float = options.option(
        "Text of one work unit, in MB: what a worker holds in memory.", 32.0
    )

    def __post_init__(self):
        for name in ("eval_fraction", "test_fraction"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise errors.UserError(f"{name}={value} must lie in [0, 1).")
        if self.eval_fraction + self.test_fraction >= 1:
            raise errors.UserError(
                f"eval_fraction={self.eval_fraction} and test_fraction="
                f"{self.test_fraction} leave nothing to train on; their sum "
                "must be below 1."
            )
        if self.dupe_factor < 1:
            raise errors.UserError(
                f"dupe_factor={self.dupe_factor} must be at least 1."
            )
        if self.num_shards < 0 or self.num_shards % self.dupe_factor:
            raise errors.UserError(
                f"num_shards={self.num_shards} must be a multiple of "
                f"dupe_factor={self.dupe_factor}, since each pass has shards "
                "of its own."
            )
        if self.seed < 0:
            raise errors.UserError(f"seed={self.seed} must not be negative.")
        if self.unit_mb <= 0:
            raise errors.UserError(f"unit_mb={self.unit_mb} must be above 0.")

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


# ------------------------------------------------------------------- extract


def extract_stage(work):
    units = documents.plan(work.config.source, work.config.unit_bytes)
    return engine.Stage(
        name="extract",
        item="documents",
        units=units,
        run=functools.partial(_extract, work),
        num_bytes=sum(span.num_bytes for unit in units for span in unit),
    )


def _extract(work, unit, prefix, progress):
    writer = parts.PartWriter(prefix, work.config.unit_bytes)
    counts = collections.defaultdict(collections.Counter)
    first_fault = ""
    for span in unit:
        consumed = 0
        for item, position in documents.read(span, work.config.source):
            progress.add(position - consumed, 1)
            consumed = position
            counts[span.path]["read"] += 1
            if isinstance(item, documents.Dropped):
                counts[span.path][item.reason] += 1
                first_fault = first_fault or item.detail
            else:
                writer.add(item)
        progress.add(span.num_bytes - consumed, 0)
    writer.flush()
    return {"counts": counts, "parts": writer.parts, "fault": first_fault}


def extracted_parts(work, summaries):
    """The parts that the extract stage wrote, in the order of its units."""
    described = [part for summary in summaries for part in summary["parts"]]
    return [
        parts.Part(
            path=f"{work.dir}/extract/{part['name']}",
            number=number,
            num_documents=part["num_documents"],
            num_bytes=part["num_bytes"],
        )
        for number, part in enumerate(described)
    ]


# --------------------------------------------------------------- deduplicate


def deduplicate_stage(all_parts):
    num_documents = sum(part.num_documents for part in all_parts)
    num_units = max(1, -(-num_documents // _DIGESTS_PER_UNIT))
    bounds = [256 * i // num_units for i in range(num_units + 1)]
    return engine.Stage(
        name="deduplicate",
        item="documents",
        units=list(zip(bounds[:-1], bounds[1:], strict=True)),
        run=functools.partial(_deduplicate, all_parts),
        num_bytes=num_documents * deduplication.DIGEST_BYTES,
    )


def _deduplicate(all_parts, unit, prefix, progress):
    """Finds the repeats among the digests whose first byte is in [low, high).

    Writes (number of the part, number of the document in it) of each.
    """
    low, high = unit
    digests, places = [], []
    for part in all_parts:
        of_part = part.read_digests()
        mine = np.flatnonzero((of_part[:, 0] >= low) & (of_part[:, 0] < high))
        digests.append(of_part[mine])
        places.append(np.stack([np.full(len(mine), part.number), mine], axis=1))
        progress.add(len(mine) * deduplication.DIGEST_BYTES, len(mine))
    repeats = deduplication.find_repeats(np.concatenate(digests))
    dropped = np.concatenate(places)[repeats]
    files.write_bytes(prefix + ".dropped", dropped.astype("<i4").tobytes())
    return {"num_dropped": len(dropped)}


def _dropped_documents(work, num_duplicate_units, part):
    """The numbers of the documents of a part that are to be left out."""
    dropped = set()
    for i in range(num_duplicate_units):
        places = np.frombuffer(
            files.read_bytes(f"{work.dir}/deduplicate/{i:05d}.dropped"), "<i4"
        ).reshape(-1, 2)
        dropped.update(places[places[:, 0] == part.number, 1].tolist())
    return dropped


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


def count_shards(config, num_bytes):
    """How many shards a set of `num_bytes` of text has."""
    num_train = config.num_shards
    if not num_train:
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


def rows_stage(work, all_parts, num_duplicate_units, shards):
    units, num_bytes = [[]], 0
    for part in all_parts:  # Small parts share a unit.
        if units[-1] and num_bytes + part.num_bytes > work.config.unit_bytes:
            units.append([])
            num_bytes = 0
        units[-1].append(part)
        num_bytes += part.num_bytes
    return engine.Stage(
        name="rows",
        item="documents",
        units=list(enumerate(units)),
        run=functools.partial(_rows, work, num_duplicate_units, shards),
        num_bytes=sum(part.num_bytes for part in all_parts),
    )


def _rows(work, num_duplicate_units, shards, unit, prefix, progress):
    """Writes the rows of some documents: an index, then shard after shard."""
    number, its_parts = unit
    tokens_of = _tokenize(work, num_duplicate_units, its_parts, progress)
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
        counts.update(row_counts)
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
    return {"counts": counts}


def _tokenize(work, num_duplicate_units, its_parts, progress):
    """The tokens of the documents of each split."""
    tokenizer = _tokenizer(work.config.vocab_file)
    buffers = {split: _TokenBuffer(tokenizer) for split in records.SPLITS}
    for part in its_parts:
        dropped = _dropped_documents(work, num_duplicate_units, part)
        for i, (digest, text) in enumerate(part.read()):
            if i not in dropped:
                buffers[split_of(digest, work.config)].add(text)
            progress.add(len(text), 1)
    return {split: buffer.tokens() for split, buffer in buffers.items()}


@functools.lru_cache(maxsize=1)
def _tokenizer(vocab_file):
    return tokenization.Tokenizer(vocabulary.read(vocab_file))


class _TokenBuffer:
    """Collects documents and turns them into tokens, many at a time."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self._texts, self._num_chars = [], 0
        self._done = []

    def add(self, text):
        self._texts.append(text)
        self._num_chars += len(text)
        if self._num_chars >= _CHARS_AT_ONCE:
            self._flush()

    def _flush(self):
        split_texts = [sentences.split(text) for text in self._texts]
        ids, sentence_splits = self._tokenizer.tokenize(
            [sentence for text in split_texts for sentence in text]
        )
        num_sentences = np.cumsum([len(text) for text in split_texts])
        # Sets: a sentence, or document, of which no token is left is none.
        sentence_ends = np.unique(sentence_splits)
        document_ends = np.unique(sentence_splits[num_sentences])
        self._done.append(
            rows.Tokens(
                ids,
                sentence_ends[sentence_ends > 0],
                document_ends[document_ends > 0],
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
        num_bytes=sum(files.size(path) for path in sources),
    )


def _shard(work, sources, shards, unit, prefix, progress):
    """Shuffles, masks and serializes the rows of one shard."""
    del prefix  # A shard lies beside the manifest, not among the work files.
    config = work.config
    vocab = vocabulary.read(config.vocab_file)
    rng = np.random.default_rng([config.seed, _SHARDS_STREAM, unit])
    shuffled = rows.concatenate([_read_rows(path, unit) for path in sources])
    order = rng.permutation(len(shuffled))
    bytes_per_row = shuffled.num_bytes // max(1, len(order))
    counts = collections.Counter()

    def serialize():
        for start in range(0, len(order), _ROWS_AT_ONCE):
            mine = shuffled.take(order[start : start + _ROWS_AT_ONCE])
            features = mine.features(config.rows.seq_length, vocab)
            counts["max_id"] = max(
                counts["max_id"], int(features["input_ids"].max())
            )
            features |= masking.mask(
                features["input_ids"],
                features["attention_mask"],
                vocab,
                config.masking,
                rng,
            )
            counts.update(
                num_tokens=int(features["attention_mask"].sum()),
                num_predictions=int(features["masked_lm_weights"].sum()),
                num_random_next=int(features["next_sentence_labels"].sum()),
            )
            yield from records.serialize(features)
            progress.add(bytes_per_row * len(mine), len(mine))

    split, name = shards.name(unit)
    shard = records.write_shard(f"{work.output_dir}/{name}", serialize())
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
