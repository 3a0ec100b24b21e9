"""BERT's forward pass (Devlin et al. 2019, section 3) over HuggingFace's
variables.

The same function as `TFBertForMaskedLM` and `TFBertForPreTraining` compute,
in fewer passes over memory, with the last layer's states and the vocabulary's
logits at the asked positions only, and with dropout drawn from a seed instead
of from state that no checkpoint holds.

B = rows, S = seq_length, Q = positions asked for, H = hidden size, N = heads,
D = H / N, P = max_predictions_per_seq, V = vocabulary.
"""

import dataclasses
import functools

import tensorflow as tf

from bert_pretrain import errors, options
from bert_pretrain.model import (
    attention_kernel,
    kernels,
    recomputation,
    seeding,
)

_ACTIVATIONS = {
    "gelu": kernels.gelu,
    "gelu_new": functools.partial(tf.nn.gelu, approximate=True),
    "relu": tf.nn.relu,
}
# What config.json may say, and as which type.
_NUMBERS = {
    **dict.fromkeys(
        (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
        ),
        (int, options.Bounds(at_least=1)),
    ),
    **dict.fromkeys(
        ("hidden_dropout_prob", "attention_probs_dropout_prob"),
        (float, options.Bounds(at_least=0, below=1)),
    ),
    "layer_norm_eps": (float, options.Bounds(above=0)),
    "initializer_range": (float, options.Bounds(above=0)),
}
# What HuggingFace's TensorFlow code adds to the scores of padding.
_PADDING_SCORE = -10_000.0


def check_supported(config):
    """Checks that this file computes what a `BertConfig` describes.

    Raises:
      UserError: naming the field.
    """
    supported = {
        "hidden_act": tuple(_ACTIVATIONS),
        "position_embedding_type": ("absolute",),
        "is_decoder": (False,),
        "add_cross_attention": (False,),
    }
    for name, values in supported.items():
        value = getattr(config, name)
        if value not in values:
            raise errors.UserError(
                f"{name}={value!r} is not supported, only "
                f"{', '.join(map(repr, values))}."
            )
    for name, (kind, bounds) in _NUMBERS.items():
        value = getattr(config, name)
        # A whole number is a float, too; true and false are none.
        if type(value) not in (int, kind):
            complaint = f"is not of the type {kind.__name__}"
        else:
            complaint = bounds.complaint(value)
        if complaint:
            raise errors.UserError(f"{name}={value!r} {complaint}.")
    if config.hidden_size % config.num_attention_heads:
        raise errors.UserError(
            f"hidden_size={config.hidden_size} is not a multiple of "
            f"num_attention_heads={config.num_attention_heads}."
        )


def encode(  # noqa: PLR0913 (as many as a forward pass depends on)
    bert, batch, dtype, dropout_seed=None, recompute=False, positions_BQ=None
):
    """Computes the last layer's hidden states.

    Args:
      bert: HuggingFace's model, whose variables are read.
      batch: `input_ids`, `attention_mask` and `token_type_ids` [B, S]; where
        rows hold several documents, `document_ids` and `position_ids` too,
        and each document is computed as if it were alone.
      dtype: of the matrix products and hidden states; variables are float32.
      dropout_seed: int32 [2]; the same one gives the same masks. None for no
        dropout.
      recompute: whether a layer's inner values are computed again for the
        gradient, so that only its output is kept (Chen et al. 2016).
      positions_BQ: where the states are needed; None for everywhere. Of the
        last layer, the keys and values alone are computed elsewhere.

    Returns:
      [B, Q, H] of `dtype`; [B, S, H] without `positions_BQ`.
    """
    config = bert.config
    layers = bert.bert.encoder.layer
    seeds = _split(dropout_seed, 1 + len(layers))
    values_BSH = _embed(bert.bert.embeddings, config, batch, dtype, seeds[0])
    view, norm = _View.of(batch, dtype), None
    for layer, seed in zip(layers, seeds[1:], strict=True):
        if layer is layers[-1] and positions_BQ is not None:
            view = _View.of(batch, dtype, positions_BQ)
        transform = functools.partial(
            _transform, layer, config, seed, view, norm
        )
        if recompute:
            transform = functools.partial(recomputation.recomputed, transform)
        values_BSH = transform(values_BSH)
        norm = layer.bert_output.LayerNorm
    return _normalize(norm, config, values_BSH)


def masked_lm_logits(bert, masked_BPH):
    """Scores every token, given the masked positions' states: [B, P, V]."""
    head = bert.mlm.predictions
    masked_BPH = _ACTIVATIONS[bert.config.hidden_act](
        _dense(head.transform.dense, masked_BPH)
    )
    masked_BPH = _normalize(head.transform.LayerNorm, bert.config, masked_BPH)
    return recomputation.as_stored(
        _linear(
            masked_BPH, bert.bert.embeddings.weight, head.bias, transpose=True
        )
    )


