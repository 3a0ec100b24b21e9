"""Scores: what they are for known predictions, and what has none."""

import json
import math
import random

import numpy as np
import pytest
from seqeval.metrics import classification_report
from sklearn import metrics

from bert_pretrain import errors
from bert_pretrain.evaluation import scores

LABELS = ["negative", "positive"]
GOLD = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC", "I-LOC"]]


def one_hot(ids, num_labels, confidence=1.0):
    rest = (1 - confidence) / (num_labels - 1)
    return np.where(np.eye(num_labels)[ids] > 0, confidence, rest)


def test_f1_of_two_labels_is_that_of_the_second_one():
    label_ids = np.array([0, 0, 0, 1, 1])
    found = scores.classification(
        label_ids, one_hot([0, 0, 1, 1, 0], 2, 0.9), LABELS
    )
    assert found["accuracy"] == 0.6
    assert found["f1"] == 0.5  # of 2 labels and 2 predictions, 1 in common
    assert found["f1_macro"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["matthews"] == pytest.approx(1 / 6)


def test_f1_of_more_labels_is_their_mean():
    found = scores.classification(
        np.array([0, 1, 2, 2]), one_hot([0, 1, 1, 2], 4), list("abcd")
    )
    assert found["f1"] == found["f1_macro"]
    # The label d occurs nowhere, so it is not among the three.
    assert found["f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


def test_a_constant_answer_has_no_matthews_and_no_f1():
    found = scores.classification(
        np.array([0, 1, 1]), one_hot([0, 0, 0], 2), LABELS
    )
    assert (found["matthews"], found["f1"]) == (0.0, 0.0)


def test_the_loss_is_that_of_scikit_learn_and_never_infinite():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(5), size=100)
    label_ids = rng.integers(5, size=100)
    found = scores.classification(label_ids, probabilities, list("abcde"))
    assert found["loss"] == pytest.approx(
        metrics.log_loss(label_ids, probabilities, labels=range(5))
    )
    wrong = scores.classification(np.array([0]), one_hot([1], 2), LABELS)
    assert 80 < wrong["loss"] < math.inf


def test_a_model_that_knows_its_errors_is_calibrated():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), size=20_000)
    # Labels drawn from the probabilities themselves.
    draws = rng.uniform(size=(20_000, 1))
    label_ids = (probabilities.cumsum(axis=1) < draws).sum(axis=1)
    assert scores.calibration_error(label_ids, probabilities) < 0.01


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy():
    # 9 of 10 predictions with confidence 0.7 are right, 1 of 10 with 0.9.
    confidence = np.repeat([0.7, 0.9], 10)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    label_ids = np.array([0] * 9 + [1] + [0] + [1] * 9)
    error = scores.calibration_error(label_ids, probabilities)
    assert error == pytest.approx((0.2 + 0.8) / 2)


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [(1.0, 14), (0.5, 7), (14 / 15, 13), (1 / 15, 0), (0.01, 0)],
)
def test_a_bin_holds_its_upper_end(confidence, expected):
    counts, *_ = scores.reliability(np.array([0]), np.array([[confidence]]))
    assert np.flatnonzero(counts).tolist() == [expected]


def test_numbers_are_scored_by_their_order_and_their_line():
    values = np.array([0.0, 1.0, 2.0, 3.0])
    found = scores.regression(values, values**3)
    assert found["spearman"] == pytest.approx(1.0)
    assert found["pearson"] == pytest.approx(
        np.corrcoef(values, values**3)[0, 1]
    )
    assert found["mean_squared_error"] == pytest.approx((36 + 576) / 4)


@pytest.mark.parametrize("predictions", [[2.5, 2.5, 2.5], [1.0, 2.0, 3.0]])
def test_a_correlation_with_a_constant_is_zero(predictions):
    constant = np.array([2.5, 2.5, 2.5], np.float32)
    found = scores.regression(constant, np.array(predictions, np.float32))
    assert (found["pearson"], found["spearman"]) == (0.0, 0.0)


def test_one_example_has_no_correlation():
    found = scores.regression(np.array([1.0]), np.array([2.0]))
    assert found["pearson"] == 0.0


def test_a_span_counts_if_its_words_and_its_type_are_right():
    predicted = [["B-PER", "I-PER", "O", "B-PER"], ["B-LOC", "I-LOC", "I-LOC"]]
    found = scores.tagging(GOLD, predicted)
    assert found["accuracy"] == pytest.approx(4 / 7)
    assert found["precision"] == found["recall"] == pytest.approx(1 / 3)
    assert found["precision_PER"] == 0.5
    assert (found["recall_PER"], found["f1_LOC"]) == (1.0, 0.0)


