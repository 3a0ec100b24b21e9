"""One layer of BERT: attention, then the feed-forward network.

Also the operations that layers share with the rest of the model: a dense
layer, LayerNorm and the activations.

B = rows, S = seq_length, Q = positions asked for, H = hidden size, N = heads,
D = H / N, F = inner size of the feed-forward network, X = any width.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf
import tf_keras
import transformers

from bert_pretrain.kernels import (
    attention_kernel,
    fused_operations,
    recomputation,
    seeding,
)

ACTIVATIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "gelu": fused_operations.gelu,
    "gelu_new": functools.partial(tf.nn.gelu, approximate=True),
    "relu": tf.nn.relu,
}
# HuggingFace's TensorFlow code adds this to the scores of padding.
_PADDING_SCORE = -10_000.0


@dataclasses.dataclass(frozen=True)
class View:
    """The positions that a layer computes, and the tokens that each sees."""

    positions_BQ: tf.Tensor | None  # None for all positions
    document_ids_BS: tf.Tensor  # the document of each token; 0 for padding
    # Added to the scores: [B, 1, 1, S] if it hides padding, [B, 1, Q, S] if
    # it hides other documents. The softmax of a hidden score is exactly 0,
    # and so is its gradient.
    hidden_scores: tf.Tensor

    @classmethod
    def of_batch(
        cls,
        batch: Mapping[str, tf.Tensor],
        dtype: tf.DType,
        positions_BQ: tf.Tensor | None = None,
    ) -> "View":
        """The view of a batch, see `encoder.encode`."""
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


def transform(  # noqa: PLR0913 (a layer depends on all of them)
    layer: tf_keras.layers.Layer,
    config: transformers.PretrainedConfig,
    dropout_seed: tf.Tensor | None,
    view: View,
    norm: tf_keras.layers.LayerNormalization | None,
    values_BSH: tf.Tensor,
) -> tf.Tensor:
    """Computes a layer, without the LayerNorm at its end.

    The next layer applies this LayerNorm. So a layer keeps one tensor of its
    input for the gradient, and the gradient of LayerNorm uses the same one.

    Args:
      layer: HuggingFace's layer, whose variables are read.
      config: the architecture.
      dropout_seed: see `encoder.encode`.
      view: the positions to compute.
      norm: the LayerNorm at the end of the previous layer; None if there is
        no previous layer.
      values_BSH: the previous layer's result.

    Returns:
      [B, Q, H].
    """
    seeds = split_seed(dropout_seed, 3)
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
            dense(output.dense, attended_BQH),
            residual_BQH,
        ),
    )
    inner_BQF = recomputation.as_stored(
        hidden.apply(linear, *_parameters(layer.intermediate.dense))
    )
    activate = ACTIVATIONS[config.hidden_act]
    outer_BQH = recomputation.recompute_cheaply(
        lambda inner_BQF, *parameters: linear(activate(inner_BQF), *parameters),
        inner_BQF,
        *_parameters(layer.bert_output.dense),
    )
    # A view of the model may have one (adapters.py); HuggingFace's has none.
    if adapter := getattr(layer, "adapter", None):
        outer_BQH = adapter(outer_BQH)
    return _drop_and_add(
        config, seeds[2], recomputation.as_stored(outer_BQH), hidden.values
    )


def split_seed(
    seed: tf.Tensor | None, num_seeds: int
) -> list[tf.Tensor] | list[None]:
    """Seeds that are derived from a seed; without a seed, as many None."""
    if seed is None:
        return [None] * num_seeds
    return seeding.split(seed, num_seeds)


def dense(layer: tf_keras.layers.Dense, values: tf.Tensor) -> tf.Tensor:
    """`linear` with the variables of a dense layer."""
    return recomputation.as_stored(linear(values, *_parameters(layer)))


def linear(
    values: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor,
    transpose: bool = False,
) -> tf.Tensor:
    """Multiplies `values` [..., X] by a matrix and adds a bias.

    One product over all rows.

    Args:
      values: their dtype is that of the product.
      kernel: [X, Y], or [Y, X] if it is to be transposed.
      bias: [Y].
      transpose: whether the kernel is to be transposed.
    """
    dtype, leading = values.dtype, values.shape[1:-1]
    flat = tf.reshape(values, [-1, values.shape[-1]])
    product = tf.nn.bias_add(
        tf.matmul(flat, tf.cast(kernel, dtype), transpose_b=transpose),
        tf.cast(bias, dtype),
    )
    return tf.reshape(product, [-1, *leading, product.shape[-1]])


def normalize(
    norm: tf_keras.layers.LayerNormalization,
    config: transformers.PretrainedConfig,
    values: tf.Tensor,
) -> tf.Tensor:
    """`fused_operations.normalize` with the variables of a LayerNorm."""
    return fused_operations.normalize(
        values,
        tf.convert_to_tensor(norm.gamma),
        tf.convert_to_tensor(norm.beta),
        config.layer_norm_eps,
    )


class _Hidden:
    """Hidden states, and the tensors from which they are computed again."""

    def __init__(
        self,
        config: transformers.PretrainedConfig,
        norm: tf_keras.layers.LayerNormalization | None,
        values: tf.Tensor,
    ) -> None:
        """Normalizes the values if a LayerNorm is given."""
        self.values = values
        # Arguments of `fused_operations.normalize_by` that give `values`;
        # empty if the values are not to be computed again.
        self._sources: list[tf.Tensor] = []
        if norm is None:
            return
        if recomputation.is_one_program():
            self._sources = [
                values,
                *map(tf.convert_to_tensor, (norm.gamma, norm.beta)),
                *fused_operations.statistics(values, config.layer_norm_eps),
            ]
            self.values = fused_operations.normalize_by(*self._sources)
        else:
            self.values = normalize(norm, config, values)

    def apply(
        self, function: Callable[..., tf.Tensor], *parameters: tf.Tensor
    ) -> tf.Tensor:
        """Computes `function(states, *parameters)`."""
        if not self._sources:
            return function(self.values, *parameters)
        num_sources = len(self._sources)

        def compute(*tensors):
            values = fused_operations.normalize_by(*tensors[:num_sources])
            return function(values, *tensors[num_sources:])

        return recomputation.recompute_cheaply(
            compute, *self._sources, *parameters
        )


def _attend(
    attention: tf_keras.layers.Layer,
    config: transformers.PretrainedConfig,
    dropout_seed: tf.Tensor | None,
    view: View,
    hidden: _Hidden,
) -> tuple[tf.Tensor, tf.Tensor]:
    """(Attention's result, the states of the queries), both [B, Q, H]."""
    num_heads = config.num_attention_heads
    rate = config.attention_probs_dropout_prob
    if view.positions_BQ is not None:
        residual_BQH = tf.gather(hidden.values, view.positions_BQ, batch_dims=1)
        heads = _heads_at_positions(attention, config, hidden, residual_BQH)
    else:
        residual_BQH = hidden.values
        is_fused = attention_kernel.is_used(
            residual_BQH.shape[1], num_heads, config.hidden_size // num_heads
        )
        num_groups = config.hidden_size // attention_kernel.GROUP_WIDTH
        qkv_BSX = _project_qkv(
            attention, config, hidden, num_groups if is_fused else 1
        )
        if is_fused:
            attended_BSH = attention_kernel.attend(
                qkv_BSX, view.document_ids_BS, num_heads, rate, dropout_seed
            )
            return attended_BSH, residual_BQH
        heads = _split_heads(num_heads, 3, qkv_BSX)
    query_BNQD, key_BNSD, value_BNSD = heads
    attended_BNQD = fused_operations.attention(
        query_BNQD,
        key_BNSD,
        value_BNSD,
        view.hidden_scores,
        rate,
        dropout_seed,
    )
    attended_BQH = tf.reshape(
        tf.transpose(attended_BNQD, [0, 2, 1, 3]), [-1, *residual_BQH.shape[1:]]
    )
    return attended_BQH, residual_BQH


def _heads_at_positions(
    attention: tf_keras.layers.Layer,
    config: transformers.PretrainedConfig,
    hidden: _Hidden,
    states_BQH: tf.Tensor,
) -> list[tf.Tensor]:
    """Queries of the given states, keys and values of all: [B, N, …, D]."""
    num_heads = config.num_attention_heads
    queries_BQX = _project(
        [_query_scale(config)], states_BQH, *_parameters(attention.query)
    )
    others_BSX = hidden.apply(
        functools.partial(_project, [1, 1]),
        *_parameters(attention.key),
        *_parameters(attention.value),
    )
    return [
        *_split_heads(num_heads, 1, queries_BQX),
        *_split_heads(num_heads, 2, others_BSX),
    ]


def _project_qkv(
    attention: tf_keras.layers.Layer,
    config: transformers.PretrainedConfig,
    hidden: _Hidden,
    num_groups: int,
) -> tf.Tensor:
    """Queries, keys and values of all states, as `_project` orders them."""
    return hidden.apply(
        functools.partial(
            _project, [_query_scale(config), 1, 1], num_groups=num_groups
        ),
        *_parameters(attention.query),
        *_parameters(attention.key),
        *_parameters(attention.value),
    )


def _query_scale(config: transformers.PretrainedConfig) -> float:
    """1 / the root of the head size.

    The weights of the queries are multiplied by it, because that is cheaper
    than to divide the queries.
    """
    return (config.hidden_size // config.num_attention_heads) ** -0.5


def _project(
    scales: Sequence[float],
    values: tf.Tensor,
    *parameters: tf.Tensor,
    num_groups: int = 1,
) -> tf.Tensor:
    """Computes several products of the same values as one product.

    Args:
      scales: a factor for each product.
      values: [..., H].
      parameters: kernel, bias, kernel, bias, …
      num_groups: the columns of each product are divided into so many groups.
        The result holds the first group of each product, then the second
        group of each product, and so on.
    """
    dtype = values.dtype
    kernel, bias = (
        tf.stack(
            [
                tf.reshape(
                    tf.cast(scale * parameter, dtype),
                    [*parameter.shape[:-1], num_groups, -1],
                )
                for scale, parameter in zip(scales, of_products, strict=True)
            ],
            axis=-2,
        )
        for of_products in (parameters[::2], parameters[1::2])
    )
    return linear(
        values,
        recomputation.apart(tf.reshape(kernel, [kernel.shape[0], -1])),
        tf.reshape(bias, [-1]),
    )


def _split_heads(
    num_heads: int, num_products: int, products_BSX: tf.Tensor
) -> list[tf.Tensor]:
    """[B, N, S, D] for each of the products that `_project` computed."""
    _, length, width = products_BSX.shape
    head_size = width // (num_products * num_heads)
    return tf.unstack(
        tf.transpose(
            tf.reshape(
                products_BSX, [-1, length, num_products, num_heads, head_size]
            ),
            [2, 0, 3, 1, 4],
        )
    )


def _drop_and_add(
    config: transformers.PretrainedConfig,
    seed: tf.Tensor | None,
    values: tf.Tensor,
    residual: tf.Tensor,
) -> tf.Tensor:
    """The end of a sub-layer, without its LayerNorm."""
    dropped = fused_operations.dropout(values, config.hidden_dropout_prob, seed)
    return recomputation.as_stored(residual + dropped)


def _parameters(layer: tf_keras.layers.Dense) -> tuple[tf.Tensor, tf.Tensor]:
    return layer.kernel, layer.bias
