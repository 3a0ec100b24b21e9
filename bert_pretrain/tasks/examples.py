"""Examples of a task as they are in a file: texts, words, questions, labels.

Texts and labels are not changed here. Every example knows its place in the
file, so that a message can name it.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from bert_pretrain import errors

_NUM_LABELS_SHOWN = 20
_Examples = TypeVar("_Examples", "TextExamples", "TaggedSentences", "Questions")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextExamples:
    """Texts or pairs of texts, for classification, regression, embeddings.

    Attributes:
      path: of the file.
      lines: the number of each example's first line, counted from 1.
      texts: the first or only text of each example.
      pairs: the second texts; None if the texts are not in pairs.
      labels: as the file has them; None if it has none.
    """

    path: str
    lines: list[int]
    texts: list[str]
    pairs: list[str] | None = None
    labels: list[str] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def name_of(self, index: int) -> str:
        """Where an example is, as PATH:LINE."""
        return f"{self.path}:{self.lines[index]}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaggedSentences:
    """Sentences as lists of words, with one tag for each word.

    Attributes:
      path: of the file.
      lines: the number of the line with each sentence's first word, counted
        from 1. The other words are in the lines that follow.
      words: the words of each sentence.
      tags: the tags of each sentence's words; None if the file has none.
    """

    path: str
    lines: list[int]
    words: list[list[str]]
    tags: list[list[str]] | None = None

    def __len__(self) -> int:
        return len(self.words)

    def name_of(self, index: int, word: int = 0) -> str:
        """Where a word of a sentence is, as PATH:LINE."""
        return f"{self.path}:{self.lines[index] + word}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """A stretch of a context.

    Attributes:
      start: the index of its first character in the context.
      text: its characters.
    """

    start: int
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Questions:
    """Questions about contexts, which hold the answers.

    Attributes:
      path: of the file.
      ids: one for each question, all different.
      questions: the texts of the questions.
      contexts: the text that each question is about.
      answers: what each question accepts as its answer; an empty list if the
        context does not answer it.
    """

    path: str
    ids: list[str]
    questions: list[str]
    contexts: list[str]
    answers: list[list[Answer]]

    def __len__(self) -> int:
        return len(self.ids)

    def name_of(self, index: int) -> str:
        """Where a question is, as PATH and its id."""
        return f"{self.path}: question {self.ids[index]}"


def take(found: _Examples, indexes: Sequence[int]) -> _Examples:
    """Some of the examples, in the order of the indexes."""
    lists: dict[str, Any] = {
        name: [values[index] for index in indexes]
        for name, values in vars(found).items()
        if isinstance(values, list)
    }
    return dataclasses.replace(found, **lists)


@dataclasses.dataclass(frozen=True)
class LabelSet:
    """The labels that a model knows; the index of a label is its id.

    Attributes:
      path: where the labels come from, for messages.
      labels: all different.
    """

    path: str
    labels: tuple[str, ...]

    @classmethod
    def of(cls, train: TextExamples) -> "LabelSet":
        """The labels of training examples, sorted; numbers by their value.

        This is the order of the labels in the code of Devlin et al. (2019).

        Raises:
          UserError: if all the examples have the same label.
        """
        labels = sorted(set(train.labels or ()), key=_sort_key)
        if len(labels) < 2:
            raise errors.UserError(
                f"{train.path}: {len(train)} examples have {len(labels)} "
                f"different labels ({_listing(labels) or 'none'}); to learn "
                "classes takes at least two, so check the label column."
            )
        return cls(train.path, tuple(labels))

    def text_ids(self, examples: TextExamples) -> np.ndarray:
        """The ids of the examples' labels, [N] int32.

        Raises:
          UserError: if a label is not one of these.
        """
        labels = enumerate(examples.labels or ())
        return self._ids("label", ((examples.name_of(i), x) for i, x in labels))

    def tag_ids(self, sentences: TaggedSentences) -> list[np.ndarray]:
        """The ids of the tags of each sentence's words, [words] int32.

        Raises:
          UserError: if a tag is not one of these.
        """
        tags = sentences.tags or []
        places = (
            (sentences.name_of(i, word), tag)
            for i, sentence in enumerate(tags)
            for word, tag in enumerate(sentence)
        )
        flat = self._ids("tag", places)
        return np.split(flat, np.cumsum([len(each) for each in tags])[:-1])

    def _ids(self, noun: str, places: Iterable[tuple[str, str]]) -> np.ndarray:
        """The ids of labels that each come with their place, PATH:LINE."""
        ids = {label: number for number, label in enumerate(self.labels)}
        found, unknown = [], []
        for place, label in places:
            found.append(ids.get(label, -1))
            if label not in ids:
                unknown.append((place, label))
        if unknown:
            place, label = unknown[0]
            raise errors.UserError(
                f"{place}: the {noun} {label!r} is not among those of "
                f"{self.path} ({_listing(self.labels)}){_and_more(unknown)}; "
                f"correct it, or add examples of it there."
            )
        return np.array(found, np.int32)


def as_floats(examples: TextExamples) -> np.ndarray:
    """The labels of a regression, [N] float32.

    Raises:
      UserError: if a label is no finite number.
    """
    values = [_number(label) for label in examples.labels or ()]
    wrong = [i for i, value in enumerate(values) if not math.isfinite(value)]
    if wrong:
        raise errors.UserError(
            f"{examples.name_of(wrong[0])}: the label "
            f"{(examples.labels or [])[wrong[0]]!r} is no number"
            f"{_and_more(wrong)}; "
            "correct it, or use --task=classification."
        )
    return np.array(values, np.float32)


def _number(label: str) -> float:
    try:
        return float(label)
    except ValueError:
        return math.nan


def _sort_key(label: str) -> tuple[bool, float, str]:
    """Sorts "10" after "9", and text after numbers."""
    value = _number(label)
    is_text = math.isnan(value)
    return is_text, 0.0 if is_text else value, label


def _listing(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:_NUM_LABELS_SHOWN])
    more = len(labels) - _NUM_LABELS_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _and_more(wrong: Sequence[object]) -> str:
    return f", and {len(wrong) - 1} more are wrong" if wrong[1:] else ""
