"""Makes a dataset of TFRecords that another BERT builder wrote.

    python -m tfrecord_builders.adopt --train_input='theirs/part-*' \\
        --eval_input=theirs/held_out --vocab_file=vocab.txt --output_dir=dataset

Builders like google-research/bert and tf-models-official write records with
all features that a trainer needs. But the files do not tell their vocabulary,
row length and number of predictions, and whether they are complete. So each
record is read and checked once, the files are copied, and a manifest with this
information is written.
"""

from bert_pretrain import command_line
from tfrecord_builders.building import adopt_config


def main(config: adopt_config.AdoptConfig) -> None:
    """Makes the dataset, and prints a summary."""
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    from bert_pretrain import files, locks
    from bert_pretrain.data import records, vocabulary
    from tfrecord_builders.building import adoption

    vocab = vocabulary.read(
        config.vocab_file, config.lower_case, config.strip_accents
    )
    paths = {
        records.TRAIN: files.expand(config.train_input),
        records.EVAL: files.expand(config.eval_input),
        records.TEST: files.expand(config.test_input),
    }
    adoption.refuse_overlap(paths)
    with locks.locked(config.output_dir):
        adoption.refuse_existing(config.output_dir)
        manifest = adoption.adopt(paths, vocab, config.output_dir)
    for name, split in manifest.splits.items():
        print(
            f"{name:6}{split.num_examples:12,} examples in "
            f"{len(split.shards):,} shards, {split.padding_fraction:.1%} "
            "padding"
        )
    print(
        f"{config.output_dir} is a dataset with rows of {manifest.seq_length} "
        f"tokens, at most {manifest.max_predictions_per_seq} predictions, and "
        f"pairing {manifest.pairing}."
    )


if __name__ == "__main__":
    command_line.run(main, adopt_config.AdoptConfig)
