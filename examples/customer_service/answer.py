"""Answers customers' questions, and gives the unsure ones to a person.

    python examples/customer_service/answer.py --model_dir=output/questions
    echo "where is my parcel" | python examples/customer_service/answer.py \\
        --model_dir=output/questions --threshold=0.6

The model gives each intent a probability. A question is answered if the most
probable intent has an answer and its probability reaches the threshold. Without
--threshold, it is the lowest one that answers --dev_file with the wanted
precision, and a table shows what other thresholds give. Precision is the share
of the answered questions that get the answer of their intent, coverage the
share of all questions that are answered.
"""

import dataclasses
import math
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence

from bert_pretrain import command_line, errors, options

_FOLDER = pathlib.Path(__file__).parent
_TABLE_THRESHOLDS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerConfig(options.Options):
    """Who answers what."""

    model_dir: str = options.option("The --output_dir of `finetune`.")
    answers_file: str = options.option(
        "YAML that maps intents to answers; other intents go to a person.",
        f"{_FOLDER}/answers.yaml",
    )
    threshold: float | None = options.option(
        "Lowest probability of an answer; default: chosen on --dev_file.",
        None,
        at_least=0,
        at_most=1,
    )
    wanted_precision: float = options.option(
        "Share of right answers that the threshold is chosen for.",
        0.95,
        above=0,
        at_most=1,
    )
    dev_file: str = options.option(
        "Questions with intents, to choose the threshold on.",
        f"{_FOLDER}/dev.tsv",
    )
    test_file: str = options.option(
        "Questions with intents, to measure the threshold on; default: none.",
        "",
    )
    input_file: str = options.option(
        "Questions, one in each line; - is the standard input.", "-"
    )


@dataclasses.dataclass(frozen=True)
class Guess:
    """The most probable intent of a question."""

    intent: str
    probability: float


def main(config: AnswerConfig) -> None:
    """Chooses the threshold if none is given, and answers the questions."""
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    from bert_pretrain.finetuning import prediction
    from bert_pretrain.telemetry import console

    console.quiet_libraries()
    answers = read_answers(config.answers_file)
    predictor = prediction.load(config.model_dir)
    check_intents(config.answers_file, answers, predictor.task.labels)
    threshold = config.threshold
    if threshold is None:
        guesses, intents = guess_labelled(predictor, config.dev_file)
        confidences, rights = outcomes(guesses, intents, answers)
        threshold = choose_threshold(
            confidences, rights, config.wanted_precision
        )
        if threshold == math.inf:
            errors.warn(
                f"{config.dev_file}: no threshold answers with a precision of "
                f"{config.wanted_precision:.0%}, so a person is asked always; "
                "lower --wanted_precision, or train with more questions."
            )
        print(table(confidences, rights, threshold))
    if config.test_file:
        guesses, intents = guess_labelled(predictor, config.test_file)
        confidences, rights = outcomes(guesses, intents, answers)
        print(f"{config.test_file}: {in_words(confidences, rights, threshold)}")
    for question in questions(config.input_file):
        (guess,) = guess_intents(predictor, [question])
        print(f"> {question}\n{reply(guess, answers, threshold)}", flush=True)


def read_answers(path: str) -> dict[str, str]:
    """Reads the answer to each intent.

    Raises:
      UserError: if the file does not map names to texts.
    """
    import yaml

    from bert_pretrain import files

    try:
        answers = yaml.safe_load(files.read_text(path))
    except yaml.YAMLError as error:
        raise errors.UserError(
            f"{path}: not YAML ({' '.join(str(error).split())}); write "
            "INTENT: ANSWER in each line."
        ) from error
    if not isinstance(answers, dict) or not all(
        isinstance(text, str) for pair in answers.items() for text in pair
    ):
        raise errors.UserError(
            f"{path}: does not map intents to texts; write INTENT: ANSWER in "
            "each line, and quotes around an answer that is no text."
        )
    return answers


def check_intents(
    path: str, answers: Mapping[str, str], intents: Sequence[str]
) -> None:
    """Checks that the model knows the intents that have answers.

    Raises:
      UserError: if it does not know one; its answer would never be given.
    """
    if unknown := [name for name in answers if name not in intents]:
        raise errors.UserError(
            f"{path}: the model does not know the intent {unknown[0]!r}, only "
            f"{', '.join(intents)}; correct the name, or train with questions "
            "of this intent."
        )


