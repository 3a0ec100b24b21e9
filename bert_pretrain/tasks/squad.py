"""Questions in SQuAD's JSON, the best span of a context, and its scores.

SQuAD 1.1: Rajpurkar et al. 2016. SQuAD 2.0, where some contexts do not answer
their questions: Rajpurkar, Jia and Liang 2018.
"""

import collections
import re
import string
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bert_pretrain import errors, files
from bert_pretrain.tasks import examples

_SHAPE = (
    'write {"data": [{"paragraphs": [{"context": "…", "qas": [{"id": "…", '
    '"question": "…", "answers": [{"text": "…", "answer_start": 0}]}]}]}]}'
)
_JSON_TYPES: dict[type, str] = {dict: "object", list: "array", str: "string"}
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class BestSpan(NamedTuple):
    """The tokens [start, end] of an answer, with the last one.

    Attributes:
      start: index of the first token.
      end: index of the last token.
      score: the sum of the two logits; -inf if no token can be an answer.
    """

    start: int
    end: int
    score: float


def read(path: str, *, needs_answers: bool = True) -> examples.Questions:
    """Reads the questions of a file, with all answers that people gave.

    If an answer is not where the file says, the nearest place with its text is
    taken. If there is none, the answer is left out, and with its last answer
    the question. Warnings say how many.

    Args:
      path: a name that ends with .gz is that of a compressed file.
      needs_answers: whether answers are read.

    Raises:
      UserError: if the file is not SQuAD's JSON, has two questions with one id,
        or has no question.
    """
    found = examples.Questions(
        path=path, ids=[], questions=[], contexts=[], answers=[]
    )
    faults = _Faults(path)
    for place, context, question in _walk(path, files.read_json(path)):
        name = str(_field(place, question, "id", (str, int)))
        text = _field(place, question, "question", str)
        given = []
        if needs_answers and not question.get("is_impossible"):
            given = _answers(place, question)
        answers = [
            located
            for answer in given
            if (located := faults.mend(name, context, answer))
        ]
        if given and not answers:
            continue
        found.ids.append(name)
        found.questions.append(text)
        found.contexts.append(context)
        found.answers.append(answers)
    faults.warn()
    if not len(found):
        raise errors.UserError(f"{path}: no questions; add some.")
    twice = [n for n, c in collections.Counter(found.ids).items() if c > 1]
    if twice:
        raise errors.UserError(
            f"{path}: {len(twice)} ids stand for more than one question, the "
            f"first is {twice[0]!r}; give each question an id of its own."
        )
    return found


def _walk(path: str, content: Any) -> Iterator[tuple[str, str, Any]]:
    """Yields the place, the context and the object of each question."""
    for i, article in enumerate(_field(f"{path}:", content, "data", list)):
        of_article = f"{path}: data[{i}]"
        paragraphs = _field(of_article, article, "paragraphs", list)
        for j, paragraph in enumerate(paragraphs):
            place = f"{of_article}.paragraphs[{j}]"
            context = _field(place, paragraph, "context", str)
            questions = _field(place, paragraph, "qas", list)
            for k, question in enumerate(questions):
                yield f"{place}.qas[{k}]", context, question


def _answers(place: str, question: Any) -> list[examples.Answer]:
    return [
        examples.Answer(
            start=_field(f"{place}.answers[{i}]", each, "answer_start", int),
            text=_field(f"{place}.answers[{i}]", each, "text", str),
        )
        for i, each in enumerate(_field(place, question, "answers", list))
    ]


def _field(
    place: str, holder: Any, name: str, kind: type | tuple[type, ...]
) -> Any:
    """The value of a field of a JSON object.

    Raises:
      UserError: if the holder is no object, or has no such field of this kind.
    """
    if not isinstance(holder, dict):
        fault = "not an object"
    elif name not in holder:
        fault = f"no {name!r}"
    elif not isinstance(holder[name], kind):
        given = type(holder[name])
        fault = f"{name!r} is of type {_JSON_TYPES.get(given, given.__name__)}"
    else:
        return holder[name]
    raise errors.UserError(f"{place} {fault}; {_SHAPE}.")


class _Faults:
    """Answers that are not where the file says."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._num_answers = 0
        self._moved: list[str] = []  # The ids of their questions.
        self._absent: list[str] = []

    def mend(
        self, question_id: str, context: str, answer: examples.Answer
    ) -> examples.Answer | None:
        """The answer at the nearest place with its text; None without one."""
        self._num_answers += 1
        start, text = max(answer.start, 0), answer.text
        if not text.strip():
            self._absent.append(question_id)
            return None
        if answer.start >= 0 and context.startswith(text, start):
            return answer
        places = [
            context.rfind(text, 0, start + len(text)),
            context.find(text, start),
        ]
        places = [place for place in places if place >= 0]
        if not places:
            self._absent.append(question_id)
            return None
        self._moved.append(question_id)
        nearest = min(places, key=lambda place: abs(place - answer.start))
        return examples.Answer(start=nearest, text=text)

    def warn(self) -> None:
        """Says how many answers were moved or left out."""
        for ids, done in (
            (self._moved, "taken from the nearest place with their text"),
            (self._absent, "left out, as their context does not hold them"),
        ):
            if ids:
                errors.warn(
                    f"{self._path}: {len(ids)} of {self._num_answers} answers "
                    "are not where answer_start says; they are "
                    f"{done}; the first is of question {ids[0]!r}."
                )


def best_span(
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    is_context: np.ndarray,
    max_answer_tokens: int,
) -> BestSpan:
    """The span with the largest sum of logits (Devlin et al. 2019, 4.2).

    Among equals it is the first one, and then the shortest.

    Args:
      start_logits: [S], for the first token of the answer.
      end_logits: [S], for the last token.
      is_context: [S] bool, which tokens an answer may begin or end with.
      max_answer_tokens: the most tokens of an answer.
    """
    starts = np.where(is_context, start_logits, -np.inf)
    ends = np.where(is_context, end_logits, -np.inf)
    padding = np.full(max_answer_tokens - 1, -np.inf)
    # windows[s, n] is the logit of the end s + n.
    windows = np.lib.stride_tricks.sliding_window_view(
        np.concatenate([ends, padding]), max_answer_tokens
    )
    scores = starts[:, np.newaxis] + windows
    start, offset = np.unravel_index(np.argmax(scores), scores.shape)
    return BestSpan(
        int(start), int(start + offset), float(scores[start, offset])
    )


def normalize_answer(text: str) -> str:
    """The text as it is compared: lower-cased, no articles, no punctuation."""
    words = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", words).split())


def exact_match(answer: str, gold: Sequence[str]) -> float:
    """1.0 if the answer is one of the right ones, else 0.0.

    Args:
      answer: empty if the context is said not to answer the question.
      gold: the texts of all right answers; empty if the context has none.
    """
    return float(normalize_answer(answer) in _comparable(gold))


def f1(answer: str, gold: Sequence[str]) -> float:
    """The F1 of words with the right answer that is nearest, in [0, 1].

    As in the script of SQuAD 2.0, no answer is worth 1 where there is none.
    Arguments as for `exact_match`.
    """
    words = normalize_answer(answer).split()
    return max(_f1(words, each.split()) for each in _comparable(gold))


def _comparable(gold: Sequence[str]) -> list[str]:
    """The normalized answers; an empty one stands for none."""
    return [x for x in map(normalize_answer, gold) if x] or [""]


def _f1(words: list[str], gold: list[str]) -> float:
    if not words or not gold:
        return float(words == gold)
    common = collections.Counter(words) & collections.Counter(gold)
    return 2 * common.total() / (len(words) + len(gold))
