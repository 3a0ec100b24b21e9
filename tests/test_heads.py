"""The heads of fine-tuned models equal HuggingFace's, packed or not."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import transformers

from bert_pretrain.data import records
from bert_pretrain.model import bert_model, encoder, heads


def model_of(architecture, num_labels=3, **options):
    """A HuggingFace model in which no variable has its default value."""
    tf_keras.utils.set_random_seed(3)
    bert = bert_model.from_config(
        transformers.BertConfig(
            vocab_size=60,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=4,
            intermediate_size=48,
            max_position_embeddings=20,
            architectures=[architecture],
            num_labels=num_labels,
            **options,
        )
    )
    rng = np.random.default_rng(4)
    for variable in bert.trainable_variables:
        variable.assign_add(rng.normal(0, 0.2, variable.shape))
    return bert


def rows_of(lengths, slots=2):
    """Documents of these lengths, each in a row of its own."""
    rng = np.random.default_rng(5)
    mask = (np.arange(20) < np.array(lengths)[:, np.newaxis]).astype(np.int32)
    batch = {
        "input_ids": rng.integers(5, 60, mask.shape) * mask,
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, 2, mask.shape) * mask,
        "label_positions": np.zeros([len(lengths), slots]),
        "slot_documents": np.arange(slots) == np.zeros([len(lengths), 1]),
    }
    return {name: tf.cast(value, tf.int32) for name, value in batch.items()}


def packed(rows):
    """All documents of `rows_of` in one row."""
    is_token = rows["attention_mask"].numpy() > 0
    lengths = is_token.sum(axis=1)
    document_ids = np.repeat(np.arange(1, len(lengths) + 1), lengths)[None]
    batch = {
        name: rows[name].numpy()[is_token][None]
        for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    batch["document_ids"] = document_ids
    batch["position_ids"] = records.position_ids(
        tf.constant(document_ids, tf.int32)
    )
    # A slot that is not used comes last.
    starts = np.cumsum([0, *lengths[:-1]])
    batch["label_positions"] = [[*starts, 0]]
    batch["slot_documents"] = [[*range(1, len(lengths) + 1), 0]]
    return {name: tf.cast(value, tf.int32) for name, value in batch.items()}


def stock(bert, rows):
    names = ("input_ids", "attention_mask", "token_type_ids")
    return bert(**{name: rows[name] for name in names}, training=False)


def states_of(bert, rows):
    return encoder.encode(
        bert, rows, tf.float32, positions_BQ=rows["label_positions"]
    )


@pytest.mark.parametrize("num_labels", [1, 3])
def test_classes_equal_the_stock_model_s(num_labels):
    bert = model_of("BertForSequenceClassification", num_labels)
    rows = rows_of([7, 4, 6])
    expected = stock(bert, rows).logits
    for batch, taken in ((rows, np.s_[:, 0]), (packed(rows), np.s_[0, :3])):
        pooled_BPH = heads.pooled(bert, batch, "cls", tf.float32)
        logits = heads.classification_logits(bert, pooled_BPH, "cls")
        np.testing.assert_allclose(logits[taken], expected, atol=1e-5)


def test_tags_equal_the_stock_model_s():
    bert = model_of("BertForTokenClassification")
    rows = rows_of([7, 20, 6])
    positions = tf.constant([[1, 3, 5], [0, 19, 2], [5, 5, 1]])
    logits = heads.tagging_logits(
        bert, states_of(bert, rows | {"label_positions": positions})
    )
    np.testing.assert_allclose(
        logits,
        tf.gather(stock(bert, rows).logits, positions, batch_dims=1),
        atol=1e-5,
    )


def test_spans_equal_the_stock_model_s():
    bert = model_of("BertForQuestionAnswering", num_labels=2)
    rows = rows_of([7, 20, 6])
    states_BSH = encoder.encode(bert, rows, tf.float32)
    start, end = heads.span_logits(bert, states_BSH)
    np.testing.assert_allclose(start, stock(bert, rows).start_logits, atol=1e-5)
    np.testing.assert_allclose(end, stock(bert, rows).end_logits, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_pooling_is_over_the_tokens_of_a_document(pooling):
    bert = model_of("BertModel")
    rows = rows_of([7, 4, 6])
    states = stock(bert, rows).last_hidden_state.numpy()
    expected = [
        getattr(np, pooling)(of_text[:length], axis=0)
        for of_text, length in zip(states, [7, 4, 6], strict=True)
    ]
    for batch, taken, unused in (
        (rows, np.s_[:, 0], np.s_[:, 1]),
        (packed(rows), np.s_[0, :3], np.s_[0, 3]),
    ):
        pooled_BPH = heads.pooled(bert, batch, pooling, tf.float32)
        np.testing.assert_allclose(pooled_BPH[taken], expected, atol=1e-5)
        np.testing.assert_array_equal(pooled_BPH[unused], 0)


def test_a_classifier_of_means_has_no_pooler():
    bert = model_of("BertForSequenceClassification")
    mean_BPH = heads.pooled(bert, rows_of([7, 4]), "mean", tf.float32)
    classifier = bert.classifier
    np.testing.assert_allclose(
        heads.classification_logits(bert, mean_BPH, "mean"),
        mean_BPH @ classifier.kernel + classifier.bias,
        atol=1e-5,
    )


@pytest.mark.parametrize("rate, expected", [(None, 0.5), (0.0, 0.0)])
def test_the_dropout_of_a_head_is_the_config_s(rate, expected):
    bert = model_of(
        "BertForTokenClassification",
        classifier_dropout=rate,
        hidden_dropout_prob=0.5,
    )
    bert.classifier.kernel.assign(tf.eye(32, 3))
    bert.classifier.bias.assign(tf.zeros(3))
    states = tf.ones([500, 4, 32], tf.bfloat16)
    logits = heads.tagging_logits(bert, states, tf.constant([1, 2])).numpy()
    assert logits.dtype == np.float32
    assert np.mean(logits == 0) == pytest.approx(expected, abs=0.05)
    assert logits.max() == pytest.approx(1 / (1 - expected))
    assert np.all(heads.tagging_logits(bert, states) == 1)


@pytest.mark.parametrize(
    "architecture, pooling, num_of_head",
    [
        ("BertForSequenceClassification", "cls", 4),
        ("BertForSequenceClassification", "mean", 2),
        ("BertForTokenClassification", "cls", 2),
        ("BertForQuestionAnswering", "cls", 2),
        ("BertModel", "cls", 0),
    ],
)
def test_every_trained_variable_has_a_gradient_and_no_other(
    architecture, pooling, num_of_head
):
    bert, rows = model_of(architecture, num_labels=2), rows_of([7, 4, 6])
    with tf.GradientTape() as tape:
        output = heads.pooled(bert, rows, pooling, tf.float32)
        if architecture == "BertForSequenceClassification":
            output = heads.classification_logits(bert, output, pooling)
        elif architecture == "BertForTokenClassification":
            output = heads.tagging_logits(bert, output)
        elif architecture == "BertForQuestionAnswering":
            output = tf.stack(heads.span_logits(bert, output))
        loss = tf.reduce_sum(tf.sin(output))
    gradients = tape.gradient(loss, bert.trainable_variables)
    assert {
        variable.name
        for variable, gradient in zip(
            bert.trainable_variables, gradients, strict=True
        )
        if gradient is not None
    } == {v.name for v in heads.trained_variables(bert, pooling)}
    assert len(heads.head_variables(bert, pooling)) == num_of_head
