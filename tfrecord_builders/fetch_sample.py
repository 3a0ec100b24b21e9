"""Fetches a sample of real text: a shortened Wikipedia dump, and news.

    python -m tfrecord_builders.fetch_sample --output_dir=sample

Both files are test data of gensim. So pip can fetch them from a package index,
and no other server is needed.
"""

import dataclasses

from bert_pretrain import command_line, options


@dataclasses.dataclass(frozen=True, kw_only=True)
class FetchConfig(options.Options):
    """Where the sample is written."""

    output_dir: str = options.option("Folder for the sample; local or gs://.")


def main(config: FetchConfig) -> None:
    """Fetches the sample."""
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    from tfrecord_builders.sources import sample

    sample.fetch(config.output_dir)


if __name__ == "__main__":
    command_line.run(main, FetchConfig)
