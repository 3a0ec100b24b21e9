"""Masks drawn anew each time an example is read, in the input pipeline.

The distribution is that of the builder's masks by token (Devlin et al. 2019,
section 3.1 and appendix A.1). What is drawn follows from the seed, the number
of the example in the run, and the place in the row: not from the host, the
batch, or what was drawn before; so a run that resumes draws the same.

B = rows, S = seq_length, P = predictions in a row at most.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from bert_pretrain import errors
from bert_pretrain.data import vocabulary

# SplitMix64 (Steele et al. 2014, figure 17): the state goes on by the first,
# and is mixed by the others.
_GAMMA = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Masking:
    """Which tokens are predicted, and what stands in their place."""

    masked_fraction: float
    mask_token_fraction: float
    random_token_fraction: float
    max_predictions_per_seq: int
    mask_id: int
    is_special: np.ndarray  # bool [V]: never predicted, never put in


def of_set(data_dir, manifest, masked_fraction=None):
    """The `Masking` of a set whose rows are left to the trainer, else None.

    Args:
      masked_fraction: in place of the set's; a row then has room for as many
        predictions as it asks for.

    Raises:
      UserError: if the set's masks are fixed, but another rate is asked for.
    """
    if manifest.masking != "none":
        if masked_fraction is not None:
            raise errors.UserError(
                f"masked_fraction={masked_fraction}: the masks of "
                f"{data_dir} are fixed (masking {manifest.masking!r}); build "
                "the set with --masking=none, or leave the option out."
            )
        return None
    rates = manifest.options
    vocab = vocabulary.read(f"{data_dir}/{vocabulary.FILE_NAME}")
    max_predictions = manifest.max_predictions_per_seq
    if masked_fraction is not None:
        max_predictions = math.ceil(masked_fraction * manifest.seq_length)
    return Masking(
        masked_fraction=(
            rates["masked_fraction"]
            if masked_fraction is None
            else masked_fraction
        ),
        mask_token_fraction=rates["mask_token_fraction"],
        random_token_fraction=rates["random_token_fraction"],
        max_predictions_per_seq=max_predictions,
        mask_id=vocab.id(vocabulary.MASK),
        is_special=vocab.is_special,
    )


def mask(batch, numbers_B, seed, masking):
    """Masks rows; core TensorFlow operations only.

    Args:
      batch: `records.parse`'s features, rows not masked.
      numbers_B: int64 [B], the examples' numbers in the run.

    Returns:
      The batch with `input_ids` masked and the masked_lm features set, as
      `tfrecord_builders.masking.mask` describes them.
    """
    ids_BS = batch["input_ids"]
    num_rows, seq_length = ids_BS.shape
    width = masking.max_predictions_per_seq
    is_candidate_BS = (batch["attention_mask"] > 0) & ~tf.gather(
        tf.constant(masking.is_special), ids_BS
    )
    positions_BP, is_used_BP = _choose(
        is_candidate_BS, _bits(seed, 0, numbers_B, seq_length), masking
    )
    labels_BP = tf.gather(ids_BS, positions_BP, batch_dims=1)
    shown_BP = _replace(labels_BP, _bits(seed, 1, numbers_B, width), masking)
    # Slots that are not used name the first place, which is not changed: it
    # holds [CLS], or padding.
    shown_BP = tf.where(is_used_BP, shown_BP, labels_BP)
    rows_BP = tf.repeat(tf.range(num_rows)[:, tf.newaxis], width, axis=1)
    return {
        **batch,
        "input_ids": tf.tensor_scatter_nd_update(
            ids_BS, tf.stack([rows_BP, positions_BP], axis=-1), shown_BP
        ),
        "masked_lm_positions": positions_BP,
        "masked_lm_ids": tf.where(is_used_BP, labels_BP, 0),
        "masked_lm_weights": tf.cast(is_used_BP, tf.float32),
    }


def _choose(is_candidate_BS, bits_BS, masking):
    """(positions int32 [B, P], ascending, then 0; which slots are used)."""
    seq_length = is_candidate_BS.shape[1]
    width = masking.max_predictions_per_seq
    num_candidates_B = tf.reduce_sum(tf.cast(is_candidate_BS, tf.int32), axis=1)
    wanted_B = tf.cast(
        tf.round(
            masking.masked_fraction * tf.cast(num_candidates_B, tf.float64)
        ),
        tf.int32,
    )
    num_used_B = tf.minimum(tf.maximum(wanted_B, 1), num_candidates_B)
    keys_BS = tf.cast(tf.bitwise.right_shift(bits_BS, _uint64(1)), tf.int64)
    keys_BS = tf.where(is_candidate_BS, keys_BS, -1)
    _, chosen_BK = tf.math.top_k(keys_BS, min(width, seq_length))
    chosen_BP = tf.pad(chosen_BK, [[0, 0], [0, max(0, width - seq_length)]])
    is_used_BP = tf.range(width) < num_used_B[:, tf.newaxis]
    positions_BP = tf.sort(tf.where(is_used_BP, chosen_BP, seq_length))
    return tf.where(positions_BP < seq_length, positions_BP, 0), is_used_BP


def _replace(labels_BP, bits_BP, masking):
    """[MASK], a random token, or the token itself."""
    # 24 bits make a number in [0, 1), the lower 32 another choice.
    draw_BP = tf.cast(
        tf.bitwise.right_shift(bits_BP, _uint64(40)), tf.float32
    ) * (2.0**-24)
    replacements = np.flatnonzero(~masking.is_special).astype(np.int32)
    choice_BP = tf.cast(
        tf.bitwise.bitwise_and(bits_BP, _uint64(2**32 - 1)), tf.int64
    ) % len(replacements)
    random_BP = tf.gather(tf.constant(replacements), choice_BP)
    is_random_BP = (
        draw_BP < masking.mask_token_fraction + masking.random_token_fraction
    )
    shown_BP = tf.where(is_random_BP, random_BP, labels_BP)
    is_masked_BP = draw_BP < masking.mask_token_fraction
    return tf.where(is_masked_BP, masking.mask_id, shown_BP)


def _bits(seed, stream, numbers_B, num_columns):
    """Random uint64 [B, num_columns]: a sequence of its own for each row."""
    origin = _mix(_mix(_uint64(seed)) + _uint64(stream))
    starts_B = _mix(origin ^ tf.cast(numbers_B, tf.uint64))
    steps = np.arange(1, num_columns + 1, dtype=np.uint64) * np.uint64(_GAMMA)
    return _mix(starts_B[:, tf.newaxis] + tf.constant(steps))


def _mix(values):
    for shift, factor in _MIX:
        values ^= tf.bitwise.right_shift(values, _uint64(shift))
        values *= _uint64(factor)
    return values ^ tf.bitwise.right_shift(values, _uint64(31))


def _uint64(value):
    return tf.constant(value, tf.uint64)