def next_sentence_logits(bert, first_BH):
    """Scores whether the second part follows, given the state of [CLS].

    Returns:
      [B, 2], class 0 means yes.
    """
    pooled_BH = tf.tanh(_dense(bert.bert.pooler.dense, first_BH))
    return _dense(bert.nsp.seq_relationship, pooled_BH)


def _split(seed, num_seeds):
    if seed is None:
        return [None] * num_seeds
    return seeding.split(seed, num_seeds)


def _embed(embeddings, config, batch, dtype, dropout_seed):
    seq_length = batch["input_ids"].shape[1]
    # One table lookup; the few token types by a matrix product, whose
    # gradient is one too and not a scatter of B x S rows into two.
    words_BSH = tf.gather(embeddings.weight, batch["input_ids"])
    types_BST = tf.one_hot(batch["token_type_ids"], config.type_vocab_size)
    types_BSH = tf.tensordot(types_BST, embeddings.token_type_embeddings, 1)
    if "position_ids" in batch:
        positions = tf.gather(
            embeddings.position_embeddings, batch["position_ids"]
        )
    else:
        positions = embeddings.position_embeddings[:seq_length]
    hidden_BSH = _normalize(
        embeddings.LayerNorm, config, words_BSH + types_BSH + positions
    )
    return kernels.dropout(
        tf.cast(hidden_BSH, dtype), config.hidden_dropout_prob, dropout_seed
    )


@dataclasses.dataclass(frozen=True)
class _View:
    """Which states a layer is asked for, and what they must not see."""

    positions_BQ: tf.Tensor | None  # None for everywhere
    # Which document a token is of; padding is none.
    document_ids_BS: tf.Tensor
    # Added to the scores: [B, 1, 1, S] where padding is hidden, [B, 1, Q, S]
    # where other documents are. The softmax is then exactly 0, and so is the
    # gradient.
    hidden_scores: tf.Tensor

    @classmethod
    def of(cls, batch, dtype, positions_BQ=None):
        ids_BS = batch.get("document_ids", batch["attention_mask"])
        if "document_ids" in batch:
            ids_BQ = ids_BS
            if positions_BQ is not None:
                ids_BQ = tf.gather(ids_BS, positions_BQ, batch_dims=1)
            is_seen = ids_BQ[:, :, tf.newaxis] == ids_BS[:, tf.newaxis]
        else:
            is_seen = ids_BS[:, tf.newaxis] > 0
        scores = tf.where(is_seen, 0.0, _PADDING_SCORE)
        return cls(positions_BQ, ids_BS, tf.cast(scores, dtype)[:, tf.newaxis])


def _transform(  # noqa: PLR0913 (what a layer depends on)
    layer, config, dropout_seed, view, norm, values_BSH
):
    """A layer: attention, then the feed-forward network.

    Args:
      norm: the LayerNorm that the values have yet to go through, the end of
        the layer before; None for none. So what a layer keeps of its input
        is one tensor, and the gradient of LayerNorm needs that one too.

    Returns:
      [B, Q, H], before the LayerNorm at its end.
    """
    seeds = _split(dropout_seed, 3)
    hidden = _Hidden(config, norm, values_BSH)
    attended_BQH, residual_BQH = _attend(
        layer.attention.self_attention, config, seeds[0], view, hidden
    )
    output = layer.attention.dense_output
    hidden = _Hidden(
        config,
        output.LayerNorm,
        _drop_and_add(
            config,
            seeds[1],
            _dense(output.dense, attended_BQH),
            residual_BQH,
        ),
    )
    inner_BQF = recomputation.as_stored(
        hidden.through(_linear, *_parameters(layer.intermediate.dense))
    )
    activate = _ACTIVATIONS[config.hidden_act]
    outer_BQH = recomputation.recompute_cheaply(
        lambda inner_BQF, *parameters: _linear(
            activate(inner_BQF), *parameters
        ),
        inner_BQF,
        *_parameters(layer.bert_output.dense),
    )
    return _drop_and_add(
        config, seeds[2], recomputation.as_stored(outer_BQH), hidden.values
    )


