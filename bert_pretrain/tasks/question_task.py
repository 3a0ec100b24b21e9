"""Extractive question answering: the span of a context that answers.

A context that is too long is read in windows that overlap (Devlin et al. 2019,
section 4.2 and their code). [CLS] as the answer means that there is none
(section 4.3).
"""

import dataclasses
import math
from typing import Any

import matplotlib.figure
import numpy as np

from bert_pretrain import errors
from bert_pretrain.data import labelled_rows
from bert_pretrain.evaluation import score_charts, scores
from bert_pretrain.tasks import examples, squad, task

Questions = examples.Questions
_MAX_QUESTION_SHARE = 0.5  # of a row
_MAX_ANSWER_TOKENS = 30
# The label of a model that may say that the context has no answer.
_NO_ANSWER = "no answer"


@dataclasses.dataclass(frozen=True)
class _Window:
    """A question with a part of its context."""

    question: int  # index
    ids: list[int]
    types: list[int]
    first: int  # position of the first token of the context
    # Of each token of the context: its first character, and the one behind.
    offsets: list[tuple[int, int]]


class QuestionAnswering(task.Task):
    """Finds the answer to a question in a context."""

    kind = "question_answering"

    @property
    def metric(self) -> str:
        """See `Task`."""
        return scores.primary_metric("question_answering")

    def read(
        self, path: str, *, is_labelled: bool, is_training: bool
    ) -> Questions:
        """See `Task`."""
        return squad.read(path, needs_answers=is_labelled)

    def learn_labels(self, given: Questions) -> None:
        """Notes whether some questions have no answer."""
        has_unanswered = not all(given.answers)
        self.labels = (_NO_ANSWER,) if has_unanswered else ()

    def encode(
        self, given: Questions, *, is_labelled: bool, is_training: bool = False
    ) -> labelled_rows.Pieces:
        """A piece for each window, with one slot.

        `starts` and `ends` are positions, int32; those of [CLS] if the window
        does not hold the answer.
        """
        windows = self._windows(given)
        spans = [
            _span(window, given.answers[window.question])
            if is_labelled
            else (0, 0)
            for window in windows
        ]
        if is_labelled:
            _warn_of_lost(given, windows, spans)
        num_windows = len(windows)
        return labelled_rows.Pieces(
            **labelled_rows.join([(w.ids, w.types) for w in windows]),
            slot_positions=np.zeros(num_windows, np.int32),
            slot_bounds=np.arange(num_windows + 1),
            outputs=np.arange(num_windows, dtype=np.int32),
            labels={
                "starts": np.array([start for start, _ in spans], np.int32),
                "ends": np.array([end for _, end in spans], np.int32),
            },
            position_labels=("starts", "ends"),
            num_outputs=num_windows,
        )

    def _windows(self, given: Questions) -> list[_Window]:
        limit = self.config.max_seq_length
        max_question = int(_MAX_QUESTION_SHARE * limit)
        stride = self.config.document_stride
        if stride is None:
            stride = limit // 3
        questions = [e.ids for e in self._tokenize(given.questions)]
        num_cut = sum(len(ids) > max_question for ids in questions)
        if num_cut:
            errors.warn(
                f"{given.path}: {num_cut:,} of {len(given):,} questions are "
                f"longer than half of --max_seq_length={limit} tokens and lose "
                "their ends."
            )
        windows: list[_Window] = []
        for number, (ids, encoding) in enumerate(
            zip(questions, self._tokenize(given.contexts), strict=True)
        ):
            begin = [self._cls, *ids[:max_question], self._sep]
            room = limit - len(begin) - 1
            step = max(1, room - stride)
            for start in range(0, max(1, len(encoding.ids)), step):
                part = slice(start, start + room)
                tokens = [*encoding.ids[part], self._sep]
                windows.append(
                    _Window(
                        number,
                        [*begin, *tokens],
                        [0] * len(begin) + [1] * len(tokens),
                        len(begin),
                        encoding.offsets[part],
                    )
                )
                if part.stop >= len(encoding.ids):
                    break
        return windows

    def scores(
        self, given: Questions, outputs: task.Outputs
    ) -> dict[str, float]:
        """See `Task`."""
        return scores.question_answering(
            *_compare(given, self.answers(given, outputs))
        )

    def figure(
        self, given: Questions, outputs: task.Outputs
    ) -> matplotlib.figure.Figure:
        """See `Task`: how good the surest answers are."""
        answers = self.answers(given, outputs)
        return score_charts.draw_answers(
            [
                -math.inf if answer["score"] is None else answer["score"]
                for answer in answers
            ],
            *_compare(given, answers),
        )

    def answers(
        self, given: Questions, outputs: task.Outputs
    ) -> list[dict[str, Any]]:
        """See `Task`: the answer, and its score, a sum of two logits."""
        best = [("", -math.inf)] * len(given)
        # A question has no answer if no window has one.
        without = [math.inf] * len(given)
        for window, starts, ends in zip(
            self._windows(given),
            outputs["start_logits"],
            outputs["end_logits"],
            strict=True,
        ):
            number, first = window.question, window.first
            without[number] = min(without[number], float(starts[0] + ends[0]))
            stop = first + len(window.offsets)
            positions = np.arange(len(starts))
            span = squad.best_span(
                starts,
                ends,
                (positions >= first) & (positions < stop),
                _MAX_ANSWER_TOKENS,
            )
            if span.score > best[number][1]:
                begin = window.offsets[span.start - first][0]
                end = window.offsets[span.end - first][1]
                best[number] = (given.contexts[number][begin:end], span.score)
        if _NO_ANSWER in self.labels:
            best = [
                ("", other) if other > score else (answer, score)
                for (answer, score), other in zip(best, without, strict=True)
            ]
        return [
            {
                "id": given.ids[i],
                "question": given.questions[i],
                "answer": answer,
                "score": score if math.isfinite(score) else None,
            }
            for i, (answer, score) in enumerate(best)
        ]


def _compare(
    given: Questions, answers: list[dict[str, Any]]
) -> tuple[list[float], list[float]]:
    """Exact match and F1 of each answer."""
    pairs = [
        (answer["answer"], [a.text for a in accepted])
        for answer, accepted in zip(answers, given.answers, strict=True)
    ]
    return (
        [float(squad.exact_match(*pair)) for pair in pairs],
        [squad.f1(*pair) for pair in pairs],
    )


def _span(window: _Window, answers: list[examples.Answer]) -> tuple[int, int]:
    """The first and the last token of the first answer; [CLS] if outside."""
    if not answers:
        return 0, 0
    begin = answers[0].start
    end = begin + len(answers[0].text)
    inside = [
        i for i, (a, b) in enumerate(window.offsets) if a < end and b > begin
    ]
    is_whole = (
        inside
        and window.offsets[inside[0]][0] <= begin
        and window.offsets[inside[-1]][1] >= end
    )
    if not is_whole:
        return 0, 0
    return window.first + inside[0], window.first + inside[-1]


def _warn_of_lost(
    given: Questions, windows: list[_Window], spans: list[tuple[int, int]]
) -> None:
    """Tells the user that answers are in no window, if some are."""
    found = {
        w.question for w, (_, end) in zip(windows, spans, strict=True) if end
    }
    lost = [i for i, a in enumerate(given.answers) if a and i not in found]
    if lost:
        errors.warn(
            f"{given.path}: the answers of {len(lost):,} of {len(given):,} "
            "questions are in no window as a whole (the first: "
            f"{given.name_of(lost[0])}); a larger --document_stride helps."
        )
