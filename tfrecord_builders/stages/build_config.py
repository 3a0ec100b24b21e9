"""The stages of a build and their work units.

    extract      files, or byte ranges of them   → parts: documents, digests
    deduplicate  ranges of digests and of bands  → links among duplicates
    resolve      all links                       → documents to leave out
    rows         parts                           → rows, sorted by shard
    shards       final shards                    → shuffled, masked records

A unit depends on the inputs and the options alone, never on the number of
workers, and every random draw comes from (seed, stage, unit).
"""

import dataclasses

from bert_pretrain import errors, options
from bert_pretrain.data import records
from tfrecord_builders.quality import filters, minhash
from tfrecord_builders.rows import masking, row_builder
from tfrecord_builders.sources import documents

# So that no two stages draw the same numbers.
ROWS_STREAM, SHARDS_STREAM = 1, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetConfig(options.Options):
    """All options that decide what is in a set of records."""

    source: documents.SourceConfig
    filters: filters.FiltersConfig
    deduplication: minhash.DeduplicationConfig
    rows: row_builder.RowsConfig
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

    config: DatasetConfig
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
