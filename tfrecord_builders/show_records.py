"""Prints examples of a dataset as readable text.

    python -m tfrecord_builders.show_records --data_dir=records --num_examples=3

A masked position shows the input of the model and, after an arrow, the token
to predict: ‹[MASK]→house›. If a random token replaces it, it reads
‹tree→house›; if the token is kept, ‹house→house›.
"""

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from bert_pretrain import errors, files, options
from bert_pretrain.data import manifests, records, vocabulary

# The meaning of the labels 0 and 1, by pairing.
_LABELS = {
    "nsp": ("actual next", "random next"),
    "sop": ("in order", "swapped"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShowConfig(options.Options):
    """Which examples are printed."""

    data_dir: str = options.option(
        "Folder of the dataset. It has vocab.txt and, if it is from this "
        "builder, manifest.json."
    )
    split: str = options.option("train, eval or test.", records.TRAIN)
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split not in records.SPLITS:
            raise errors.UserError(
                f"split={self.split!r} must be one of "
                f"{', '.join(records.SPLITS)}."
            )


def main(config: ShowConfig) -> None:
    """Prints the examples."""
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


def describe(
    example: Mapping[str, np.ndarray],
    vocab: vocabulary.Vocabulary,
    pairing: str = "nsp",
) -> str:
    """Returns an example as text: tokens joined to words, with marked masks.

    Args:
      example: the features of one row, as `records.read_examples` gives them.
      pairing: as in the manifest of the dataset.
    """
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


def _kind(example: Mapping[str, np.ndarray], pairing: str) -> str:
    """Describes the label of a pair, or the number of packed documents."""
    if "document_ids" in example:
        return f", documents: {example['document_ids'].max()}"
    # A pair may have no label to learn: other builders can make only true
    # pairs.
    if pairing not in _LABELS or not example["token_type_ids"].any():
        return ""
    (label,) = example["next_sentence_labels"]
    return f", {_LABELS[pairing][label]}"


def _token(vocab: vocabulary.Vocabulary, token_id: int) -> str:
    if token_id < vocab.size:
        return vocab.tokens[token_id]
    return f"[id {token_id} of {vocab.size}]"


if __name__ == "__main__":
    options.run(main, ShowConfig)
