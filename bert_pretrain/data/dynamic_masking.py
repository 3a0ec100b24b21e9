"""Dynamic masking: new masks each time the input pipeline reads an example.

The distribution is that of the builder's masking "token" (Devlin et al. 2019,
section 3.1 and appendix A.1). The random bits depend only on the seed, on the
number of the example in the run, and on the position in the row. They do not
depend on the host, the batch, or earlier draws. So a resumed run draws the
same masks.

B = rows, S = seq_length, P = max_predictions_per_seq, K = min(P, S).
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from bert_pretrain import errors
from bert_pretrain.data import manifests, vocabulary

# SplitMix64 (Steele et al. 2014, figure 17): the increment of the state, and
# the shifts and factors that mix the state.
_GAMMA = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Masking:
    """How many tokens are predicted, and what replaces them in the input."""

    masked_fraction: float
    mask_token_fraction: float
    random_token_fraction: float
    max_predictions_per_seq: int
    mask_id: int
    is_special: np.ndarray  # bool [V]: not predicted, no random replacement


def of_dataset(
    data_dir: str,
    manifest: manifests.Manifest,
    masked_fraction: float | None = None,
) -> Masking | None:
    """Returns the `Masking` of a dataset; None if its masks are fixed.

    Args:
      masked_fraction: replaces the dataset's fraction; rows then have room for
        as many predictions as this fraction needs.

    Raises:
      UserError: if the masks are fixed and `masked_fraction` is given.
    """
    if manifest.masking != "none":
        if masked_fraction is not None:
            raise errors.UserError(
                f"masked_fraction={masked_fraction}: the masks of "
                f"{data_dir} are fixed (masking {manifest.masking!r}); build "
                "the dataset with --masking=none, or leave the option out."
            )
        return None
    rates = manifest.options
    vocab = manifests.read_vocabulary(data_dir, manifest)
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


def mask(
    batch: Mapping[str, tf.Tensor],
    numbers_B: tf.Tensor,
    seed: int,
    masking: Masking,
) -> dict[str, tf.Tensor]:
    """Masks rows, with core TensorFlow operations only.

    Args:
      batch: features from `records.parse`, of rows without masks.
      numbers_B: int64 [B], the numbers of the examples in the run.

    Returns:
      The batch with masked `input_ids` and with new masked_lm features, as
      `tfrecord_builders.rows.masking.mask` describes them.
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
    # Unused slots have position 0. Its token, [CLS] or padding, must not
    # change.
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


def _choose(
    is_candidate_BS: tf.Tensor, bits_BS: tf.Tensor, masking: Masking
) -> tuple[tf.Tensor, tf.Tensor]:
    """Chooses the positions to predict.

    Returns:
      (int32 [B, P]: ascending positions, then zeros in unused slots;
      bool [B, P]: which slots are used).
    """
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


def _replace(
    labels_BP: tf.Tensor, bits_BP: tf.Tensor, masking: Masking
) -> tf.Tensor:
    """Replaces each id by [MASK] or a random token, or keeps it."""
    # The upper 24 bits give a number in [0, 1), the lower 32 the random token.
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


def _bits(
    seed: int, stream: int, numbers_B: tf.Tensor, num_columns: int
) -> tf.Tensor:
    """Random uint64 [B, num_columns]; each row has its own sequence."""
    origin = _mix(_mix(_uint64(seed)) + _uint64(stream))
    starts_B = _mix(origin ^ tf.cast(numbers_B, tf.uint64))
    steps = np.arange(1, num_columns + 1, dtype=np.uint64) * np.uint64(_GAMMA)
    return _mix(starts_B[:, tf.newaxis] + tf.constant(steps))


def _mix(values: tf.Tensor) -> tf.Tensor:
    for shift, factor in _MIX:
        values ^= tf.bitwise.right_shift(values, _uint64(shift))
        values *= _uint64(factor)
    return values ^ tf.bitwise.right_shift(values, _uint64(31))


def _uint64(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint64)
