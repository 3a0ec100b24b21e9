"""Prints examples of a set back as readable text.

    python -m tfrecord_builders.show_records --data_dir=records --num_examples=3

A masked position shows what the model sees and, after an arrow, what it must
say: ‹[MASK]→house›. A word replaced at random reads ‹tree→house›, a word that
was kept ‹house→house›.
"""

import dataclasses
import itertools

import tensorflow as tf

from bert_pretrain import errors, files, options
from bert_pretrain.data import manifests, records, vocabulary

# What the labels 0 and 1 of a pair say.
_LABELS = {
    "nsp": ("actual next", "random next"),
    "sop": ("in order", "swapped"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShowConfig(options.Options):
    data_dir: str = options.option(
        "Folder of the set; holds vocab.txt and, if ours, manifest.json."
    )
    split: str = options.option("train, eval or test.", records.TRAIN)
    pattern: str = options.option(
        "Files to read instead of the split's shards, as in a set that has "
        "no manifest.",
        "",
    )
    vocab_file: str = options.option(
        "Vocabulary of the records; by default the one in data_dir.", ""
    )
    num_examples: int = options.option("How many to print.", 5, at_least=0)
    skip: int = options.option("How many to pass over first.", 0, at_least=0)

    def __post_init__(self):
        super().__post_init__()
        if self.split not in records.SPLITS:
            raise errors.UserError(
                f"split={self.split!r} must be one of "
                f"{', '.join(records.SPLITS)}."
            )


def main(config):
    vocab = vocabulary.read(
        config.vocab_file or f"{config.data_dir}/{vocabulary.FILE_NAME}"
    )
    pairing = "nsp"
    if tf.io.gfile.exists(f"{config.data_dir}/{manifests.MANIFEST_NAME}"):
        pairing = manifests.read(config.data_dir).pairing
    pattern = config.pattern or f"{config.data_dir}/{config.split}-*.tfrecord"
    paths = files.expand([pattern])
    last = config.skip + config.num_examples
    shown = itertools.islice(records.read_examples(paths), config.skip, last)
    for number, example in enumerate(shown, config.skip):
        print(f"── {number} " + "─" * 60)
        print(describe(example, vocab, pairing))


def describe(example, vocab, pairing="nsp"):
    """One example as text: its tokens joined to words, its masks marked."""
    tokens = [_token(vocab, i) for i in example["input_ids"]]
    is_prediction = example["masked_lm_weights"] > 0
    for position, label in zip(
        example["masked_lm_positions"][is_prediction],
        example["masked_lm_ids"][is_prediction],
        strict=True,
    ):
        tokens[position] = f"‹{tokens[position]}→{_token(vocab, label)}›"
    num_tokens = int(example["attention_mask"].sum())
    text = " ".join(tokens[:num_tokens])
    text = text.replace(" " + vocabulary.CONTINUATION, "")
    text = text.replace(f" {vocabulary.SEP} ", f"\n{vocabulary.SEP} ")
    text = text.replace(f" {vocabulary.CLS} ", f"\n{vocabulary.CLS} ")
    return (
        f"{num_tokens} tokens of {len(tokens)}, "
        f"{int(is_prediction.sum())} predictions"
        f"{_kind(example, pairing)}\n{text}\n"
    )


def _kind(example, pairing):
    """What a row holds beside one document's text: a pair, or several."""
    if "document_ids" in example:
        return f", documents: {example['document_ids'].max()}"
    # Pairs of other builders may all be true: then no label is learned.
    if pairing not in _LABELS or not example["token_type_ids"].any():
        return ""
    (label,) = example["next_sentence_labels"]
    return f", {_LABELS[pairing][label]}"


def _token(vocab, token_id):
    if token_id < vocab.size:
        return vocab.tokens[token_id]
    return f"[id {token_id} of {vocab.size}]"


if __name__ == "__main__":
    options.run(main, ShowConfig)