def test_types_without_a_label_have_no_scores_of_their_own():
    predicted = [["B-ORG", "I-ORG", "O", "O"], ["O", "O", "O"]]
    found = scores.tagging(GOLD, predicted)
    assert "f1_ORG" not in found
    assert found["precision"] == 0.0


@pytest.mark.parametrize("letters", ["BI", "BIES", "BILU"])
def test_spans_are_those_of_conlleval_in_every_scheme(letters):
    rng = random.Random(0)
    tags = ["O"] + [f"{p}-{kind}" for p in letters for kind in ("PER", "LOC")]
    gold, predicted = (
        [rng.choices(tags, k=12) for _ in range(50)] for _ in range(2)
    )
    found = scores.tagging(gold, predicted)
    bioes = str.maketrans("LU", "ES")  # of L-PER, not of L in LOC
    in_bioes = [
        [[t[:1].translate(bioes) + t[1:] for t in tags] for tags in sentences]
        for sentences in (gold, predicted)
    ]
    report = classification_report(*in_bioes, output_dict=True)
    for ending, kind in (("", "micro avg"), ("_PER", "PER"), ("_LOC", "LOC")):
        for name, theirs in (("precision",) * 2, ("f1", "f1-score")):
            assert found[name + ending] == pytest.approx(report[kind][theirs])


def test_no_span_anywhere_is_no_error():
    found = scores.tagging([["O", "O"]], [["O", "O"]])
    assert found == {
        "accuracy": 1.0,
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
    }


def test_answers_are_scored_by_their_means():
    found = scores.question_answering([1, 0, 0, 1], [1.0, 0.5, 0.0, 1.0])
    assert found == {"exact_match": 0.5, "f1": 0.625}


def test_seeds_have_a_mean_and_the_deviation_of_a_sample():
    of_seeds = [{"accuracy": 0.5}, {"accuracy": 0.7}, {"accuracy": 0.9}]
    found = scores.summarize(of_seeds)["accuracy"]
    assert found["mean"] == pytest.approx(0.7)
    assert found["deviation"] == pytest.approx(0.2)
    assert found["seeds"] == [0.5, 0.7, 0.9]
    assert scores.summarize(of_seeds[:1])["accuracy"]["deviation"] == 0.0


def test_an_ensemble_is_the_mean_of_the_seeds():
    of_seeds = np.array([[[0.9, 0.1]], [[0.3, 0.7]], [[0.3, 0.7]]], np.float32)
    assert scores.ensemble(list(of_seeds)) == pytest.approx(
        np.array([[0.5, 0.5]])
    )


def test_scores_go_into_json_as_plain_numbers():
    float32 = one_hot([0, 1], 2, 0.9).astype(np.float32)
    of_seeds = [
        {
            **scores.classification(np.array([0, 1]), float32, LABELS),
            **scores.regression(float32[:, 0], float32[:, 1]),
            **scores.tagging(GOLD, GOLD),
            **scores.question_answering(float32[:, 0], float32[:, 1]),
        }
    ] * 2
    assert {type(value) for value in of_seeds[0].values()} == {float}
    summary = scores.summarize(of_seeds)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_predictions_that_are_not_finite_are_refused(bad):
    probabilities = np.array([[0.5, 0.5], [bad, 0.5]])
    with pytest.raises(errors.UserError, match="1 of 2 predictions are not"):
        scores.classification(np.array([0, 1]), probabilities, LABELS)
    with pytest.raises(errors.UserError, match="1 of 2 predictions are not"):
        scores.regression(np.array([0.0, 1.0]), probabilities[:, 0])


def test_no_example_is_refused():
    with pytest.raises(errors.UserError, match="no example"):
        scores.classification(np.zeros(0, int), np.zeros((0, 2)), LABELS)
    with pytest.raises(errors.UserError, match="no example"):
        scores.question_answering([], [])
    with pytest.raises(errors.UserError, match="no word"):
        scores.tagging([], [])


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("classification", "accuracy"),
        ("sst2", "accuracy"),
        ("cola", "matthews"),
        ("stsb", "spearman"),
        ("regression", "pearson"),
        ("mrpc", "f1"),
        ("tagging", "f1"),
        ("question_answering", "f1"),
        ("embedding", "spearman"),
    ],
)
def test_each_task_has_its_score(task, name):
    assert scores.primary_metric(task) == name
