"""Statistics of a sample of a dataset's examples, for the report."""

import collections
import dataclasses
import html
import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from bert_pretrain.data import manifests, records, vocabulary

_NUM_DECODED = 20
NUM_TOKENS_SHOWN = 30
TOKENS_TITLE = "tokens of an example"


@dataclasses.dataclass(frozen=True)
class Sample:
    """Counts over some examples of a split."""

    num_examples: int
    values: dict[str, np.ndarray]  # the values of each histogram, by title
    num_predictions: int
    num_maskable: int  # tokens that may be predicted
    # Predictions by the token in the input: "[MASK]", "kept" or "random".
    replacements: dict[str, int]
    tokens: list[tuple[str, int]]  # (token, count), the most frequent first
    decoded: list[str]  # examples as HTML


def split_with_masks(manifest: manifests.Manifest) -> str:
    """The training split, or a held-out split if only that one has masks."""
    if manifest.masking == "none":
        for name in (records.EVAL, records.TEST):
            if manifest.splits[name].num_examples:
                return name
    return records.TRAIN


def read_sample(
    data_dir: str,
    manifest: manifests.Manifest,
    split: str,
    vocab: vocabulary.Vocabulary,
    num_examples: int,
) -> Sample:
    """Reads the first examples of every shard of a split.

    Args:
      num_examples: how many to read from all shards together, about.
    """
    shards = manifest.splits[split].shards
    per_shard = -(-num_examples // max(1, len(shards)))
    total = sum(min(per_shard, shard.num_examples) for shard in shards)
    # Evenly spread; a small dataset has each example once.
    is_decoded = {i * total // _NUM_DECODED for i in range(_NUM_DECODED)}
    values: dict[str, list[int]] = collections.defaultdict(list)
    replacements: collections.Counter[str] = collections.Counter()
    token_counts = np.zeros(vocab.size, np.int64)
    num_maskable = 0
    decoded = []
    for number, example in enumerate(
        itertools.chain.from_iterable(
            itertools.islice(
                records.read_examples([f"{data_dir}/{shard.file}"]), per_shard
            )
            for shard in shards
        )
    ):
        original = _original_ids(example)
        ids = original[example["attention_mask"] > 0]
        token_counts += np.bincount(ids, minlength=vocab.size)
        num_maskable += int((~vocab.is_special[ids]).sum())
        replacements.update(_count_replacements(example, vocab))
        for title, numbers in _measure(example, manifest.pairing):
            values[title] += numbers
        if number in is_decoded:
            decoded.append(_decode(example, vocab))
    order = np.argsort(-token_counts, kind="stable")
    shown = [i for i in order if not vocab.is_special[i]][:NUM_TOKENS_SHOWN]
    return Sample(
        num_examples=total,
        values={title: np.array(numbers) for title, numbers in values.items()},
        num_predictions=sum(replacements.values()),
        num_maskable=num_maskable,
        replacements=dict(replacements),
        tokens=[(vocab.tokens[i], int(token_counts[i])) for i in shown],
        decoded=decoded,
    )


def _measure(
    example: Mapping[str, np.ndarray], pairing: str
) -> Iterator[tuple[str, list[int]]]:
    """Yields (title of a histogram, its values from one example)."""
    num_tokens = int(example["attention_mask"].sum())
    yield TOKENS_TITLE, [num_tokens]
    if "document_ids" in example:
        lengths = np.bincount(example["document_ids"])[1:]
        yield "documents in an example", [len(lengths)]
        yield "tokens of a document in an example", lengths.tolist()
    if pairing != "none":
        num_second = int(example["token_type_ids"].sum())
        yield "tokens of the first segment", [num_tokens - num_second]
        yield "tokens of the second segment", [num_second]
    yield (
        "predictions in an example",
        [int((example["masked_lm_weights"] > 0).sum())],
    )


def _original_ids(example: Mapping[str, np.ndarray]) -> np.ndarray:
    """The token ids without masks."""
    ids = example["input_ids"].copy()
    is_real = example["masked_lm_weights"] > 0
    positions = example["masked_lm_positions"][is_real]
    ids[positions] = example["masked_lm_ids"][is_real]
    return ids


def _count_replacements(
    example: Mapping[str, np.ndarray], vocab: vocabulary.Vocabulary
) -> dict[str, int]:
    """Counts the predicted positions by the token that the model sees."""
    is_real = example["masked_lm_weights"] > 0
    seen = example["input_ids"][example["masked_lm_positions"][is_real]]
    labels = example["masked_lm_ids"][is_real]
    is_mask = seen == vocab.id(vocabulary.MASK)
    return {
        "[MASK]": int(is_mask.sum()),
        "kept": int((seen == labels).sum()),
        "random": int((~is_mask & (seen != labels)).sum()),
    }


def _decode(
    example: Mapping[str, np.ndarray], vocab: vocabulary.Vocabulary
) -> str:
    """An example as HTML; its predictions have colours."""
    num_tokens = int(example["attention_mask"].sum())
    is_real = example["masked_lm_weights"] > 0
    labels = dict(
        zip(
            example["masked_lm_positions"][is_real].tolist(),
            example["masked_lm_ids"][is_real].tolist(),
            strict=True,
        )
    )
    pieces = []
    for position, token_id in enumerate(example["input_ids"][:num_tokens]):
        token = vocab.tokens[token_id]
        glue = "" if token.startswith(vocabulary.CONTINUATION) else " "
        shown = html.escape(token.removeprefix(vocabulary.CONTINUATION))
        if position in labels:
            label = vocab.tokens[labels[position]]
            kind = (
                "mask"
                if token == vocabulary.MASK
                else "kept"
                if token == label
                else "random"
            )
            answer = html.escape(label)
            shown = (
                f'<span class="{kind}">{shown}'
                + ("" if kind == "kept" else f"<b>{answer}</b>")
                + "</span>"
            )
        elif vocab.is_special[token_id]:
            shown = f'<span class="special">{shown}</span>'
        pieces.append(glue + shown)
    return "".join(pieces)
