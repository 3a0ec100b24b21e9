"""A record in words, for people."""

from collections.abc import Mapping

import numpy as np

from bert_pretrain.data import vocabulary

# The meaning of the labels 0 and 1, by pairing.
_LABELS = {
    "nsp": ("actual next", "random next"),
    "sop": ("in order", "swapped"),
}


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
