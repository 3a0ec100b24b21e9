"""Options of learning a vocabulary."""

import dataclasses

from bert_pretrain import errors, options
from tfrecord_builders.sources import source_config

_MIN_SIZE = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnConfig(options.Options):
    """The vocabulary, and how much text it is learned from."""

    source: source_config.SourceConfig
    output_file: str = options.option("The vocab.txt to write.")
    vocab_size: int = options.option(
        "Tokens in the vocabulary, including the five special tokens.",
        30_522,
        at_least=_MIN_SIZE,
        usual="BERT has 30522, and 8000 suits a few megabytes of text",
    )
    lower_case: bool = options.option(
        "Lower-case the text; --nolower_case keeps capitals.", True
    )
    strip_accents: bool | None = options.option(
        "Remove accents. Default: only with --lower_case, and only if most "
        "letters of the text have a case; in other scripts, such as Hindi or "
        "Japanese, such marks are vowels or other sounds.",
        None,
    )
    max_sample_mb: int = options.option(
        "Text to learn from, in MB. About three times as much memory is "
        "needed. From a larger input, pieces of 16 MB are drawn at random, "
        "the same ones every time. A compressed file may be a single piece; "
        "only its beginning is read if it is too large.",
        500,
        at_least=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.output_file or self.output_file.endswith("/"):
            raise errors.UserError(
                f"output_file={self.output_file!r} must name a file, for "
                "example vocab.txt."
            )
