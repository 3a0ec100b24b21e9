"""Scores of predictions against labels: pure functions of arrays and lists.

Every score is a share between 0 and 1 or a coefficient between -1 and 1, and
more is better. There are three exceptions, of which less is better:
"loss" (nats), "calibration_error" and "mean_squared_error".
"""

import statistics
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import scipy.stats
from seqeval.metrics import sequence_labeling
from sklearn import metrics

from bert_pretrain import errors

NUM_BINS = 15  # of the confidences, as in Guo et al. 2017
# Tasks whose score is not the accuracy. For GLUE's they are those of Wang et
# al. 2019, table 1; where it has two, the one that a constant answer or the
# share of the labels cannot raise.
_PRIMARY = {
    "regression": "pearson",
    "tagging": "f1",
    "question_answering": "f1",
    "embedding": "spearman",
    "cola": "matthews",
    "mrpc": "f1",
    "qqp": "f1",
    "stsb": "spearman",
}
# seqeval knows BIO and BIOES. BILOU has other letters for the last word of a
# span and for a span of one word.
_BIOES_PREFIXES = {"L-": "E-", "U-": "S-"}
_Span = tuple[str, int, int]  # type, first word, last word
_TINY = float(np.finfo(np.float32).tiny)  # of probabilities, for logarithms


def primary_metric(task: str) -> str:
    """The name of the score that decides between models; more is better.

    Args:
      task: a kind of task, such as "tagging", or a task of GLUE, such as
        "cola".
    """
    return _PRIMARY.get(task, "accuracy")


def classification(
    label_ids: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]
) -> dict[str, float]:
    """Scores of single-label classification.

    "f1" is that of the second label if there are two, and else the mean over
    the labels that occur, which is always "f1_macro".

    Args:
      label_ids: int [N], the right labels.
      probabilities: float [N, C].
      labels: the names of the C labels.

    Raises:
      UserError: if there is no example, or a probability is not finite.
    """
    _check(probabilities)
    predicted_ids = probabilities.argmax(axis=1)
    f1_macro = metrics.f1_score(label_ids, predicted_ids, average="macro")
    return _plain(
        accuracy=metrics.accuracy_score(label_ids, predicted_ids),
        f1=metrics.f1_score(label_ids, predicted_ids, zero_division=0.0)
        if len(labels) == 2
        else f1_macro,
        f1_macro=f1_macro,
        matthews=metrics.matthews_corrcoef(label_ids, predicted_ids),
        calibration_error=calibration_error(label_ids, probabilities),
        loss=-np.log(
            probabilities[np.arange(len(label_ids)), label_ids].clip(_TINY)
        ).mean(),
    )


def calibration_error(
    label_ids: np.ndarray, probabilities: np.ndarray
) -> float:
    """The expected calibration error (Guo et al. 2017, section 2).

    It is the mean distance between confidence and accuracy over bins of equal
    width, each weighted with its examples.

    Args:
      label_ids: int [N].
      probabilities: float [N, C].
    """
    counts, confidences, accuracies = reliability(label_ids, probabilities)
    gaps = np.abs(confidences - accuracies)
    return float(np.average(gaps, weights=counts))


