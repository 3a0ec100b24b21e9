"""BERT's forward pass (Devlin et al. 2019, section 3) over HuggingFace's
variables.

The same function as `TFBertForMaskedLM` and `TFBertForPreTraining` compute,
in fewer passes over memory, with the vocabulary's logits at the masked
positions only, and with dropout drawn from a seed instead of from state that
no checkpoint holds.

B = rows, S = seq_length, H = hidden size, N = heads, D = H / N,
P = max_predictions_per_seq, V = vocabulary.
"""

import functools
import math

import tensorflow as tf

from bert_pretrain import errors

_ACTIVATIONS = {
    "gelu": functools.partial(tf.nn.gelu, approximate=False),
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


def encode(bert, batch, dtype, dropout_seed=None, recompute=False):
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

    Returns:
      [B, S, H] of `dtype`.
    """
    config = bert.config
    seeds = _split(dropout_seed, 1 + len(bert.bert.encoder.layer))
    hidden_BSH = _embed(
        bert.bert.embeddings, config, batch, dtype, Dropout(seeds[0])
    )
    hidden_scores = _hidden_scores(batch, dtype)
    for layer, seed in zip(bert.bert.encoder.layer, seeds[1:], strict=True):
        transform = functools.partial(_transform, layer, config, seed)
        if recompute:
            transform = tf.recompute_grad(transform)
        hidden_BSH = transform(hidden_BSH, hidden_scores)
    return hidden_BSH


def masked_lm_logits(bert, hidden_BSH, positions_BP):
    """Scores every token at the masked positions: [B, P, V]."""
    head = bert.mlm.predictions
    masked_BPH = tf.gather(hidden_BSH, positions_BP, batch_dims=1)
    masked_BPH = _ACTIVATIONS[bert.config.hidden_act](
        _dense(head.transform.dense, masked_BPH)
    )
    masked_BPH = _normalize(head.transform.LayerNorm, bert.config, masked_BPH)
    return _linear(
        masked_BPH, bert.bert.embeddings.weight, head.bias, transpose=True
    )


def next_sentence_logits(bert, hidden_BSH):
    """Scores whether the second part follows: [B, 2], class 0 means yes."""
    pooled_BH = tf.tanh(_dense(bert.bert.pooler.dense, hidden_BSH[:, 0]))
    return _dense(bert.nsp.seq_relationship, pooled_BH)


def _split(seed, num_seeds):
    if seed is None:
        return [None] * num_seeds
    fold_in = tf.random.experimental.stateless_fold_in
    return [fold_in(seed, number) for number in range(num_seeds)]


def _embed(embeddings, config, batch, dtype, dropout):
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
    return dropout(tf.cast(hidden_BSH, dtype), config.hidden_dropout_prob)


def _hidden_scores(batch, dtype):
    """What is added to the scores of what a token must not see.

    Returns:
      [B, 1, 1, S] where that is padding; [B, 1, S, S] where it is other
      documents. Its softmax is then exactly 0, and so is the gradient.
    """
    if "document_ids" in batch:
        ids_BS = batch["document_ids"]
        is_seen_BSS = ids_BS[:, :, tf.newaxis] == ids_BS[:, tf.newaxis]
    else:
        is_seen_BSS = batch["attention_mask"][:, tf.newaxis] > 0
    scores_BSS = tf.where(is_seen_BSS, 0.0, _PADDING_SCORE)
    return tf.cast(scores_BSS, dtype)[:, tf.newaxis]


def _transform(layer, config, dropout_seed, hidden_BSH, hidden_scores):
    """A layer: attention, then the feed-forward network."""
    dropout = Dropout(dropout_seed)
    attended_BSH = _attend(
        layer.attention.self_attention,
        config,
        hidden_BSH,
        hidden_scores,
        dropout,
    )
    hidden_BSH = _project_and_add(
        layer.attention.dense_output,
        config,
        attended_BSH,
        hidden_BSH,
        dropout,
    )
    inner_BSF = _ACTIVATIONS[config.hidden_act](
        _dense(layer.intermediate.dense, hidden_BSH)
    )
    return _project_and_add(
        layer.bert_output, config, inner_BSF, hidden_BSH, dropout
    )


def _attend(attention, config, hidden_BSH, hidden_scores, dropout):
    """Multi-head self-attention, without its output projection."""
    num_heads = config.num_attention_heads
    _, seq_length, hidden_size = hidden_BSH.shape
    head_size = hidden_size // num_heads
    parts = attention.query, attention.key, attention.value
    # One product for all three.
    qkv_BSX = _linear(
        hidden_BSH,
        tf.concat([part.kernel for part in parts], axis=1),
        tf.concat([part.bias for part in parts], axis=0),
    )
    qkv_BS3ND = tf.reshape(qkv_BSX, [-1, seq_length, 3, num_heads, head_size])
    query_BNSD, key_BNSD, value_BNSD = tf.unstack(
        tf.transpose(qkv_BS3ND, [2, 0, 3, 1, 4])
    )
    query_BNSD *= 1 / math.sqrt(head_size)
    scores_BNSS = tf.matmul(query_BNSD, key_BNSD, transpose_b=True)
    weights_BNSS = dropout(
        tf.nn.softmax(scores_BNSS + hidden_scores),
        config.attention_probs_dropout_prob,
    )
    attended_BSND = tf.transpose(
        tf.matmul(weights_BNSS, value_BNSD), [0, 2, 1, 3]
    )
    return tf.reshape(attended_BSND, [-1, seq_length, hidden_size])


def _project_and_add(output, config, inner_BSX, hidden_BSH, dropout):
    """The end of a sub-layer: projection, dropout, residual, LayerNorm."""
    projected_BSH = dropout(
        _dense(output.dense, inner_BSX), config.hidden_dropout_prob
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
    """LayerNorm (Ba et al. 2016), computed in float32, returned as it came."""
    wide = tf.cast(values, tf.float32)
    mean, variance = tf.nn.moments(wide, axes=[-1], keepdims=True)
    normalized = tf.nn.batch_normalization(
        wide,
        mean,
        variance,
        offset=layer.beta,
        scale=layer.gamma,
        variance_epsilon=config.layer_norm_eps,
    )
    return tf.cast(normalized, values.dtype)


class Dropout:
    """Dropout whose masks follow from a seed and the order of the calls."""

    def __init__(self, seed):
        self._seed = seed
        self._num_calls = 0

    def __call__(self, values, rate):
        if self._seed is None or not rate:
            return values
        site, self._num_calls = self._num_calls, self._num_calls + 1
        seed = tf.random.experimental.stateless_fold_in(self._seed, site)
        # 16 random bits an element: the rate is right to 1 in 65,536, and
        # drawing them takes half the time of 32.
        num_values = values.shape.num_elements()
        bits = tf.random.stateless_uniform(
            [-(-num_values // 2)],
            seed,
            minval=None,
            maxval=None,
            dtype=tf.uint32,
        )
        bits = tf.reshape(tf.bitcast(bits, tf.uint16), [-1])[:num_values]
        threshold = round(rate * 2**16)
        keep = tf.cast(bits >= tf.constant(threshold, tf.uint16), values.dtype)
        scale = 2**16 / (2**16 - threshold)
        return values * tf.reshape(keep * scale, values.shape)
