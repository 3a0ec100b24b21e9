"""Tasks about a text or a pair of texts: classes, numbers, embeddings."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import matplotlib.figure
import numpy as np

from bert_pretrain import errors
from bert_pretrain.data import labelled_rows, vocabulary
from bert_pretrain.evaluation import score_charts, scores
from bert_pretrain.tasks import (
    examples,
    known_tasks,
    tables,
    task,
    task_config,
)

Examples = examples.TextExamples


class TextTask(task.Task):
    """Says one thing of each text or pair."""

    def __init__(
        self, config: task_config.TaskConfig, vocab: vocabulary.Vocabulary
    ) -> None:
        """See `Task`."""
        super().__init__(config, vocab)
        self._known = known_tasks.KNOWN_TASKS.get(config.task)

    def read(
        self, path: str, *, is_labelled: bool, is_training: bool
    ) -> Examples:
        """See `Task`."""
        return tables.read(
            path,
            self._layouts(),
            needs_labels=is_labelled,
            drops_empty=is_training,
            no_label=self._known.no_label if self._known else "",
        )

    def _layouts(self) -> tuple[tables.Columns, ...]:
        """The columns that the options name, else those of the task."""
        config = self.config
        is_given = (
            config.text_column or config.text_pair_column or config.label_column
        )
        if self._known and not is_given:
            return self._known.layouts
        columns = tables.Columns(
            text=tuple((config.text_column or "text").split(",")),
            text_pair=config.text_pair_column,
            label=config.label_column,
        )
        # A table without a header has no column of this name.
        if not columns.label and not columns.are_numbers:
            columns = dataclasses.replace(columns, label="label")
        return (columns,)

    def _pieces(
        self, found: Examples, **labels: np.ndarray
    ) -> labelled_rows.Pieces:
        """One piece for each example, or for each part of a long text.

        Args:
          labels: of the examples.
        """
        return self._one_slot_pieces(
            found.path,
            found.texts,
            found.pairs,
            labels,
            divides=self.config.long_texts == "divide",
        )

    def _one_slot_pieces(  # noqa: PLR0913 (they are the parts of the pieces)
        self,
        path: str,
        texts: list[str],
        pairs: list[str] | None = None,
        labels: Mapping[str, np.ndarray] | None = None,
        second: labelled_rows.Pieces | None = None,
        *,
        divides: bool = False,
    ) -> labelled_rows.Pieces:
        """Pieces with one slot each, at their first token.

        The output of a piece has the number of its text.
        """
        tokens, numbers = self._encode_texts(
            path, texts, pairs, divides=divides
        )
        return labelled_rows.Pieces(
            **tokens,
            slot_positions=np.zeros_like(numbers),
            slot_bounds=np.arange(len(numbers) + 1),
            outputs=numbers,
            labels={
                name: values[numbers] for name, values in (labels or {}).items()
            },
            num_outputs=len(texts),
            second=second,
        )


class Classification(TextTask):
    """Chooses a class for each text."""

    kind = "classification"

    @property
    def metric(self) -> str:
        """See `Task`."""
        return scores.primary_metric(self.config.task)

    def learn_labels(self, given: Examples) -> None:
        """See `Task`."""
        self.labels = examples.LabelSet.of(given).labels

    def encode(
        self, given: Examples, *, is_labelled: bool, is_training: bool = False
    ) -> labelled_rows.Pieces:
        """See `Task`; `label_ids` are int32."""
        ids = (
            self._known_labels().text_ids(given)
            if is_labelled
            else np.zeros(len(given), np.int32)
        )
        return self._pieces(given, label_ids=ids)

    def _known_labels(self) -> examples.LabelSet:
        return examples.LabelSet("the training file", self.labels)

    def scores(
        self, given: Examples, outputs: task.Outputs
    ) -> dict[str, float]:
        """See `Task`."""
        return scores.classification(
            self._known_labels().text_ids(given),
            outputs["probabilities"],
            self.labels,
        )

    def figure(
        self, given: Examples, outputs: task.Outputs
    ) -> matplotlib.figure.Figure:
        """See `Task`: confusion and calibration."""
        return score_charts.draw_classification(
            self._known_labels().text_ids(given),
            outputs["probabilities"],
            self.labels,
        )

    def answers(
        self, given: Examples, outputs: task.Outputs
    ) -> list[dict[str, Any]]:
        """See `Task`: the label, and the probability of each."""
        found = []
        for i, probabilities in enumerate(outputs["probabilities"].tolist()):
            best = int(np.argmax(probabilities))
            found.append(
                {
                    **_texts(given, i),
                    "label": self.labels[best],
                    "probability": probabilities[best],
                    "probabilities": dict(
                        zip(self.labels, probabilities, strict=True)
                    ),
                }
            )
        return found


class Regression(TextTask):
    """Gives each text a number."""

    kind = "regression"

    @property
    def metric(self) -> str:
        """See `Task`."""
        return scores.primary_metric(self.config.task)

    def learn_labels(self, given: Examples) -> None:
        """Checks that they are numbers; a number has no name."""
        examples.as_floats(given)

    def encode(
        self, given: Examples, *, is_labelled: bool, is_training: bool = False
    ) -> labelled_rows.Pieces:
        """See `Task`; `label_values` are float32."""
        values = (
            examples.as_floats(given)
            if is_labelled
            else np.zeros(len(given), np.float32)
        )
        return self._pieces(given, label_values=values)

    def scores(
        self, given: Examples, outputs: task.Outputs
    ) -> dict[str, float]:
        """See `Task`."""
        return scores.regression(examples.as_floats(given), outputs["values"])

    def figure(
        self, given: Examples, outputs: task.Outputs
    ) -> matplotlib.figure.Figure:
        """See `Task`: the numbers given over the right ones."""
        return score_charts.draw_regression(
            examples.as_floats(given), outputs["values"]
        )

    def answers(
        self, given: Examples, outputs: task.Outputs
    ) -> list[dict[str, Any]]:
        """See `Task`: the number."""
        return [
            {**_texts(given, i), "score": value}
            for i, value in enumerate(outputs["values"].tolist())
        ]


class Embedding(TextTask):
    """Gives each text a vector; similar texts are to have similar ones."""

    kind = "embedding"

    @property
    def metric(self) -> str:
        """See `Task`."""
        return scores.primary_metric("embedding")

    def read(
        self, path: str, *, is_labelled: bool, is_training: bool
    ) -> Examples:
        """Reads texts, for training pairs if the options name a column of them.

        Labels are similarities of pairs. Training needs none.
        """
        layouts = self._layouts()
        if is_training:
            # Without second texts, a text is learned beside itself.
            alone = tuple(
                dataclasses.replace(each, text_pair="") for each in layouts
            )
            layouts = alone if ".txt" in path else layouts + alone
        found = tables.read(
            path,
            layouts,
            needs_labels=is_labelled and not is_training,
            drops_empty=is_training,
        )
        if is_labelled and not is_training and found.pairs is None:
            raise errors.UserError(
                f"{path}: embeddings are scored by the similarity of pairs; "
                "name the column of the second text with --text_pair_column."
            )
        return found

    def learn_labels(self, given: Examples) -> None:
        """There are none."""

    def encode(
        self, given: Examples, *, is_labelled: bool, is_training: bool = False
    ) -> labelled_rows.Pieces:
        """One piece for each text; in training a pair is one piece.

        Otherwise the second texts follow the first ones.
        """
        texts, pairs = given.texts, given.pairs or []
        if not is_training:
            texts, pairs = [*texts, *pairs], []
        if pairs:
            second = self._one_slot_pieces(given.path, pairs)
            return self._one_slot_pieces(given.path, texts, second=second)
        return self._one_slot_pieces(
            given.path, texts, divides=self.config.long_texts == "divide"
        )

    def scores(
        self, given: Examples, outputs: task.Outputs
    ) -> dict[str, float]:
        """See `Task`: of the cosines, against the given similarities."""
        return scores.regression(examples.as_floats(given), _cosines(outputs))

    def figure(
        self, given: Examples, outputs: task.Outputs
    ) -> matplotlib.figure.Figure:
        """See `Task`: the cosines over the given similarities."""
        return score_charts.draw_regression(
            examples.as_floats(given), _cosines(outputs)
        )

    def answers(
        self, given: Examples, outputs: task.Outputs
    ) -> list[dict[str, Any]]:
        """See `Task`: the vectors; of pairs the cosine."""
        if given.pairs is None:
            values = [{"embedding": v} for v in outputs["embeddings"].tolist()]
        else:
            values = [{"score": v} for v in _cosines(outputs).tolist()]
        return [{**_texts(given, i), **v} for i, v in enumerate(values)]


def _cosines(outputs: task.Outputs) -> np.ndarray:
    """float32 [N]: of the first half of the vectors with the second."""
    vectors = outputs["embeddings"]
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    first, second = np.split(vectors / np.maximum(norms, 1e-12), 2)
    return np.sum(first * second, axis=-1)


def _texts(given: Examples, index: int) -> dict[str, str]:
    """The texts of an example, and the right label if the file has one."""
    values = {"text": given.texts[index]}
    if given.pairs is not None:
        values["text_pair"] = given.pairs[index]
    if given.labels is not None:
        values["gold"] = given.labels[index]
    return values
