"""Masking: chooses the tokens that the model predicts, and hides them.

The procedure is that of BERT (Devlin et al. 2019, section 3.1 and appendix
A.1). Whole words are masked as in google-research/bert.

N = rows, S = tokens of a row, P = max_predictions_per_seq, K = chosen tokens of
all rows.
"""

import numpy as np

from bert_pretrain.data import vocabulary
from tfrecord_builders.rows import masked_units, rows_config

# Rows that are masked at once; they fit into the processor's cache. Another
# number would give other masks for the same seed.
_ROWS_AT_ONCE = 512


def mask(
    input_ids: np.ndarray,
    attention_mask: np.ndarray,
    vocab: vocabulary.Vocabulary,
    config: rows_config.MaskingConfig,
    rng: np.random.Generator,
    is_continuation: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Masks rows.

    A row of C tokens that are not special gets min(P, max(1,
    round(masked_fraction * C))) predictions. With whole words it may get
    fewer, because words that do not fit are skipped. With masking "none" it
    gets none, and all weights are 0.

    Args:
      input_ids: int [N, S].
      attention_mask: int [N, S], 1 for tokens, 0 for padding.
      is_continuation: bool [N, S], tokens that belong to the word of the token
        before, in addition to tokens that begin with "##".

    Returns:
      Features of the records:
      `input_ids`: int32 [N, S], with chosen tokens hidden.
      `masked_lm_positions`, `masked_lm_ids`: int32 [N, P], ascending positions
        and the original ids; 0 after the last prediction.
      `masked_lm_weights`: float32 [N, P], 1 for each prediction, then 0.
    """
    shape = len(input_ids), config.max_predictions_per_seq
    features: dict[str, np.ndarray] = {
        "input_ids": np.array(input_ids, np.int32),
        "masked_lm_positions": np.zeros(shape, np.int32),
        "masked_lm_ids": np.zeros(shape, np.int32),
        "masked_lm_weights": np.zeros(shape, np.float32),
    }
    if config.masking == "none":
        return features
    for start in range(0, len(input_ids), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        batch = {name: values[rows] for name, values in features.items()}
        ids = batch["input_ids"]
        is_special = vocab.is_special.take(ids)
        is_candidate = (attention_mask[rows] != 0) & ~is_special
        is_word_start = is_candidate
        if config.masking != "token":
            goes_on = vocab.is_continuation.take(ids)
            if is_continuation is not None:
                goes_on |= is_continuation[rows]
            # The rest of a word at the start of a row is a word too.
            starts = masked_units.run_starts(is_candidate)
            is_word_start = is_candidate & ~goes_on | starts
        budget = _budget(is_candidate, config)
        chosen, units = masked_units.choose(
            is_candidate, is_word_start, config.masking, budget, rng
        )
        _hide(batch, chosen, units, vocab, config, rng)
    return features


def _budget(
    is_candidate: np.ndarray, config: rows_config.MaskingConfig
) -> np.ndarray:
    """int32 [N], the number of tokens to predict in each row."""
    num_candidates = is_candidate.sum(axis=1)
    return np.minimum(
        config.max_predictions_per_seq,
        np.maximum(1, np.rint(config.masked_fraction * num_candidates)),
    ).astype(np.int32)


def _hide(
    features: dict[str, np.ndarray],
    chosen: np.ndarray,
    units: np.ndarray,
    vocab: vocabulary.Vocabulary,
    config: rows_config.MaskingConfig,
    rng: np.random.Generator,
) -> None:
    """Replaces the chosen tokens and stores the original ones, in place.

    [MASK], a random token or the original one is drawn for each token. For
    spans and n-grams it is drawn once for all tokens of a unit, as in SpanBERT
    and tf-models-official.

    Args:
      features: see the result of `mask`.
      chosen, units: see the result of `masked_units.choose`.
    """
    num_rows, seq_length = features["input_ids"].shape
    rows, positions = np.divmod(chosen, seq_length)
    counts = np.bincount(rows, minlength=num_rows)
    slots = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
    labels = features["input_ids"].take(chosen)
    features["masked_lm_positions"][rows, slots] = positions
    features["masked_lm_ids"][rows, slots] = labels
    features["masked_lm_weights"][rows, slots] = 1
    replacements = np.flatnonzero(~vocab.is_special).astype(np.int32)
    random_ids = replacements[rng.integers(len(replacements), size=len(rows))]
    draw = rng.random(len(rows))
    if config.masking in masked_units.LENGTH_WEIGHTS:
        draw = draw[units]  # one draw for each unit
    is_masked = draw < config.mask_token_fraction
    is_random = draw < config.mask_token_fraction + config.random_token_fraction
    shown = np.where(is_random, random_ids, labels)
    shown[is_masked] = vocab.id(vocabulary.MASK)
    features["input_ids"][rows, positions] = shown
