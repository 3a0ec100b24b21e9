"""A predictor in a program that asks it again and again, or of long texts."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain.finetuning import learners, prediction
from bert_pretrain.tasks import examples
from helpers import fine_tuned


def test_texts_that_come_one_by_one_are_compiled_for_once(monkeypatch):
    model = fine_tuned.model_of(fine_tuned.TASKS["classification"])
    traced = []
    compute = learners.Classes.outputs

    def outputs(self, *arguments):
        traced.append(self)
        return compute(self, *arguments)

    monkeypatch.setattr(learners.Classes, "outputs", outputs)
    predictor = prediction.Predictor([model], tf.distribute.get_strategy())
    texts = ["the cats sat.", "the dog ran", "the big dog"]
    one_by_one = [predictor.predict_texts([text]) for text in texts]
    num_traced = len(traced)
    predictor.predict_texts(["ran"])
    assert len(traced) == num_traced == 1
    together = predictor.predict_texts(texts)
    np.testing.assert_allclose(
        [each.probabilities[0] for each in one_by_one],
        together.probabilities,
        atol=1e-5,
    )
    assert [each.labels[0] for each in one_by_one] == together.labels


@pytest.mark.parametrize("kind", ["classification", "regression", "embedding"])
def test_a_long_text_that_is_divided_gets_the_mean_of_its_parts(kind):
    # max_seq_length=20 has room for 18 tokens: 18, 18 and 17 of these 53.
    words = np.random.default_rng(5).choice(
        "the cat dog sat ran big".split(), 53
    )
    parts = [words[:17], words[17:35], words[35:]]
    texts = ["the big cat", *(" ".join(each) for each in (words, *parts))]
    whole = _outputs(kind, texts, long_texts="divide")
    short, divided, *of_parts = whole
    np.testing.assert_allclose(divided, np.mean(of_parts, axis=0), atol=1e-5)
    assert np.abs(of_parts[0] - of_parts[1]).max() > 1e-3
    cut = _outputs(kind, [texts[0], " ".join(words), " ".join(words[:18])])
    np.testing.assert_allclose(cut[0], short, atol=1e-5)
    np.testing.assert_allclose(cut[1], cut[2], atol=1e-5)
    assert np.abs(cut[1] - divided).max() > 1e-3


def _outputs(kind, texts, **task_options):
    task = dataclasses.replace(
        fine_tuned.TASKS[kind],
        options={"task": kind, "max_seq_length": 20, **task_options},
    )
    predictor = prediction.Predictor(
        [fine_tuned.model_of(task)], tf.distribute.get_strategy()
    )
    given = examples.TextExamples(
        path="texts", lines=list(range(len(texts))), texts=texts
    )
    return next(iter(predictor.outputs(given).values()))
