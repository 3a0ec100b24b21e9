"""Prints examples of a dataset as readable text.

    python -m tfrecord_builders.show_records --data_dir=records --num_examples=3

A masked position shows the input of the model and, after an arrow, the token
to predict: ‹[MASK]→house›. If a random token replaces it, it reads
‹tree→house›; if the token is kept, ‹house→house›.
"""

import dataclasses
import fnmatch
import itertools
from typing import Literal

from bert_pretrain import command_line, errors, options


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShowConfig(options.Options):
    """Which examples are printed."""

    data_dir: str = options.option(
        "Folder of the dataset. It has vocab.txt and, if it is from this "
        "builder, manifest.json."
    )
    split: Literal["train", "eval", "test"] = options.option(
        "Split to read.", "train"
    )
    pattern: str = options.option(
        "Pattern of the files to read instead of the split's shards, for "
        "example in a dataset without a manifest.",
        "",
    )
    vocab_file: str = options.option(
        "Vocabulary of the records. Default: vocab.txt in data_dir.", ""
    )
    num_examples: int = options.option(
        "Number of examples to print.", 5, at_least=0
    )
    skip: int = options.option(
        "Number of examples to skip first.", 0, at_least=0
    )


def main(config: ShowConfig) -> None:
    """Prints the examples."""
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    import tensorflow as tf

    from bert_pretrain import files
    from bert_pretrain.data import manifests, records, vocabulary
    from tfrecord_builders.reporting import record_view

    # Only the tokens of the vocabulary are shown, not the casing.
    vocab = vocabulary.read(
        config.vocab_file or f"{config.data_dir}/{vocabulary.FILE_NAME}",
        lower_case=True,
        strip_accents=True,
    )
    pairing = "nsp"
    if tf.io.gfile.exists(f"{config.data_dir}/{manifests.MANIFEST_NAME}"):
        pairing = manifests.read(config.data_dir).pairing
    if config.pattern:
        paths = files.expand([config.pattern])
    else:
        # No glob pattern: the folder's name may hold characters of one.
        paths = [
            f"{config.data_dir}/{name}"
            for name in files.list_finished(config.data_dir)
            if fnmatch.fnmatch(name, f"{config.split}-*.tfrecord")
        ]
        if not paths:
            raise errors.UserError(
                f"{config.data_dir} holds no {config.split}-*.tfrecord; check "
                "the path."
            )
    last = config.skip + config.num_examples
    shown = itertools.islice(records.read_examples(paths), config.skip, last)
    for number, example in enumerate(shown, config.skip):
        print(f"── {number} " + "─" * 60)
        print(record_view.describe(example, vocab, pairing))


if __name__ == "__main__":
    command_line.run(main, ShowConfig)
