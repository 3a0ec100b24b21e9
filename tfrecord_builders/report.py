"""Writes one HTML page about a dataset: its content and its origin.

    python -m tfrecord_builders.report --data_dir=records \\
        --output_file=report.html

The page needs no network and runs no script.
"""

import dataclasses

from bert_pretrain import command_line, options


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig(options.Options):
    """The options of the report."""

    data_dir: str = options.option("Folder of the dataset.")
    output_file: str = options.option("The page to write.", "report.html")
    num_examples: int = options.option(
        "Examples to read for the statistics, the same number from each "
        "training shard.",
        20_000,
        at_least=1,
    )


def main(config: ReportConfig) -> None:
    """Writes the page.

    Raises:
      UserError: if the dataset is incomplete, or a shard cannot be read.
    """
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    import tensorflow as tf

    from bert_pretrain import files
    from bert_pretrain.data import manifests, records
    from tfrecord_builders.reporting import page, statistics

    manifest = manifests.read(config.data_dir)
    manifests.check_dataset(config.data_dir, manifest)
    vocab = manifests.read_vocabulary(config.data_dir, manifest)
    samples = {
        split: statistics.read_sample(
            config.data_dir, manifest, split, vocab, config.num_examples
        )
        for split in {records.TRAIN, statistics.split_with_masks(manifest)}
    }
    path = f"{config.data_dir}/{manifests.NEAR_DUPLICATES_NAME}"
    pairs = files.read_json(path) if tf.io.gfile.exists(path) else []
    files.write_text(
        config.output_file,
        page.render(config.data_dir, manifest, samples, pairs),
    )
    num_examples = samples[records.TRAIN].num_examples
    print(f"Wrote {config.output_file}, from {num_examples:,} examples.")


if __name__ == "__main__":
    command_line.run(main, ReportConfig)
