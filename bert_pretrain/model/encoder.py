"""BERT's forward pass (Devlin et al. 2019, section 3).

It reads the variables of HuggingFace's model and computes the same function as
`TFBertForMaskedLM` and `TFBertForPreTraining`, in fewer passes over memory.
The last layer's states and the vocabulary's logits are computed only at the
requested positions. Dropout depends on a seed; in HuggingFace's code it depends
on a state that checkpoints do not contain.

B = rows, S = seq_length, Q = positions asked for, H = hidden size,
P = max_predictions_per_seq, T = token types, V = vocabulary.
"""

import functools
from collections.abc import Mapping

import tensorflow as tf
import tf_keras
import transformers

from bert_pretrain.kernels import fused_operations, recomputation
from bert_pretrain.model import transformer_layer


def encode(  # noqa: PLR0913 (the forward pass depends on all of them)
    bert: transformers.TFPreTrainedModel,
    batch: Mapping[str, tf.Tensor],
    dtype: tf.DType,
    dropout_seed: tf.Tensor | None = None,
    recompute: bool = False,
    positions_BQ: tf.Tensor | None = None,
) -> tf.Tensor:
    """Computes the last layer's hidden states.

    Args:
      bert: HuggingFace's model, whose variables are read.
      batch: `input_ids`, `attention_mask` and `token_type_ids` [B, S]. If rows
        hold several documents, also `document_ids` and `position_ids`; then
        each document is computed as if it were alone in its row.
      dtype: of the matrix products and hidden states; variables are float32.
      dropout_seed: int32 [2]; the same seed gives the same masks. None for no
        dropout.
      recompute: whether only a layer's output is kept for the gradient, and
        its inner values are computed again (Chen et al. 2016).
      positions_BQ: the positions whose states are needed; None for all. At
        other positions the last layer computes only keys and values.

    Returns:
      [B, Q, H] of `dtype`; [B, S, H] without `positions_BQ`.
    """
    config = bert.config
    layers = bert.bert.encoder.layer
    seeds = transformer_layer.split_seed(dropout_seed, 1 + len(layers))
    values_BSH = _embed(bert.bert.embeddings, config, batch, dtype, seeds[0])
    view, norm = transformer_layer.View.of_batch(batch, dtype), None
    for layer, seed in zip(layers, seeds[1:], strict=True):
        if layer is layers[-1] and positions_BQ is not None:
            view = transformer_layer.View.of_batch(batch, dtype, positions_BQ)
        transform = functools.partial(
            transformer_layer.transform, layer, config, seed, view, norm
        )
        if recompute:
            transform = functools.partial(recomputation.recomputed, transform)
        values_BSH = transform(values_BSH)
        norm = layer.bert_output.LayerNorm
    return transformer_layer.normalize(norm, config, values_BSH)


def masked_lm_logits(
    bert: transformers.TFPreTrainedModel, masked_BPH: tf.Tensor
) -> tf.Tensor:
    """Computes the logits of all tokens, [B, P, V], from masked positions.

    The leading axes may also be one axis, B x P.
    """
    head = bert.mlm.predictions
    masked_BPH = transformer_layer.ACTIVATIONS[bert.config.hidden_act](
        transformer_layer.dense(head.transform.dense, masked_BPH)
    )
    masked_BPH = transformer_layer.normalize(
        head.transform.LayerNorm, bert.config, masked_BPH
    )
    return recomputation.as_stored(
        transformer_layer.linear(
            masked_BPH, bert.bert.embeddings.weight, head.bias, transpose=True
        )
    )


def next_sentence_logits(
    bert: transformers.TFPreTrainedModel, first_BH: tf.Tensor
) -> tf.Tensor:
    """Computes whether the second segment follows, from the state of [CLS].

    Returns:
      [B, 2]; class 0 means that it follows.
    """
    pooled_BH = tf.tanh(
        transformer_layer.dense(bert.bert.pooler.dense, first_BH)
    )
    return transformer_layer.dense(bert.nsp.seq_relationship, pooled_BH)


def _embed(
    embeddings: tf_keras.layers.Layer,
    config: transformers.PretrainedConfig,
    batch: Mapping[str, tf.Tensor],
    dtype: tf.DType,
    dropout_seed: tf.Tensor | None,
) -> tf.Tensor:
    seq_length = batch["input_ids"].shape[1]
    words_BSH = tf.gather(embeddings.weight, batch["input_ids"])
    # A matrix product, because its gradient is a matrix product too. The
    # gradient of a lookup would scatter B x S rows into a few.
    types_BST = tf.one_hot(batch["token_type_ids"], config.type_vocab_size)
    types_BSH = tf.tensordot(types_BST, embeddings.token_type_embeddings, 1)
    if "position_ids" in batch:
        positions = tf.gather(
            embeddings.position_embeddings, batch["position_ids"]
        )
    else:
        positions = embeddings.position_embeddings[:seq_length]
    hidden_BSH = transformer_layer.normalize(
        embeddings.LayerNorm, config, words_BSH + types_BSH + positions
    )
    return fused_operations.dropout(
        tf.cast(hidden_BSH, dtype), config.hidden_dropout_prob, dropout_seed
    )
