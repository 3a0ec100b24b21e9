"""Options of a build."""

import dataclasses
from typing import Literal

from bert_pretrain import errors, options
from tfrecord_builders.quality import quality_config
from tfrecord_builders.rows import rows_config
from tfrecord_builders.sources import source_config


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetConfig(options.Options):
    """All options that change the content of a dataset."""

    source: source_config.SourceConfig
    filters: quality_config.FiltersConfig
    deduplication: quality_config.DeduplicationConfig
    rows: rows_config.RowsConfig
    masking: rows_config.MaskingConfig
    vocab_file: str = options.option("The vocab.txt to tokenize with.")
    lower_case: bool | None = options.option(
        "Lower-case the text; default: as vocab_file says, in the file beside "
        "it.",
        None,
    )
    strip_accents: bool | None = options.option(
        "Remove accents; default: as vocab_file says.", None
    )
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
        "Passes over the training text, each with other masks.",
        1,
        at_least=1,
    )
    num_shards: int = options.option(
        "Number of training shards, a multiple of dupe_factor. 0: one shard "
        "for each 32 MB of text, and at least 16 if there is enough text.",
        0,
        at_least=0,
    )
    seed: int = options.option("Seed of all random draws.", 0, at_least=0)
    unit_mb: float = options.option(
        "Text of one work unit, in MB. A worker needs about five times as "
        "much memory for it.",
        16.0,
        above=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eval_fraction + self.test_fraction >= 1:
            raise errors.UserError(
                f"eval_fraction={self.eval_fraction} and test_fraction="
                f"{self.test_fraction} leave no text for training; their sum "
                "must be below 1."
            )
        if self.num_shards % self.dupe_factor:
            raise errors.UserError(
                f"num_shards={self.num_shards} must be a multiple of "
                f"dupe_factor={self.dupe_factor}, since each pass has its own "
                "shards."
            )

    @property
    def unit_bytes(self) -> int:
        """Text of one work unit, in bytes."""
        return max(1, int(self.unit_mb * 2**20))


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildConfig(options.Options):
    """A dataset, and where and how to build it."""

    dataset: DatasetConfig
    output_dir: str = options.option("Folder of the dataset; local or gs://.")
    engine: Literal["local", "beam"] = options.option(
        "What runs the work: processes of this machine, or Apache Beam. Beam's "
        "own flags, such as --runner, may be given too.",
        "local",
    )
    num_workers: int = options.option(
        "Number of worker processes; 0: one for each core. With --engine=beam "
        "it is Beam's flag of this name.",
        0,
        at_least=0,
    )
    beam_flags: tuple[str, ...] = options.unknown_flags("engine", "beam")


@dataclasses.dataclass(frozen=True)
class Work:
    """The dataset to build, and its folders."""

    config: DatasetConfig
    output_dir: str

    @property
    def dir(self) -> str:
        """Folder of the files that stages pass to later stages."""
        return f"{self.output_dir}/work"
