"""The arithmetic of a model equals the products in TensorFlow's graph."""

import pytest
import tensorflow as tf
import transformers
from tensorflow.python.framework import ops

from bert_pretrain.model import bert_model, encoder
from bert_pretrain.telemetry import accelerators


@pytest.mark.parametrize(
    "seq_length, num_predictions, hidden_size, num_layers, name",
    [
        (32, 5, 64, 2, "BertForPreTraining"),
        (128, 20, 128, 1, "BertForMaskedLM"),
    ],
)
def test_the_count_equals_the_graph_s_matrix_products(
    seq_length, num_predictions, hidden_size, num_layers, name
):
    config = transformers.BertConfig(
        vocab_size=500,
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=2,
        intermediate_size=3 * hidden_size,
        max_position_embeddings=seq_length,
        architectures=[name],
    )
    bert = bert_model.from_config(config)
    graph = forward_graph(bert, seq_length, num_predictions)
    counted = sum(
        ops.get_stats_for_node_def(graph, op.node_def, "flops").value or 0
        for op in graph.get_operations()
        if "MatMul" in op.type
    )
    ours = accelerators.flops_per_example(
        config, seq_length, num_predictions, bert_model.has_pairs(bert)
    )
    # A forward pass of 2 rows. Token types are embedded by a product too, which
    # does not count as arithmetic of the model.
    assert 2 * ours / 3 == pytest.approx(counted, rel=0.01)


def forward_graph(bert, seq_length, num_predictions):
    def of(width, dtype=tf.int32):
        return tf.TensorSpec([2, width], dtype)

    @tf.function
    def forward(batch):
        # MFU counts every layer in full.
        hidden_BSH = encoder.encode(bert, batch, tf.float32)
        masked_BPH = tf.gather(
            hidden_BSH, batch["masked_lm_positions"], batch_dims=1
        )
        scores = [encoder.masked_lm_logits(bert, masked_BPH)]
        if bert_model.has_pairs(bert):
            scores.append(encoder.next_sentence_logits(bert, hidden_BSH[:, 0]))
        return scores

    return forward.get_concrete_function(
        {
            "input_ids": of(seq_length),
            "attention_mask": of(seq_length),
            "token_type_ids": of(seq_length),
            "masked_lm_positions": of(num_predictions),
        }
    ).graph


def test_bert_base_takes_six_flops_for_each_parameter_and_token():
    # The rule of thumb (Kaplan et al. 2020, section 2.1): 85 M parameters in
    # the layers, and the vocabulary's head at 20 of 128 positions.
    config = transformers.BertConfig(vocab_size=30522)
    layers, head = 6 * 128 * 85.0e6, 6 * 20 * 30522 * 768
    assert accelerators.flops_per_example(
        config, 128, 20, False
    ) == pytest.approx(layers + head, rel=0.05)