class _Hidden:
    """Hidden states, and what they are computed from again."""

    def __init__(self, config, norm, values):
        """Normalizes the values by `norm`, unless that is None."""
        self.values = values
        self._again = None
        if norm is None:
            return
        sources = [values, *map(tf.convert_to_tensor, (norm.gamma, norm.beta))]
        if recomputation.is_one_program():
            statistics = kernels.statistics(values, config.layer_norm_eps)
            self._sources = [*sources, *statistics]
            self._again = kernels.normalize_by
            self.values = self._again(*self._sources)
        else:
            self.values = kernels.normalize(*sources, config.layer_norm_eps)

    def through(self, function, *parameters):
        """`function(states, *parameters)`."""
        if self._again is None:
            return function(self.values, *parameters)
        num_sources = len(self._sources)

        def compute(*tensors):
            values = self._again(*tensors[:num_sources])
            return function(values, *tensors[num_sources:])

        return recomputation.recompute_cheaply(
            compute, *self._sources, *parameters
        )


def _attend(attention, config, dropout_seed, view, hidden):
    """(Attention's result [B, Q, H], the states that the queries are of)."""
    num_heads = config.num_attention_heads
    head_size = config.hidden_size // num_heads
    rate = config.attention_probs_dropout_prob
    query, key, value = (
        _parameters(part)
        for part in (attention.query, attention.key, attention.value)
    )
    # Queries are divided by the root of the head size, which is cheaper done
    # to their weights.
    scale = head_size**-0.5
    if view.positions_BQ is not None:
        residual_BQH = tf.gather(hidden.values, view.positions_BQ, batch_dims=1)
        queries = _project([scale], residual_BQH, *query)
        others = hidden.through(
            functools.partial(_project, [1, 1]), *key, *value
        )
        heads = _heads(num_heads, 1, queries) + _heads(num_heads, 2, others)
    else:
        residual_BQH = hidden.values
        is_fused = attention_kernel.is_used(
            residual_BQH.shape[1], num_heads, head_size
        )
        num_groups = num_heads * head_size // attention_kernel.GROUP_WIDTH
        qkv_BSX = hidden.through(
            functools.partial(
                _project,
                [scale, 1, 1],
                num_groups=num_groups if is_fused else 1,
            ),
            *(*query, *key, *value),
        )
        if is_fused:
            attended_BSH = attention_kernel.attend(
                qkv_BSX, view.document_ids_BS, num_heads, rate, dropout_seed
            )
            return attended_BSH, residual_BQH
        heads = _heads(num_heads, 3, qkv_BSX)
    attended_BNQD = kernels.attention(
        *heads, view.hidden_scores, rate, dropout_seed
    )
    attended_BQH = tf.reshape(
        tf.transpose(attended_BNQD, [0, 2, 1, 3]), [-1, *residual_BQH.shape[1:]]
    )
    return attended_BQH, residual_BQH


def _project(scales, values, *parameters, num_groups=1):
    """Several products of the same values as one.

    Args:
      scales: what each product is multiplied by.
      parameters: kernel, bias, kernel, bias, …
      num_groups: that each product's columns are divided into; the result
        holds the first group of each, then the second of each.
    """
    dtype = values.dtype
    kernel, bias = (
        tf.stack(
            [
                tf.reshape(
                    tf.cast(scale * part, dtype),
                    [*part.shape[:-1], num_groups, -1],
                )
                for scale, part in zip(scales, parts, strict=True)
            ],
            axis=-2,
        )
        for parts in (parameters[::2], parameters[1::2])
    )
    return _linear(
        values,
        recomputation.apart(tf.reshape(kernel, [kernel.shape[0], -1])),
        tf.reshape(bias, [-1]),
    )


def _heads(num_heads, num_parts, products_BSX):
    """[B, N, S, D] for each of the parts that `_project` gives."""
    _, length, width = products_BSX.shape
    head_size = width // (num_parts * num_heads)
    return tf.unstack(
        tf.transpose(
            tf.reshape(
                products_BSX, [-1, length, num_parts, num_heads, head_size]
            ),
            [2, 0, 3, 1, 4],
        )
    )


def _drop_and_add(config, seed, values, residual):
    """The end of a sub-layer, but for its LayerNorm."""
    dropped = kernels.dropout(values, config.hidden_dropout_prob, seed)
    return recomputation.as_stored(residual + dropped)


def _dense(layer, values):
    return recomputation.as_stored(_linear(values, *_parameters(layer)))


def _parameters(layer):
    return layer.kernel, layer.bias


def _linear(values, kernel, bias, transpose=False):
    """`values` [..., X] times a matrix, as one product over all rows."""
    dtype, leading = values.dtype, values.shape[1:-1]
    flat = tf.reshape(values, [-1, values.shape[-1]])
    product = tf.nn.bias_add(
        tf.matmul(flat, tf.cast(kernel, dtype), transpose_b=transpose),
        tf.cast(bias, dtype),
    )
    return tf.reshape(product, [-1, *leading, product.shape[-1]])


def _normalize(layer, config, values):
    return kernels.normalize(
        values,
        tf.convert_to_tensor(layer.gamma),
        tf.convert_to_tensor(layer.beta),
        config.layer_norm_eps,
    )
