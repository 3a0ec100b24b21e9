"""Learns a WordPiece vocabulary from raw text.

    python -m tfrecord_builders.learn_vocabulary --source=wikipedia \\
        --input='dumps/*.xml.bz2' --vocab_size=30522 --output_file=vocab.txt

The same text and options give the same file, byte for byte.
"""

import time

from bert_pretrain import command_line, errors
from tfrecord_builders.tokens import learn_config


def main(config: learn_config.LearnConfig) -> None:
    """Learns a vocabulary from a sample of the input, and writes it.

    Raises:
      UserError: if the output file is a directory, or no document was read.
    """
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    import tensorflow as tf

    from bert_pretrain.data import vocabulary
    from tfrecord_builders.tokens import vocabulary_learner

    started = time.monotonic()
    if tf.io.gfile.isdir(config.output_file):
        raise errors.UserError(
            f"output_file={config.output_file} is a directory; name a file "
            f"in it, for example {vocabulary.FILE_NAME}."
        )
    texts = vocabulary_learner.read_sample(config)
    num_bytes = sum(len(text.encode()) for text in texts)
    print(
        f"Learning from {len(texts):,} documents, "
        f"{num_bytes / 2**20:,.1f} MB …",
        flush=True,
    )
    vocab = vocabulary_learner.learn(
        texts, config.vocab_size, config.lower_case, config.strip_accents
    )
    vocab.write(config.output_file)
    if vocab.size < config.vocab_size:
        errors.warn(
            f"the text gives only {vocab.size:,} of "
            f"{config.vocab_size:,} tokens; give more text, or use "
            f"--vocab_size={vocab.size}."
        )
    unknown_share, tokens_per_word = vocabulary_learner.measure(vocab, texts)
    print(
        f"Wrote {config.output_file}: {vocab.size:,} tokens, "
        f"{vocab.casing_in_words}, "
        f"{tokens_per_word:.2f} tokens per word, {unknown_share:.3%} of all "
        f"tokens are {vocabulary.UNK}, in {time.monotonic() - started:.1f} s."
    )


if __name__ == "__main__":
    command_line.run(main, learn_config.LearnConfig)
