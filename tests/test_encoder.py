"""The forward pass equals HuggingFace's; dropout depends only on a seed."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import transformers

from bert_pretrain import errors
from bert_pretrain.data import records
from bert_pretrain.model import config_json, encoder
from helpers import datasets


def bert_of(kind, **options):
    """A HuggingFace model in which no variable has its default value."""
    tf_keras.utils.set_random_seed(3)
    bert = kind(
        transformers.BertConfig(
            **{
                "vocab_size": 60,
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "intermediate_size": 48,
                "max_position_embeddings": 20,
                "initializer_range": 0.2,
                **options,
            }
        )
    )
    bert.build_in_name_scope()
    rng = np.random.default_rng(4)
    for variable in bert.trainable_variables:
        variable.assign_add(rng.normal(0, 0.2, variable.shape))
    return bert


def batch_of(num_rows=5, seq_length=16):
    rows = datasets.random_rows(num_rows, seq_length)
    rows["masked_lm_positions"] = np.random.default_rng(5).integers(
        0, seq_length, rows["masked_lm_positions"].shape
    )
    return {name: tf.constant(value, tf.int32) for name, value in rows.items()}


def stock_outputs(bert, batch):
    return bert(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        token_type_ids=batch["token_type_ids"],
        output_hidden_states=True,
        training=False,
    )


def masked_lm_logits(bert, batch):
    masked_BPH = encoder.encode(
        bert,
        batch,
        tf.float32,
        positions_BQ=batch["masked_lm_positions"],
    )
    return encoder.masked_lm_logits(bert, masked_BPH)


@pytest.mark.parametrize(
    "num_rows, seq_length, options",
    [
        (5, 16, {}),
        (1, 20, {"hidden_act": "gelu_new", "num_attention_heads": 1}),
        (7, 9, {"hidden_act": "relu", "layer_norm_eps": 1e-3}),
    ],
)
def test_masked_lm_equals_the_stock_model(num_rows, seq_length, options):
    bert = bert_of(transformers.TFBertForMaskedLM, **options)
    batch = batch_of(num_rows, seq_length)
    stock = stock_outputs(bert, batch)
    hidden_BSH = encoder.encode(bert, batch, tf.float32)
    np.testing.assert_allclose(
        hidden_BSH, stock.hidden_states[-1], rtol=2e-5, atol=2e-5
    )
    logits_BPV = masked_lm_logits(bert, batch)
    np.testing.assert_allclose(
        logits_BPV,
        tf.gather(stock.logits, batch["masked_lm_positions"], batch_dims=1),
        rtol=1e-4,
        atol=1e-4,
    )


def test_pretraining_equals_the_stock_model():
    bert = bert_of(transformers.TFBertForPreTraining)
    batch = batch_of()
    stock = stock_outputs(bert, batch)
    hidden_BSH = encoder.encode(bert, batch, tf.float32)
    logits_BPV = masked_lm_logits(bert, batch)
    np.testing.assert_allclose(
        logits_BPV,
        tf.gather(
            stock.prediction_logits, batch["masked_lm_positions"], batch_dims=1
        ),
        rtol=1e-4,
        atol=1e-4,
    )
    np.testing.assert_allclose(
        encoder.next_sentence_logits(bert, hidden_BSH[:, 0]),
        stock.seq_relationship_logits,
        rtol=1e-4,
        atol=1e-4,
    )


def test_gradients_equal_the_stock_model():
    bert = bert_of(transformers.TFBertForMaskedLM)
    batch = batch_of()
    positions_BP = batch["masked_lm_positions"]
    with tf.GradientTape(persistent=True) as tape:
        ours = masked_lm_logits(bert, batch)
        stock = tf.gather(
            stock_outputs(bert, batch).logits, positions_BP, batch_dims=1
        )
        # Any function will do if its gradient differs from logit to logit.
        losses = [tf.reduce_sum(tf.sin(logits)) for logits in (ours, stock)]
    for variable, *gradients in zip(
        bert.trainable_variables,
        *(tape.gradient(loss, bert.trainable_variables) for loss in losses),
        strict=True,
    ):
        our, stock = map(tf.convert_to_tensor, gradients)
        # The key's bias has no effect, so its gradient is only rounding.
        np.testing.assert_allclose(
            our, stock, rtol=1e-3, atol=2e-3, err_msg=variable.name
        )


def test_padding_does_not_change_the_hidden_states():
    bert = bert_of(transformers.TFBertForMaskedLM)
    batch = batch_of(num_rows=4, seq_length=16)
    batch["attention_mask"] = tf.concat(
        [tf.ones([4, 10], tf.int32), tf.zeros([4, 6], tf.int32)], axis=1
    )
    short = {name: value[:, :10] for name, value in batch.items()}
    np.testing.assert_allclose(
        encoder.encode(bert, batch, tf.float32)[:, :10],
        encoder.encode(bert, short, tf.float32),
        rtol=1e-5,
        atol=1e-5,
    )


def packed_batch(lengths, seq_length=20):
    """One row with documents of these lengths, and a row for each document."""
    ids = np.random.default_rng(6).permutation(np.arange(5, 60))
    ends = np.cumsum(lengths)
    packed = {
        name: np.zeros([1, seq_length], np.int32)
        for name in ("input_ids", "attention_mask", "document_ids")
    }
    alone = []
    for number, end in enumerate(ends):
        place = slice(end - lengths[number], end)
        # No token occurs in two documents.
        packed["input_ids"][:, place] = ids[place]
        packed["attention_mask"][:, place] = 1
        packed["document_ids"][:, place] = number + 1
        row = np.zeros([1, seq_length], np.int32)
        row[:, : lengths[number]] = ids[place]
        alone.append(
            {
                "input_ids": row,
                "attention_mask": (row > 0).astype(np.int32),
                "token_type_ids": np.zeros_like(row),
            }
        )
    packed["token_type_ids"] = np.zeros([1, seq_length], np.int32)
    packed["position_ids"] = records.position_ids(
        tf.constant(packed["document_ids"])
    )
    return tf.nest.map_structure(tf.constant, (packed, alone))


@pytest.mark.parametrize("lengths", [(7, 4, 6), (3, 17), (20,)])
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_a_document_has_the_same_states_in_a_packed_row_as_alone(
    lengths, dtype
):
    bert = bert_of(transformers.TFBertForMaskedLM)
    packed, alone = packed_batch(lengths)
    hidden_BSH = encoder.encode(bert, packed, dtype)
    start = 0
    for length, batch in zip(lengths, alone, strict=True):
        expected_BSH = encoder.encode(bert, batch, dtype)
        np.testing.assert_allclose(
            tf.cast(hidden_BSH[:, start : start + length], tf.float32),
            tf.cast(expected_BSH[:, :length], tf.float32),
            **(
                {"rtol": 1e-5, "atol": 1e-5}
                if dtype == tf.float32
                else {"rtol": 0.05, "atol": 0.1}
            ),
        )
        start += length


@pytest.mark.parametrize("recompute", [False, True])
def test_states_at_chosen_positions_equal_those_of_all_positions(recompute):
    bert = bert_of(transformers.TFBertForMaskedLM)
    packed, _ = packed_batch((7, 4, 6))
    for batch in (packed, batch_of()):
        num_rows = batch["input_ids"].shape[0]
        positions_BQ = tf.constant([[5, 0, 12, 0, 16 - 1]] * num_rows)
        states, gradients = [], []
        for asked in (None, positions_BQ):
            with tf.GradientTape() as tape:
                states_BQH = encoder.encode(
                    bert,
                    batch,
                    tf.float32,
                    recompute=recompute,
                    positions_BQ=asked,
                )
                if asked is None:
                    states_BQH = tf.gather(
                        states_BQH, positions_BQ, batch_dims=1
                    )
                loss = tf.reduce_sum(tf.sin(states_BQH))
            states.append(states_BQH)
            gradients.append(
                [
                    tf.convert_to_tensor(gradient)
                    for gradient in tape.gradient(
                        loss, bert.bert.trainable_variables
                    )
                ]
            )
        np.testing.assert_allclose(*states, rtol=1e-5, atol=1e-5)
        for whole, chosen in zip(*gradients, strict=True):
            np.testing.assert_allclose(chosen, whole, rtol=1e-4, atol=1e-4)


def test_no_gradient_crosses_documents():
    bert = bert_of(transformers.TFBertForMaskedLM)
    packed, _ = packed_batch((7, 4, 6))
    words = bert.bert.embeddings.weight
    for document in (1, 2, 3):
        is_own_BS = packed["document_ids"] == document
        with tf.GradientTape() as tape:
            hidden_BSH = encoder.encode(bert, packed, tf.float32)
            loss = tf.reduce_sum(tf.sin(tf.boolean_mask(hidden_BSH, is_own_BS)))
        gradient_VH = tf.convert_to_tensor(tape.gradient(loss, words)).numpy()
        own = tf.boolean_mask(packed["input_ids"], is_own_BS).numpy()
        assert np.all(np.abs(gradient_VH[own]).max(axis=1) > 1e-3)
        gradient_VH[own] = 0
        np.testing.assert_array_equal(gradient_VH, 0)


def test_without_document_ids_the_documents_change_each_other_s_states():
    bert = bert_of(transformers.TFBertForMaskedLM)
    packed, _ = packed_batch((7, 4, 6))
    isolated = encoder.encode(bert, packed, tf.float32)
    del packed["document_ids"]
    mixed = encoder.encode(bert, packed, tf.float32)
    assert np.abs(isolated - mixed)[:, :17].max() > 0.1


def test_bfloat16_is_near_float32_and_keeps_the_variables():
    bert = bert_of(transformers.TFBertForMaskedLM)
    batch = batch_of()
    wide = encoder.encode(bert, batch, tf.float32)
    narrow = encoder.encode(bert, batch, tf.bfloat16)
    assert narrow.dtype == tf.bfloat16
    assert all(v.dtype == tf.float32 for v in bert.trainable_variables)
    error = tf.abs(tf.cast(narrow, tf.float32) - wide)
    assert float(tf.reduce_mean(error)) < 0.02


def test_dropout_follows_from_its_seed():
    bert = bert_of(transformers.TFBertForMaskedLM)
    batch = batch_of()

    def hidden(seed):
        return encoder.encode(bert, batch, tf.float32, tf.constant(seed))

    np.testing.assert_array_equal(hidden([1, 2]), hidden([1, 2]))
    assert np.abs(hidden([1, 2]) - hidden([1, 3])).max() > 0.1
    assert np.abs(hidden([1, 2]) - hidden([2, 2])).max() > 0.1


@pytest.mark.parametrize("num_layers", [1, 3])
def test_recomputing_changes_no_number(num_layers):
    bert = bert_of(transformers.TFBertForMaskedLM, num_hidden_layers=num_layers)
    batch = batch_of()

    @tf.function
    def states_and_gradients(recompute):
        with tf.GradientTape() as tape:
            hidden_BSH = encoder.encode(
                bert, batch, tf.float32, tf.constant([1, 2]), recompute
            )
            loss = tf.reduce_sum(tf.sin(hidden_BSH))
        variables = bert.bert.trainable_variables
        return hidden_BSH, [
            tf.convert_to_tensor(g) for g in tape.gradient(loss, variables)
        ]

    kept, again = map(states_and_gradients, (False, True))
    for expected, actual in zip(
        tf.nest.flatten(kept), tf.nest.flatten(again), strict=True
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options, name",
    [
        (
            {"position_embedding_type": "relative_key"},
            "position_embedding_type",
        ),
        ({"is_decoder": True}, "is_decoder"),
        ({"hidden_act": "swish"}, "hidden_act"),
        ({"hidden_size": 30, "num_attention_heads": 4}, "hidden_size"),
        ({"num_attention_heads": 0}, "num_attention_heads=0 must be at least"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers='2' is not of the"),
        ({"intermediate_size": 64.0}, "intermediate_size=64.0 is not of the"),
        ({"hidden_size": None}, "hidden_size=None is not of the type int"),
        ({"type_vocab_size": True}, "type_vocab_size=True is not of the"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps=nan must be a"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob=1.5 must be"),
    ],
)
def test_an_architecture_that_we_do_not_compute_is_refused(options, name):
    with pytest.raises(errors.UserError, match=name):
        config_json.check_supported(transformers.BertConfig(**options))
