"""A task: how its files become pieces of rows, and how answers are scored.

Each kind of task is a class: text_tasks.py, tagging_task.py, question_task.py.
A task is read from its options, and knows its labels after the training file
is read. task.json keeps it beside a fine-tuned model.
"""

import abc
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import matplotlib.figure
import numpy as np
import tokenizers

from bert_pretrain import errors
from bert_pretrain.data import labelled_rows, vocabulary
from bert_pretrain.interchange import task_json, tokenizer_files
from bert_pretrain.tasks import task_config

Outputs = Mapping[str, np.ndarray]


class Task(abc.ABC):
    """One kind of task."""

    kind: ClassVar[task_json.Kind]

    def __init__(
        self, config: task_config.TaskConfig, vocab: vocabulary.Vocabulary
    ) -> None:
        """Takes the options, and the vocabulary of the model."""
        self.config = config
        self.labels: tuple[str, ...] = ()
        self._vocabulary = vocab
        self._tokenizer = tokenizer_files.tokenizer(vocab)

    @property
    @abc.abstractmethod
    def metric(self) -> str:
        """The score that decides between models; more is better."""

    @abc.abstractmethod
    def read(self, path: str, *, is_labelled: bool, is_training: bool) -> Any:
        """Reads the examples of a file.

        Raises:
          UserError: if something in it is wrong.
        """

    @abc.abstractmethod
    def learn_labels(self, given: Any) -> None:
        """Takes the labels of the training examples."""

    @abc.abstractmethod
    def encode(
        self, given: Any, *, is_labelled: bool, is_training: bool = False
    ) -> labelled_rows.Pieces:
        """Divides the examples into pieces of rows.

        Raises:
          UserError: if an example has a label that training does not have.
        """

    @abc.abstractmethod
    def scores(self, given: Any, outputs: Outputs) -> dict[str, float]:
        """The scores of a model's outputs for labelled examples."""

    @abc.abstractmethod
    def answers(self, given: Any, outputs: Outputs) -> list[dict[str, Any]]:
        """What a model says of each example, as JSON objects."""

    def figure(
        self, given: Any, outputs: Outputs
    ) -> matplotlib.figure.Figure | None:
        """A picture of the outputs for labelled examples, if there is one."""
        return None

    # -------------------------------------------------------------- tokens

    @property
    def _cls(self) -> int:
        return self._vocabulary.id(vocabulary.CLS)

    @property
    def _sep(self) -> int:
        return self._vocabulary.id(vocabulary.SEP)

    def _tokenize(self, texts: Sequence[str]) -> list[tokenizers.Encoding]:
        """Tokens of texts, without special tokens."""
        return self._tokenizer.encode_batch(
            list(texts), add_special_tokens=False
        )

    def _encode_texts(
        self,
        path: str,
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        *,
        divides: bool = False,
    ) -> tuple[dict[str, Any], np.ndarray]:
        """Makes pieces of texts or pairs.

        Args:
          divides: a text that is too long becomes several pieces. Else it loses
            its end; of a pair the longer text does.

        Returns:
          Tokens and bounds of the pieces, and the number of the text of each:
          int32 [pieces].
        """
        limit = self.config.max_seq_length
        firsts = [encoding.ids for encoding in self._tokenize(texts)]
        seconds = (
            [encoding.ids for encoding in self._tokenize(pairs)]
            if pairs is not None
            else [None] * len(firsts)
        )
        pieces, numbers, num_cut = [], [], 0
        for number, (first, second) in enumerate(
            zip(firsts, seconds, strict=True)
        ):
            room = limit - (2 if second is None else 3)
            parts = [(first, second)]
            if second is None and divides:
                parts = [(part, None) for part in _divide(first, room)]
            elif len(first) + len(second or ()) > room:
                num_cut += 1
                parts = [_cut(first, second, room)]
            pieces += [self._piece(*part) for part in parts]
            numbers += [number] * len(parts)
        warn_of_cuts(path, num_cut, len(firsts), limit)
        return labelled_rows.join(pieces), np.array(numbers, np.int32)

    def _piece(
        self, first: list[int], second: list[int] | None
    ) -> tuple[list[int], list[int]]:
        """Ids and token types of a text or a pair, with special tokens."""
        ids = [self._cls, *first, self._sep]
        types = [0] * len(ids)
        if second is not None:
            ids += [*second, self._sep]
            types += [1] * (len(second) + 1)
        return ids, types


def warn_of_cuts(path: str, num_cut: int, num_texts: int, limit: int) -> None:
    """Tells the user that texts lose their ends, if some do."""
    if num_cut:
        errors.warn(
            f"{path}: {num_cut:,} of {num_texts:,} texts are longer than "
            f"--max_seq_length={limit} tokens and lose their ends."
        )


def _divide(tokens: list[int], room: int) -> list[list[int]]:
    """Parts of nearly the same length, as few as fit."""
    num_parts = max(1, -(-len(tokens) // room))
    bounds = [len(tokens) * i // num_parts for i in range(num_parts + 1)]
    return [tokens[start:end] for start, end in itertools.pairwise(bounds)]


def _cut(
    first: list[int], second: list[int] | None, room: int
) -> tuple[list[int], list[int] | None]:
    """Cuts the longer text until both fit."""
    if second is None:
        return first[:room], None
    half = room // 2
    if len(second) <= half:
        return first[: room - len(second)], second
    if len(first) <= room - half:
        return first, second[: room - len(first)]
    return first[: room - half], second[:half]
