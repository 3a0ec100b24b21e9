"""The FLOPs of a model's training step, for its FLOPs utilization (MFU).

MFU is the rate at which these FLOPs are computed, divided by
`accelerators.peak_flops`.
"""

import transformers


def flops_per_example(
    bert_config: transformers.BertConfig,
    seq_length: int,
    num_predictions: int,
    has_pairs: bool,
) -> int:
    """FLOPs of a training step per example, as MFU counts them.

    Only matrix products count; a product of [m, k] and [k, n] has 2 m k n
    FLOPs. The backward pass counts twice as much as the forward pass, and
    values that it computes again do not count (Chowdhery et al. 2022, appendix
    B). Attention counts over all pairs of positions. The vocabulary's head
    counts at the positions that are predicted. Every layer counts in full, so
    that the MFU is comparable with that of other code, although
    `encoder.encode` does not compute the whole last layer.

    Args:
      bert_config: the architecture.
      seq_length: tokens in a row, padding included.
      num_predictions: masked positions in a row.
      has_pairs: whether the model also predicts the next sentence.
    """
    hidden = bert_config.hidden_size
    # Query, key, value and output, then the feed-forward network.
    dense = 4 * hidden**2 + 2 * hidden * bert_config.intermediate_size
    # The scores, and the weighted sum of the values.
    attention = 2 * seq_length * hidden
    layers = bert_config.num_hidden_layers * seq_length * (dense + attention)
    head = num_predictions * hidden * (hidden + bert_config.vocab_size)
    pooler = hidden * (hidden + 2) if has_pairs else 0
    return 3 * 2 * (layers + head + pooler)