def reliability(
    label_ids: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence and accuracy by bins of the confidence.

    Bin b holds the confidences above b / B, up to (b + 1) / B.

    Args:
      label_ids: int [N].
      probabilities: float [N, C]; the greatest of a row is its confidence.

    Returns:
      (number of examples, mean confidence, accuracy), each float [B]; the
      means of an empty bin are 0.
    """
    confidences = probabilities.max(axis=1).astype(float)
    hits = probabilities.argmax(axis=1) == label_ids
    bins = np.ceil(confidences * NUM_BINS).astype(int).clip(1, NUM_BINS) - 1
    counts, confidence_sums, hit_sums = (
        np.bincount(bins, weights, NUM_BINS).astype(float)
        for weights in (None, confidences, hits)
    )
    filled = counts.clip(min=1)
    return counts, confidence_sums / filled, hit_sums / filled


def regression(values: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Scores of predicted numbers.

    A correlation with numbers that are all the same is not defined; here it
    is 0, since such predictions tell nothing.

    Args:
      values, predictions: float [N].

    Raises:
      UserError: if there is no example, or a prediction is not finite.
    """
    _check(predictions)
    values, predictions = values.astype(float), predictions.astype(float)
    return _plain(
        pearson=_correlation(scipy.stats.pearsonr, values, predictions),
        spearman=_correlation(scipy.stats.spearmanr, values, predictions),
        mean_squared_error=np.square(values - predictions).mean(),
    )


def tagging(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Scores of tagged words: accuracy of tags, and spans as conlleval counts.

    A span counts if its words and its type are right (Tjong Kim Sang and De
    Meulder 2003, section 2). "precision", "recall" and "f1" are of all spans
    together, and "f1_PER" is of the spans of type PER; types that only the
    predictions have get none.

    Args:
      gold, predicted: the tags of each sentence, in BIO, BIOES or BILOU.

    Raises:
      UserError: if there is no word.
    """
    gold, predicted = _in_bioes(gold), _in_bioes(predicted)
    pairs = [
        gold_tag == predicted_tag
        for sentences in zip(gold, predicted, strict=True)
        for gold_tag, predicted_tag in zip(*sentences, strict=True)
    ]
    if not pairs:
        raise errors.UserError(
            "there is no word to score; give a file of sentences with tags."
        )
    spans = [set(sequence_labeling.get_entities(t)) for t in (gold, predicted)]
    found = {"accuracy": statistics.fmean(pairs), **_span_scores(*spans)}
    for kind in sorted({kind for kind, _, _ in spans[0]}):
        of_kind = ({s for s in each if s[0] == kind} for each in spans)
        for name, value in _span_scores(*of_kind).items():
            found[f"{name}_{kind}"] = value
    return found


def question_answering(
    exact: Sequence[float], f1: Sequence[float]
) -> dict[str, float]:
    """The means over questions of two scores of their answers.

    Args:
      exact: 1 for each answer that is right to the letter, else 0.
      f1: of the words of each answer.

    Raises:
      UserError: if there is no question.
    """
    _check(np.array(exact))
    return _plain(exact_match=np.mean(exact), f1=np.mean(f1))


def summarize(
    of_seeds: Sequence[Mapping[str, float]],
) -> dict[str, dict[str, Any]]:
    """The mean of each score over seeds, its deviation, and the scores.

    The deviation is that of a sample (with n - 1); of one seed it is 0.

    Args:
      of_seeds: the same scores of each seed, at least one seed.
    """
    return {
        name: {
            "mean": statistics.fmean(values),
            "deviation": statistics.stdev(values) if len(values) > 1 else 0.0,
            "seeds": values,
        }
        for name in of_seeds[0]
        for values in [[float(scores[name]) for scores in of_seeds]]
    }


def ensemble(of_seeds: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of what the seeds' models predict.

    Args:
      of_seeds: probabilities [N, C] or numbers [N] of each seed.
    """
    return np.mean(of_seeds, axis=0, dtype=float)


def _check(predictions: np.ndarray) -> None:
    """Refuses predictions that have no score."""
    if not len(predictions):
        raise errors.UserError(
            "there is no example to score; give a file that has examples with "
            "labels."
        )
    is_good = np.isfinite(predictions).reshape(len(predictions), -1).all(axis=1)
    if not is_good.all():
        raise errors.UserError(
            f"{(~is_good).sum():,} of {len(predictions):,} predictions are not "
            "finite, so the model is of no use; train it with a lower "
            "--peak_learning_rate or with --precision=float32."
        )


def _plain(**scores: Any) -> dict[str, float]:
    """The scores as Python's floats, since JSON knows no NumPy."""
    return {name: float(value) for name, value in scores.items()}


def _correlation(
    correlate: Callable[..., Any], values: np.ndarray, others: np.ndarray
) -> float:
    """The coefficient, or 0 where it is not defined."""
    if np.ptp(values) == 0 or np.ptp(others) == 0:
        return 0.0
    return correlate(values, others).statistic


def _span_scores(gold: Set[_Span], predicted: Set[_Span]) -> dict[str, float]:
    """Precision, recall and F1; 0 where there is nothing to divide by."""
    num_right = len(gold & predicted)
    return {
        "precision": num_right / max(1, len(predicted)),
        "recall": num_right / max(1, len(gold)),
        "f1": 2 * num_right / max(1, len(gold) + len(predicted)),
    }


def _in_bioes(sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    """The tags with BIOES's letters for BILOU's."""
    return [
        [_BIOES_PREFIXES.get(tag[:2], tag[:2]) + tag[2:] for tag in tags]
        for tags in sentences
    ]
