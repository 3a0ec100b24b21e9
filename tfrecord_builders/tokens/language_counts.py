"""Counts of the text in each language, for the manifest and the report.

They show at once if a language loses text, or if the vocabulary does not fit
it.

N = documents, T = tokens.
"""

import collections
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bert_pretrain import numba_jit
from bert_pretrain.data import vocabulary

# By the code of a language; empty for documents whose language is not known.
LanguageCounts = dict[str, dict[str, int]]

# What is counted: documents before and after the filters; of the documents in
# the dataset, paragraphs, sentences, words, tokens, those of them that are
# [UNK], and marks that may be left of markup.
_NAMES = (
    "read",
    "kept",
    "paragraphs",
    "sentences",
    "words",
    "tokens",
    "unknown",
    "marks",
)


def count_judged(
    languages: Sequence[str], reasons: Sequence[str | None]
) -> LanguageCounts:
    """Counts the documents that the filters read and kept.

    Args:
      languages: of N documents.
      reasons: why each document was dropped, or None.
    """
    read = collections.Counter(languages)
    kept = collections.Counter(
        language
        for language, reason in zip(languages, reasons, strict=True)
        if not reason
    )
    return {
        language: {"read": number, "kept": kept[language]}
        for language, number in read.items()
    }


def count_text(
    documents: Sequence[tuple[str, str]],
    sentences: Sequence[Sequence[str]],
    ids_T: np.ndarray,
    splits: np.ndarray,
    vocab: vocabulary.Vocabulary,
) -> LanguageCounts:
    """Counts the text of N documents.

    Args:
      documents: (text, language) of each.
      sentences: of each document.
      ids_T: int32, the tokens of all sentences, one after another.
      splits: where each sentence begins in `ids_T`, and the end of the last.
    """
    ends_N = splits[np.cumsum([0, *map(len, sentences)])]
    words_N = _sum_between(~vocab.is_continuation[ids_T], ends_N)
    unknown_N = _sum_between(ids_T == vocab.id(vocabulary.UNK), ends_N)
    of_language: dict[str, list[int]] = collections.defaultdict(list)
    for i, (_, language) in enumerate(documents):
        of_language[language].append(i)
    counts: LanguageCounts = {}
    for language, chosen in of_language.items():
        text = "\n".join(documents[i][0] for i in chosen)
        counts[language] = {
            "paragraphs": text.count("\n") + 1,
            "sentences": sum(len(sentences[i]) for i in chosen),
            "words": int(words_N[chosen].sum()),
            "tokens": int(np.diff(ends_N)[chosen].sum()),
            "unknown": int(unknown_N[chosen].sum()),
            "marks": count_marks(text),
        }
    return counts


def count_marks(text: str) -> int:
    """Counts [[ ]] {{ }} '' and the beginnings of tags, such as <ref."""
    encoded = text.encode("utf-8", "replace")
    return int(_count_marks(np.frombuffer(encoded, np.uint8)))


def add(counts: Iterable[Mapping[str, Mapping[str, int]]]) -> LanguageCounts:
    """Adds counts, by language and name."""
    total: dict[str, collections.Counter[str]] = collections.defaultdict(
        collections.Counter
    )
    for by_language in counts:
        for language, values in by_language.items():
            total[language].update(values)
    return {
        language: {name: values[name] for name in _NAMES}
        for language, values in sorted(total.items())
    }


def _sum_between(values_T: np.ndarray, ends_N: np.ndarray) -> np.ndarray:
    sums = np.concatenate([[0], np.cumsum(values_T, dtype=np.int64)])
    return np.diff(sums[ends_N])


@numba_jit.compiled
def _count_marks(text):
    """Counts the marks in UTF-8 text, whose bytes are uint8."""
    count, previous = 0, np.uint8(0)
    for byte in text:
        if previous == ord("<"):
            count += ord("a") <= byte | 0x20 <= ord("z") or byte == ord("/")
        elif byte == previous and (
            byte == ord("[")
            or byte == ord("]")
            or byte == ord("{")
            or byte == ord("}")
            or byte == ord("'")
        ):
            count += 1
            byte = np.uint8(0)  # A third one begins a new mark.
        previous = byte
    return count
