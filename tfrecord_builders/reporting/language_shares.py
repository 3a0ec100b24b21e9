"""What a manifest counts of the text in a language, as shares in words."""

from collections.abc import Mapping

from bert_pretrain.data import vocabulary

TITLES = (
    "documents",
    "kept",
    "tokens",
    "tokens per word",
    vocabulary.UNK,
    "sentences per paragraph",
    "marks per 10,000 words",
)


def describe(counts: Mapping[str, int]) -> list[str]:
    """Describes the text in a language, in the order of TITLES.

    Args:
      counts: as the manifest has them.
    """
    return [
        f"{counts['read']:,}",
        f"{counts['kept'] / max(1, counts['read']):.1%}",
        f"{counts['tokens']:,}",
        f"{counts['tokens'] / max(1, counts['words']):.2f}",
        f"{counts['unknown'] / max(1, counts['tokens']):.2%}",
        f"{counts['sentences'] / max(1, counts['paragraphs']):.1f}",
        f"{1e4 * counts['marks'] / max(1, counts['words']):.1f}",
    ]
