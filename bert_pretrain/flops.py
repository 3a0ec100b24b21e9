"""How much arithmetic a model's training is, whatever the code does of it."""


def per_example(bert_config, seq_length, num_predictions, has_pairs):
    """FLOPs of a training step per example, as MFU counts them.

    Matrix products only, a product of [m, k] and [k, n] being 2 m k n; the
    backward pass is twice the forward pass, and what is recomputed in it does
    not count (Chowdhery et al. 2022, appendix B). Attention counts over all
    pairs of positions; the vocabulary's head at the positions that are
    predicted. Every layer counts in full, so that MFU compares with others'
    code, though `encoder.encode` leaves out what no loss needs of the last.
    """
    hidden = bert_config.hidden_size
    # Query, key, value and output, then the feed-forward network.
    dense = 4 * hidden**2 + 2 * hidden * bert_config.intermediate_size
    # The scores, and the sum they weigh.
    attention = 2 * seq_length * hidden
    layers = bert_config.num_hidden_layers * seq_length * (dense + attention)
    head = num_predictions * hidden * (hidden + bert_config.vocab_size)
    pooler = hidden * (hidden + 2) if has_pairs else 0
    return 3 * 2 * (layers + head + pooler)
