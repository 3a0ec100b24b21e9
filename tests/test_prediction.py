"""A predictor in a program that asks it again and again."""

import numpy as np
import tensorflow as tf

from bert_pretrain.finetuning import learners, prediction
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