def guess_labelled(predictor, path: str) -> tuple[list[Guess], list[str]]:
    """The guesses for the questions of a file, and their true intents."""
    from bert_pretrain.tasks import tables

    columns = tables.Columns(text=("question",), label="intent")
    examples = tables.read(path, [columns])
    return guess_intents(predictor, examples.texts), examples.labels or []


def guess_intents(predictor, texts: Sequence[str]) -> list[Guess]:
    """The most probable intent of each question."""
    found = predictor.predict_texts(texts)
    best = found.probabilities.max(axis=1)
    return [
        Guess(label, float(probability))
        for label, probability in zip(found.labels, best, strict=True)
    ]


def outcomes(
    guesses: Sequence[Guess],
    intents: Sequence[str],
    answers: Mapping[str, str],
) -> tuple[list[float], list[bool]]:
    """How sure and how right each answer would be.

    Returns:
      (confidences, rights). The confidence is -1 if the guess has no answer: no
      threshold lets it through.
    """
    confidences = [
        guess.probability if guess.intent in answers else -1.0
        for guess in guesses
    ]
    rights = [
        guess.intent == intent
        for guess, intent in zip(guesses, intents, strict=True)
    ]
    return confidences, rights


def choose_threshold(
    confidences: Sequence[float], rights: Sequence[bool], precision: float
) -> float:
    """The threshold that answers most questions with the wanted precision.

    Returns:
      One of the confidences; infinity if no threshold has the precision.
    """
    reached = [
        threshold
        for threshold in set(confidences)
        if threshold >= 0
        and precision_at(confidences, rights, threshold) >= precision
    ]
    return min(reached, default=math.inf)


def precision_at(
    confidences: Sequence[float], rights: Sequence[bool], threshold: float
) -> float:
    """The share of right answers; NaN if nothing is answered."""
    answered = [
        is_right
        for confidence, is_right in zip(confidences, rights, strict=True)
        if confidence >= threshold
    ]
    return sum(answered) / len(answered) if answered else math.nan


def coverage_at(confidences: Sequence[float], threshold: float) -> float:
    """The share of the questions that are answered."""
    return sum(c >= threshold for c in confidences) / len(confidences)


def table(
    confidences: Sequence[float], rights: Sequence[bool], chosen: float
) -> str:
    """Coverage against precision, with the chosen threshold marked."""
    lines = ["threshold  coverage  precision"]
    for threshold in sorted({*_TABLE_THRESHOLDS, chosen}):
        precision = precision_at(confidences, rights, threshold)
        lines.append(
            f"{threshold:9.2f}{coverage_at(confidences, threshold):10.1%}"
            + ("          -" if math.isnan(precision) else f"{precision:11.1%}")
            + ("  <- chosen" if threshold == chosen else "")
        )
    return "\n".join(lines)


def in_words(
    confidences: Sequence[float], rights: Sequence[bool], threshold: float
) -> str:
    """What a threshold gives on some questions."""
    num_answered = sum(c >= threshold for c in confidences)
    said = f"{num_answered} of {len(confidences)} questions are answered"
    if not num_answered:
        return said
    return (
        f"{said}, {precision_at(confidences, rights, threshold):.1%} of them "
        "right"
    )


def questions(path: str) -> Iterator[str]:
    """Yields the lines of a file that are not blank, as they come."""
    from bert_pretrain import files

    lines = sys.stdin if path == "-" else files.read_text(path).splitlines()
    for line in lines:
        if line.strip():
            yield line.strip()


def reply(guess: Guess, answers: Mapping[str, str], threshold: float) -> str:
    """What is said to a customer, or to the person who takes over."""
    if guess.intent in answers and guess.probability >= threshold:
        said = answers[guess.intent]
        return f"  {said} ({guess.probability:.2f}: {guess.intent})"
    return f"  -> a person is asked ({guess.probability:.2f}: {guess.intent}?)"


if __name__ == "__main__":
    command_line.run(main, AnswerConfig)
