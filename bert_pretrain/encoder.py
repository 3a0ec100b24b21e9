"""BERT's forward pass (Devlin et al. 2019, section 3) over HuggingFace's
variables.

The same function as `TFBertForMaskedLM` and `TFBertForPreTraining` compute,
in fewer passes over memory, with the last layer's states and the vocabulary's
logits at the asked positions only, and with dropout drawn from a seed instead
of from state that no checkpoint holds.

B = rows, S = seq_length, Q = positions asked for, H = hidden size, N = heads,
D = H / N, P = max_predictions_per_seq, V = vocabulary.
"""

import functools

import tensorflow as tf

from bert_pretrain import errors, kernels, seeding

_ACTIVATIONS = {
    "gelu": kernels.gelu,
    "gelu_new": functools.partial(tf.nn.gelu, approximate=True),
    "relu": tf.nn.relu,
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
    hidden_BSH = _embed(bert.bert.embeddings, config, batch, dtype, seeds[0])
    hidden_scores = _hidden_scores(batch, dtype)
    for layer, seed in zip(layers, seeds[1:], strict=True):
        is_last = layer is layers[-1]
        if is_last and positions_BQ is not None:
            hidden_scores = _hidden_scores(batch, dtype, positions_BQ)
        transform = functools.partial(
            _transform,
            layer,
            config,
            seed,
            positions_BQ if is_last else None,
        )
        if recompute:
            transform = tf.recompute_grad(transform)
        hidden_BSH = transform(hidden_BSH, hidden_scores)
    return hidden_BSH


def masked_lm_logits(bert, masked_BPH):
    """Scores every token, given the masked positions' states: [B, P, V]."""
    head = bert.mlm.predictions
    masked_BPH = _ACTIVATIONS[bert.config.hidden_act](
        _dense(head.transform.dense, masked_BPH)
    )
    masked_BPH = _normalize(head.transform.LayerNorm, bert.config, masked_BPH)
    return _linear(
        masked_BPH, bert.bert.embeddings.weight, head.bias, transpose=True
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


def _hidden_scores(batch, dtype, positions_BQ=None):
    """What is added to the scores of what a token must not see.

    Returns:
      [B, 1, 1, S] where that is padding; [B, 1, Q, S] where it is other
      documents. Its softmax is then exactly 0, and so is the gradient.
    """
    if "document_ids" in batch:
        ids_BS = ids_BQ = batch["document_ids"]
        if positions_BQ is not None:
            ids_BQ = tf.gather(ids_BS, positions_BQ, batch_dims=1)
        is_seen = ids_BQ[:, :, tf.newaxis] == ids_BS[:, tf.newaxis]
    else:
        is_seen = batch["attention_mask"][:, tf.newaxis] > 0
    scores = tf.where(is_seen, 0.0, _PADDING_SCORE)
    return tf.cast(scores, dtype)[:, tf.newaxis]


def _transform(  # noqa: PLR0913 (a layer's inputs)
    layer, config, dropout_seed, positions_BQ, hidden_BSH, hidden_scores
):
    """A layer: attention, then the feed-forward network."""
    seeds = _split(dropout_seed, 3)
    heads, residual_BQH = _heads(
        layer.attention.self_attention, config, hidden_BSH, positions_BQ
    )
    attended_BNQD = kernels.attention(
        *heads, hidden_scores, config.attention_probs_dropout_prob, seeds[0]
    )
    attended_BQH = tf.reshape(
        tf.transpose(attended_BNQD, [0, 2, 1, 3]),
        [-1, *residual_BQH.shape[1:]],
    )
    hidden_BQH = _project_and_add(
        layer.attention.dense_output,
        config,
        attended_BQH,
        residual_BQH,
        seeds[1],
    )
    inner_BQF = _ACTIVATIONS[config.hidden_act](
        _dense(layer.intermediate.dense, hidden_BQH)
    )
    return _project_and_add(
        layer.bert_output, config, inner_BQF, hidden_BQH, seeds[2]
    )


def _heads(attention, config, hidden_BSH, positions_BQ):
    """((queries, keys, values), the states that the queries are of).

    Queries are divided by the root of the head size, which is cheaper done to
    their weights.
    """
    scale = config.num_attention_heads**0.5 / config.hidden_size**0.5
    query = attention.query.kernel * scale, attention.query.bias * scale
    others = [
        (part.kernel, part.bias) for part in (attention.key, attention.value)
    ]
    if positions_BQ is None:
        # One product for all three.
        return _split_heads(config, hidden_BSH, query, *others), hidden_BSH
    chosen_BQH = tf.gather(hidden_BSH, positions_BQ, batch_dims=1)
    heads = (
        *_split_heads(config, chosen_BQH, query),
        *_split_heads(config, hidden_BSH, *others),
    )
    return heads, chosen_BQH


def _split_heads(config, values_BSH, *parts):
    """[B, N, S, D] for each of the parts, which are (kernel, bias)."""
    kernels_HX, biases_X = zip(*parts, strict=True)
    products_BSX = _linear(
        values_BSH, tf.concat(kernels_HX, axis=1), tf.concat(biases_X, axis=0)
    )
    num_heads = config.num_attention_heads
    shape = [-1, values_BSH.shape[1], len(parts), num_heads]
    return tf.unstack(
        tf.transpose(
            tf.reshape(products_BSX, [*shape, config.hidden_size // num_heads]),
            [2, 0, 3, 1, 4],
        )
    )


def _project_and_add(output, config, inner_BSX, hidden_BSH, dropout_seed):
    """The end of a sub-layer: projection, dropout, residual, LayerNorm."""
    projected_BSH = kernels.dropout(
        _dense(output.dense, inner_BSX),
        config.hidden_dropout_prob,
        dropout_seed,
    )
    return _normalize(output.LayerNorm, config, hidden_BSH + projected_BSH)


def _dense(layer, values):
    return _linear(values, layer.kernel, layer.bias)


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
