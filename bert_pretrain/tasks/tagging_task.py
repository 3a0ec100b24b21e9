"""Tagging: a tag for each word of a sentence, such as those of names."""

from typing import Any

import matplotlib.figure
import numpy as np

from bert_pretrain import errors
from bert_pretrain.data import labelled_rows, vocabulary
from bert_pretrain.evaluation import score_charts, scores
from bert_pretrain.tasks import conll, examples, task

Sentences = examples.TaggedSentences


class Tagging(task.Task):
    """Chooses a tag for each word; the first token of a word decides."""

    kind = "tagging"

    @property
    def metric(self) -> str:
        """See `Task`."""
        return scores.primary_metric("tagging")

    def read(
        self, path: str, *, is_labelled: bool, is_training: bool
    ) -> Sentences:
        """See `Task`."""
        return conll.read(
            path,
            word_column=_number("text_column", self.config.text_column or "0"),
            tag_column=_number(
                "label_column", self.config.label_column or "-1"
            ),
            needs_tags=is_labelled,
        )

    def learn_labels(self, given: Sentences) -> None:
        """See `Task`."""
        self.labels = conll.tag_set(given).labels

    def encode(
        self, given: Sentences, *, is_labelled: bool, is_training: bool = False
    ) -> labelled_rows.Pieces:
        """A piece for each sentence, several for one that is too long.

        Each word has one slot; `label_ids` are int32.
        """
        limit = self.config.max_seq_length
        encodings = iter(
            self._tokenize([word for words in given.words for word in words])
        )
        pieces: list[tuple[list[int], list[int]]] = []
        slots: list[list[int]] = []
        num_divided = 0
        for words in given.words:
            num_pieces = len(pieces)
            ids: list[int] = [self._cls]
            positions: list[int] = []
            for _ in words:
                # A word may consist of characters that are left out.
                tokens = next(encodings).ids or [
                    self._vocabulary.id(vocabulary.UNK)
                ]
                # A word alone may be too long.
                tokens = tokens[: limit - 2]
                if len(ids) + len(tokens) + 1 > limit:
                    pieces.append(_closed(ids, self._sep))
                    slots.append(positions)
                    ids, positions = [self._cls], []
                positions.append(len(ids))
                ids += tokens
            pieces.append(_closed(ids, self._sep))
            slots.append(positions)
            num_divided += len(pieces) - num_pieces > 1
        if num_divided:
            errors.warn(
                f"{given.path}: {num_divided:,} of {len(given):,} sentences "
                f"are longer than --max_seq_length={limit} tokens; each is "
                "read in pieces."
            )
        num_words = sum(map(len, given.words))
        label_ids = (
            np.concatenate(self._label_set().tag_ids(given))
            if is_labelled
            else np.zeros(num_words, np.int32)
        )
        return labelled_rows.Pieces(
            **labelled_rows.join(pieces),
            slot_positions=np.concatenate(
                [np.asarray(each, np.int32) for each in slots]
            ),
            slot_bounds=np.concatenate(
                [[0], np.cumsum([len(each) for each in slots])]
            ),
            outputs=np.arange(num_words, dtype=np.int32),
            labels={"label_ids": label_ids},
            num_outputs=num_words,
        )

    def _label_set(self) -> examples.LabelSet:
        return examples.LabelSet("the training file", self.labels)

    def scores(
        self, given: Sentences, outputs: task.Outputs
    ) -> dict[str, float]:
        """See `Task`: of whole spans, and the accuracy of single tags."""
        assert given.tags is not None
        return scores.tagging(given.tags, self._tags(given, outputs))

    def figure(
        self, given: Sentences, outputs: task.Outputs
    ) -> matplotlib.figure.Figure:
        """See `Task`: confusion and calibration of single tags."""
        return score_charts.draw_classification(
            np.concatenate(self._label_set().tag_ids(given)),
            outputs["probabilities"],
            self.labels,
        )

    def answers(
        self, given: Sentences, outputs: task.Outputs
    ) -> list[dict[str, Any]]:
        """See `Task`: the tags, and the spans that they mean."""
        return [
            {
                "words": words,
                "tags": tags,
                **({"gold": given.tags[i]} if given.tags else {}),
                "spans": [
                    {
                        "start": span.start,
                        "end": span.end,
                        "kind": span.kind,
                        "text": " ".join(words[span.start : span.end]),
                    }
                    for span in conll.spans(tags)
                ],
            }
            for i, (words, tags) in enumerate(
                zip(given.words, self._tags(given, outputs), strict=True)
            )
        ]

    def _tags(self, given: Sentences, outputs: task.Outputs) -> list[list[str]]:
        best = iter(np.argmax(outputs["probabilities"], axis=-1).tolist())
        return [
            [self.labels[next(best)] for _ in words] for words in given.words
        ]


def _closed(ids: list[int], sep: int) -> tuple[list[int], list[int]]:
    """The tokens of a piece and their types."""
    return [*ids, sep], [0] * (len(ids) + 1)


def _number(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise errors.UserError(
            f"--{name}={value}: the columns of a CoNLL file have no names; "
            "give a number, 0 for the first or -1 for the last."
        ) from error
