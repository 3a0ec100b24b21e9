"""The losses of fine-tuning."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import transformers

from bert_pretrain.finetuning import learners
from bert_pretrain.model import adapters, bert_model, heads, model_config
from bert_pretrain.training import (
    optimizer,
    schedule,
    train_state,
    trainer,
    training_config,
)
from helpers import strategies

NUM_ROWS, LENGTH, SLOTS = 4, 12, 3
CLASSES = {
    "classification": "BertForSequenceClassification",
    "regression": "BertForSequenceClassification",
    "tagging": "BertForTokenClassification",
    "question_answering": "BertForQuestionAnswering",
    "embedding": "BertModel",
}


def learner_of(kind, dropout=0.0, **options):
    """A learner with a tiny model, the same at each call."""
    tf_keras.utils.set_random_seed(5)
    num_labels = {"regression": 1, "question_answering": 2}.get(kind, 3)
    bert = bert_model.from_config(
        transformers.BertConfig(
            vocab_size=40,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=LENGTH,
            architectures=[CLASSES[kind]],
            num_labels=num_labels,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            initializer_range=0.3,
        )
    )
    added = adapters.build(bert, model_config.AdapterConfig(), 0)
    config = learners.LossConfig(
        **{"pooling": "mean", "metric": "accuracy", **options}
    )
    return learners.OF_KIND[kind](bert, added, config)


def batch_of(seed=0, num_rows=NUM_ROWS):
    """Two pieces of 5 and 4 tokens in each row, and one empty slot."""
    rng = np.random.default_rng(seed)
    documents = np.array([1] * 5 + [2] * 4 + [0] * 3, np.int32)
    row = {
        "attention_mask": np.minimum(documents, 1),
        "token_type_ids": np.zeros(LENGTH, np.int32),
        "document_ids": documents,
        "position_ids": np.array([*range(5), *range(4), 0, 0, 0], np.int32),
        "label_positions": np.array([0, 5, 0], np.int32),
        "slot_documents": np.array([1, 2, 0], np.int32),
        "label_weights": np.array([1, 1, 0], np.float32),
        "starts": np.array([2, 6, 0], np.int32),
        "ends": np.array([3, 8, 0], np.int32),
    }
    batch = {name: np.stack([x] * num_rows) for name, x in row.items()}
    batch["input_ids"] = rng.integers(5, 40, (num_rows, LENGTH)).astype(
        np.int32
    )
    batch["label_ids"] = rng.integers(0, 3, (num_rows, SLOTS)).astype(np.int32)
    batch["label_values"] = rng.normal(50, 9, (num_rows, SLOTS)).astype(
        np.float32
    )
    return batch


def sums_of(learner, batch, seed=None):
    batch = {name: tf.constant(values) for name, values in batch.items()}
    sums = learner.forward(batch, tf.float32, seed)["task"]
    return {name: float(value) for name, value in vars(sums).items()}


def outputs_of(learner, batch):
    batch = {name: tf.constant(values) for name, values in batch.items()}
    outputs = learner.outputs(batch, tf.float32)
    return {name: value.numpy() for name, value in outputs.items()}


@pytest.mark.parametrize("kind", ["classification", "tagging"])
def test_the_loss_is_the_cross_entropy_of_the_labels(kind):
    learner, batch = learner_of(kind), batch_of()
    probabilities = outputs_of(learner, batch)["probabilities"]
    picked = np.take_along_axis(
        probabilities, batch["label_ids"][..., np.newaxis], axis=-1
    )[..., 0]
    expected = -(np.log(picked) * batch["label_weights"]).sum()
    sums = sums_of(learner, batch)
    assert sums["loss"] == pytest.approx(expected, rel=1e-5)
    assert sums["num_predictions"] == 2 * NUM_ROWS


def test_classes_count_by_their_weights():
    batch = batch_of()
    learner = learner_of("classification", class_weights=np.array([0, 2, 1]))
    factors = np.array([0, 2, 1])[batch["label_ids"]] * batch["label_weights"]
    count = learner.num_predictions(
        {n: tf.constant(x) for n, x in batch.items()}
    )
    assert float(count["task"]) == factors.sum()
    plain = learner_of("classification")
    probabilities = outputs_of(plain, batch)["probabilities"]
    picked = np.take_along_axis(
        probabilities, batch["label_ids"][..., np.newaxis], axis=-1
    )[..., 0]
    assert sums_of(learner, batch)["loss"] == pytest.approx(
        -(np.log(picked) * factors).sum(), rel=1e-5
    )


def test_a_regression_learns_numbers_of_any_size():
    batch = batch_of()
    learner = learner_of("regression", mean=50.0, deviation=9.0)
    values = outputs_of(learner, batch)["values"]
    errors = ((values - batch["label_values"]) / 9) ** 2
    assert sums_of(learner, batch)["loss"] == pytest.approx(
        (errors * batch["label_weights"]).sum(), rel=1e-4
    )
    # HuggingFace's class knows no mean and no deviation.
    learner.settle()
    np.testing.assert_allclose(
        outputs_of(learner, batch)["values"], values, rtol=1e-4
    )
    logits = heads.classification_logits(
        learner.bert,
        heads.pooled(
            learner.bert,
            {name: tf.constant(x) for name, x in batch.items()},
            "mean",
            tf.float32,
        ),
        "mean",
    )
    np.testing.assert_allclose(logits[..., 0], values, rtol=1e-4)


def test_spans_are_chosen_among_the_tokens_of_their_own_document():
    learner, batch = learner_of("question_answering"), batch_of()
    outputs = outputs_of(learner, batch)
    starts = outputs["start_logits"]
    # By the place in the piece: 5 tokens of the first, 4 of the second.
    assert (starts[:, 0, :5] > -1e8).all() and (starts[:, 0, 5:] < -1e8).all()
    assert (starts[:, 1, :4] > -1e8).all() and (starts[:, 1, 4:] < -1e8).all()

    def nats(name, labels):
        logits = outputs[name]
        first = [0, 5]
        return sum(
            -(
                logits[row, slot, labels[row, slot] - first[slot]]
                - np.log(np.exp(logits[row, slot].astype(float)).sum())
            )
            for row in range(NUM_ROWS)
            for slot in (0, 1)
        )

    expected = nats("start_logits", batch["starts"])
    expected += nats("end_logits", batch["ends"])
    assert sums_of(learner, batch)["loss"] == pytest.approx(
        expected / 2, rel=1e-5
    )


def test_r_drop_punishes_answers_that_depend_on_dropout():
    batch, seed = batch_of(), tf.constant([1, 2])
    assert sums_of(learner_of("classification", r_drop=5.0), batch, seed)[
        "loss"
    ] == pytest.approx(sums_of(learner_of("classification"), batch)["loss"])
    plain, drawn = (
        sums_of(learner_of("classification", 0.3, r_drop=weight), batch, seed)
        for weight in (1e-9, 5.0)
    )
    assert drawn["loss"] > plain["loss"] + 0.01
    assert drawn["num_correct"] == plain["num_correct"]


def test_vectors_are_told_from_all_others_of_the_batch():
    learner = learner_of("embedding", temperature=0.5)
    batch = batch_of()
    second = batch_of(seed=1)
    for name in (
        "input_ids",
        "attention_mask",
        "token_type_ids",
        "document_ids",
        "position_ids",
        "label_positions",
    ):
        batch[f"second_{name}"] = second[name]
    first_vectors, second_vectors = (
        outputs_of(learner, each)["embeddings"][:, :2].reshape(-1, 16)
        for each in (batch, second)
    )
    first_vectors, second_vectors = (
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        for vectors in (first_vectors, second_vectors)
    )
    scores = first_vectors @ second_vectors.T / 0.5
    expected = np.log(np.exp(scores).sum(axis=1)) - np.diag(scores)
    sums = sums_of(learner, batch)
    assert sums["loss"] == pytest.approx(expected.sum(), rel=1e-4)
    assert (
        sums["num_correct"]
        == (scores.argmax(axis=1) == np.arange(len(scores))).sum()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["classification", "question_answering", "embedding"]
)
def test_replicas_do_not_change_the_update(kind):
    def weights_after(num_replicas, accumulation_steps=1):
        strategy = strategies.strategy_of(num_replicas)
        with strategy.scope():
            learner = learner_of(kind, mean=50.0, deviation=9.0)
            variables = heads.trained_variables(learner.bert, "mean")
            state = train_state.new_state(
                learner,
                optimizer.build(
                    training_config.OptimizerConfig(),
                    schedule.Schedule(
                        training_config.ScheduleConfig(
                            total_steps=10,
                            warmup_steps=0,
                            peak_learning_rate=1e-2,
                        )
                    ),
                    variables,
                ),
                variables,
            )
        # Fewer slots are used on the second replica.
        batch = batch_of()
        batch["label_weights"][2:, 1] = 0
        dataset = tf.data.Dataset.from_tensors(batch).unbatch().repeat()

        def build(context):
            size = context.get_per_replica_batch_size(NUM_ROWS)
            return dataset.batch(size, drop_remainder=True)

        task_trainer = trainer.Trainer(
            strategy,
            state,
            strategy.distribute_datasets_from_function(build),
            trainer.UpdateConfig(
                global_batch_size=NUM_ROWS,
                dtype=tf.float32,
                max_gradient_norm=1.0,
                seed=0,
                accumulation_steps=accumulation_steps,
            ),
        )
        output = task_trainer.train(tf.constant(3))
        assert output["bad_steps"] == 0
        return output["loss"], [v.numpy() for v in variables]

    loss, alone = weights_after(1)
    other_loss, both = weights_after(2)
    assert other_loss == pytest.approx(loss, rel=1e-4)
    for one, other in zip(alone, both, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)
