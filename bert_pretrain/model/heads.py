"""The heads of fine-tuned models, on top of our encoder.

They read the variables of HuggingFace's classes and compute the same functions.
A head is small, so it is computed in float32, whatever the encoder's dtype.

A row may hold several documents (`document_ids` and `position_ids`, see
`encoder.encode`). Each prediction has a slot in its row:
`label_positions` [B, P] is the token that it is made at, such as a document's
[CLS], and `slot_documents` [B, P] the number of its document, 0 for a slot that
is not used. In a batch without `document_ids` each row is the document 1.

B = rows, S = seq_length, P = slots in a row, H = hidden size, C = classes.
"""

from collections.abc import Mapping
from typing import Any, Literal

import tensorflow as tf
import transformers

from bert_pretrain.kernels import fused_operations
from bert_pretrain.model import encoder, transformer_layer

Batch = Mapping[str, tf.Tensor]
# How a document's states become one: the state of [CLS], or the mean or the
# maximum over the states of all its tokens, [CLS] and [SEP] among them.
Pooling = Literal["cls", "mean", "max"]


def pooled(  # noqa: PLR0913 (those of the forward pass, and the pooling)
    model: Any,
    batch: Batch,
    pooling: Pooling,
    dtype: tf.DType,
    dropout_seed: tf.Tensor | None = None,
    recompute: bool = False,
) -> tf.Tensor:
    """Computes one state for each document.

    Args:
      model: HuggingFace's model, or an adapted view of it.
      batch: for "cls" with `label_positions`, else with `slot_documents`.
      pooling: see `Pooling`.
      dtype: see `encoder.encode`, as the other arguments.
      dropout_seed: of the encoder.
      recompute: whether inner values are computed again.

    Returns:
      float32 [B, P, H]. "mean" and "max" give 0 for slots that are not used.
    """
    positions_BP = batch["label_positions"] if pooling == "cls" else None
    states = encoder.encode(
        model, batch, dtype, dropout_seed, recompute, positions_BP
    )
    states = tf.cast(states, tf.float32)
    if pooling == "cls":
        return states
    slots_BP1 = batch["slot_documents"][:, :, tf.newaxis]
    documents_BS = batch.get("document_ids", batch["attention_mask"])
    is_inside_BPS = (slots_BP1 > 0) & (slots_BP1 == documents_BS[:, tf.newaxis])
    if pooling == "mean":
        weights_BPS = tf.cast(is_inside_BPS, tf.float32)
        return tf.math.divide_no_nan(
            tf.matmul(weights_BPS, states),
            tf.reduce_sum(weights_BPS, axis=2, keepdims=True),
        )
    largest_BPH = tf.reduce_max(
        tf.where(
            is_inside_BPS[..., tf.newaxis],
            states[:, tf.newaxis],
            tf.float32.min,
        ),
        axis=2,
    )
    return tf.where(slots_BP1 > 0, largest_BPH, 0.0)


def classification_logits(
    model: Any,
    pooled_BPH: tf.Tensor,
    pooling: Pooling,
    dropout_seed: tf.Tensor | None = None,
) -> tf.Tensor:
    """Computes the logits of classes, or the one value of a regression.

    For "cls" this is `TFBertForSequenceClassification`. The dense layer of its
    pooler belongs to [CLS] alone; without it, a mean or a maximum goes straight
    to the classifier.

    Args:
      model: HuggingFace's model, or an adapted view of it.
      pooled_BPH: from `pooled`.
      pooling: which of them.
      dropout_seed: int32 [2], another one than the encoder's; None for no
        dropout.

    Returns:
      float32 [B, P, C].
    """
    if pooling == "cls":
        pooled_BPH = tf.tanh(
            transformer_layer.dense(model.bert.pooler.dense, pooled_BPH)
        )
    return tagging_logits(model, pooled_BPH, dropout_seed)


def tagging_logits(
    model: Any, states_BPH: tf.Tensor, dropout_seed: tf.Tensor | None = None
) -> tf.Tensor:
    """Computes the logits of tags, as `TFBertForTokenClassification`.

    Args:
      model: HuggingFace's model, or an adapted view of it.
      states_BPH: from `encoder.encode`, at `label_positions`.
      dropout_seed: see `classification_logits`.

    Returns:
      float32 [B, P, C].
    """
    rate = model.config.classifier_dropout
    if rate is None:
        rate = model.config.hidden_dropout_prob
    dropped_BPH = fused_operations.dropout(
        tf.cast(states_BPH, tf.float32), rate, dropout_seed
    )
    return transformer_layer.dense(model.classifier, dropped_BPH)


def span_logits(
    model: Any, states_BSH: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes at which token an answer starts and ends.

    As `TFBertForQuestionAnswering`; padding and other documents have logits
    too, so the caller leaves them out.

    Returns:
      float32 [B, S] for the start, and for the end.
    """
    logits_BS2 = transformer_layer.dense(
        model.qa_outputs, tf.cast(states_BSH, tf.float32)
    )
    start_BS, end_BS = tf.unstack(logits_BS2, axis=-1)
    return start_BS, end_BS


def head_variables(
    bert: transformers.TFPreTrainedModel, pooling: Pooling
) -> list[tf.Variable]:
    """The variables of the head; the head of [CLS] includes the pooler.

    Beside adapters, they are what is trained.
    """
    body = bert.bert
    in_body = {variable.ref() for variable in body.trainable_variables}
    found = [v for v in bert.trainable_variables if v.ref() not in in_body]
    if found and pooling == "cls" and body.pooler is not None:
        found += body.pooler.trainable_variables
    return found


def trained_variables(
    bert: transformers.TFPreTrainedModel, pooling: Pooling
) -> list[tf.Variable]:
    """All variables that have a gradient: a pooler may be without use."""
    return [
        *bert.bert.embeddings.trainable_variables,
        *bert.bert.encoder.trainable_variables,
        *head_variables(bert, pooling),
    ]
