"""Held-out numbers count every prediction once, for any batches."""

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain.data import input_pipeline, manifests, records
from bert_pretrain.evaluation import evaluator
from bert_pretrain.model import bert_model, model_config, objectives
from helpers import strategies


def evaluate(strategy, bert, data_dir, manifest, batch_size):
    batches, num_steps = input_pipeline.eval_batches(
        strategy, data_dir, manifest, records.EVAL, batch_size
    )
    with strategy.scope():
        bert_evaluator = evaluator.Evaluator(
            objectives.Pretraining(bert), batches, dtype=tf.float32
        )
    return bert_evaluator.evaluate(tf.constant(num_steps))


@pytest.mark.slow
def test_batches_and_replicas_do_not_change_the_numbers(make_dataset):
    data_dir = make_dataset(held_out=11, pairing="nsp")
    manifest = manifests.read(data_dir)
    config = model_config.ModelConfig(model_size="tiny")
    one, two = strategies.strategy_of(1), strategies.strategy_of(2)
    results = []
    for strategy, batch_sizes in ((one, (11, 4)), (two, (6,))):
        with strategy.scope():
            bert = bert_model.build(config, manifest, seed=0)
        results += [
            evaluate(strategy, bert, data_dir, manifest, size)
            for size in batch_sizes
        ]
    # The whole split in one batch that needs no row to fill it up.
    (batch,) = input_pipeline.eval_batches(
        one, data_dir, manifest, records.EVAL, 11
    )[0]
    sums = objectives.Pretraining(bert).forward(batch, tf.float32)
    counts = manifest.splits[records.EVAL]
    assert float(sums["masked_lm"].num_predictions) == counts.num_predictions
    assert float(sums["next_sentence"].num_predictions) == 11
    for result in results:
        for objective, part in sums.items():
            assert result[f"{objective}_loss"] == pytest.approx(
                float(part.loss / part.num_predictions), rel=1e-5
            )
            assert result[f"{objective}_accuracy"] == pytest.approx(
                float(part.num_correct / part.num_predictions), rel=1e-6
            )
        assert result["masked_lm_perplexity"] == pytest.approx(
            np.exp(result["masked_lm_loss"])
        )


def test_unigram_entropy_is_of_the_labels_with_a_weight():
    batches = [
        {
            "masked_lm_ids": tf.constant([[7, 7, 9]]),
            "masked_lm_weights": tf.constant([[1.0, 1.0, 1.0]]),
        },
        {
            "masked_lm_ids": tf.constant([[8, 5, 0]]),
            "masked_lm_weights": tf.constant([[1.0, 0.0, 0.0]]),
        },
    ]
    # 7 comes twice, 8 and 9 once: one bit, and one more half of the time.
    assert evaluator.unigram_entropy(batches, 10) == pytest.approx(
        1.5 * np.log(2)
    )
