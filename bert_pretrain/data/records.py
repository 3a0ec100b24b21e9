"""The record format: rows to `tf.train.Example`s and back.

A record is a `tf.train.Example` with the feature names and types of
google-research/bert. So every BERT trainer reads our shards, and our trainer
reads theirs. In Python the features have HuggingFace's names; only this
module knows both.

A row of a packed dataset holds several documents,
`[CLS] … [SEP][CLS] … [SEP]`, which must not attend to one another. Its record
has one more feature, with a name of our own: `document_ids` [S]. It is 1 for
the tokens of the row's first document, with its [CLS] and [SEP], 2 for the
second document, …, and 0 for padding. Position ids follow from it: they start
at 0 in each document.

Rows of a dataset with masking "none" are for dynamic masking: their
`input_ids` have no masks. Their masked_lm features are all 0, weights
included; they are there because google-research/bert's readers require them.

B = records in a batch, S = seq_length, P = max_predictions_per_seq.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import numpy as np
import tensorflow as tf
from google.protobuf import message

from bert_pretrain import errors, file_errors, files
from bert_pretrain.data import example_proto, manifests, tfrecord_frames

# So many rows fit into the processor's cache while they are serialized.
_ROWS_AT_ONCE = 1024
SPLITS = TRAIN, EVAL, TEST = ("train", "eval", "test")


@dataclasses.dataclass(frozen=True)
class Feature:
    """The format of one feature of a record."""

    file_name: str  # its name in the record
    width: Literal["S", "P", "1"]
    dtype: type[np.int32] | type[np.float32]


FEATURES = {
    "input_ids": Feature("input_ids", "S", np.int32),
    "attention_mask": Feature("input_mask", "S", np.int32),
    "masked_lm_ids": Feature("masked_lm_ids", "P", np.int32),
    "masked_lm_positions": Feature("masked_lm_positions", "P", np.int32),
    "masked_lm_weights": Feature("masked_lm_weights", "P", np.float32),
    "next_sentence_labels": Feature("next_sentence_labels", "1", np.int32),
    "token_type_ids": Feature("segment_ids", "S", np.int32),
}
PACKED_FEATURES = {
    "document_ids": Feature("document_ids", "S", np.int32),
    **FEATURES,
}


def features_of(is_packed: bool) -> Mapping[str, Feature]:
    """The features of the records of a dataset, by name."""
    return PACKED_FEATURES if is_packed else FEATURES


def shard_name(split: str, index: int, num_shards: int) -> str:
    """The file name of a shard."""
    return f"{split}-{index:05d}-of-{num_shards:05d}.tfrecord"


def serialize(features: Mapping[str, np.ndarray]) -> list[bytes]:
    """Serializes rows to records.

    Args:
      features: arrays [B, S], [B, P] or [B, 1] by the names in `FEATURES`, or
        in `PACKED_FEATURES` for packed rows. No number is negative.

    Returns:
      B records.
    """
    return [
        content[start:end].tobytes()
        for content, ends in _serialize_blocks(features)
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def _serialize_blocks(
    features: Mapping[str, np.ndarray],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (uint8: the bytes of some records; int64: the end of each)."""
    formats = features_of("document_ids" in features)
    for start in range(0, len(features["input_ids"]), _ROWS_AT_ONCE):
        yield example_proto.serialize(
            {
                feature.file_name: np.asarray(
                    features[name][start : start + _ROWS_AT_ONCE], feature.dtype
                ).reshape(-1, np.prod(np.shape(features[name])[1:], dtype=int))
                for name, feature in formats.items()
            }
        )


def write_shard(
    path: str, batches: Iterable[Mapping[str, np.ndarray]]
) -> manifests.Shard:
    """Writes rows to a TFRecord file, which appears only when it is complete.

    Args:
      batches: batches of rows, in the form that `serialize` takes.

    Returns:
      The shard's entry in the manifest.
    """
    num_examples = num_bytes = 0
    checksum = hashlib.sha256()
    with files.replacing(path) as temporary:
        with tf.io.gfile.GFile(temporary, "wb") as file:
            file.write(b"")  # Creates the file even if there are no rows.
            for features in batches:
                for content, ends in _serialize_blocks(features):
                    framed = tfrecord_frames.frame(content, ends).tobytes()
                    file.write(framed)
                    checksum.update(framed)
                    num_examples += len(ends)
                    num_bytes += len(framed)
    return manifests.Shard(
        file=path.rpartition("/")[2],
        num_examples=num_examples,
        num_bytes=num_bytes,
        sha256=checksum.hexdigest(),
    )


def parse(
    serialized_B: tf.Tensor,
    seq_length: int,
    max_predictions_per_seq: int,
    is_packed: bool = False,
) -> dict[str, tf.Tensor]:
    """Parses a batch of records inside an input pipeline.

    Args:
      serialized_B: string tensor [B].
      is_packed: whether the records are from a packed dataset.

    Returns:
      int32 and float32 tensors [B, S], [B, P] or [B] by the names in
      `FEATURES`. For packed rows also `document_ids`, and `position_ids`
      [B, S], which count from 0 in each document.
    """
    features = features_of(is_packed)
    widths = {"S": seq_length, "P": max_predictions_per_seq, "1": 1}
    spec = {
        feature.file_name: tf.io.FixedLenFeature(
            [widths[feature.width]],
            tf.float32 if feature.dtype == np.float32 else tf.int64,
        )
        for feature in features.values()
    }
    parsed = tf.io.parse_example(serialized_B, spec)
    batch = {
        name: tf.cast(parsed[feature.file_name], feature.dtype)
        for name, feature in features.items()
    }
    batch["next_sentence_labels"] = tf.squeeze(
        batch["next_sentence_labels"], axis=-1
    )
    if is_packed:
        batch["position_ids"] = position_ids(batch["document_ids"])
    return batch


def position_ids(document_ids_BS: tf.Tensor) -> tf.Tensor:
    """Positions that start at 0 in each document: int32 [B, S]."""
    # Padding at the end gets the largest id. So the ids ascend, and bisection
    # finds the first position of each id.
    ascending_BS = tf.where(
        document_ids_BS > 0, document_ids_BS, document_ids_BS.dtype.max
    )
    starts_BS = tf.ensure_shape(
        tf.searchsorted(ascending_BS, ascending_BS, side="left"),
        document_ids_BS.shape,
    )
    return tf.range(document_ids_BS.shape[1]) - starts_BS


def read_examples(paths: Iterable[str]) -> Iterator[dict[str, np.ndarray]]:
    """Yields the examples of TFRecord files as arrays by name.

    Raises:
      UserError: if a file is corrupt, or is in another format.
    """
    for path in paths:
        with file_errors.naming(path):
            for serialized in without_autotuning(tf.data.TFRecordDataset(path)):
                yield to_arrays(serialized.numpy(), path)


def without_autotuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Switches off autotuning, so that iterators end without delay.

    An iterator cannot end before its autotuning thread. That thread sleeps for
    longer and longer periods, up to a minute: of 30 iterators that were 8
    seconds old, seven took 2 to 60 seconds to end. The accelerator would be
    idle for that time after each phase and at each rollback.
    """
    settings = tf.data.Options()
    settings.autotune.enabled = False
    return dataset.with_options(settings)


def to_arrays(serialized: bytes, path: str) -> dict[str, np.ndarray]:
    """Parses one record of any dataset; the record itself gives the widths.

    The result has `document_ids` if the record has them.

    Args:
      path: the record's file, for error messages.

    Raises:
      UserError: if it is not a record in this format.
    """
    try:
        example = tf.train.Example.FromString(serialized)
    except message.DecodeError as error:
        raise errors.UserError(
            f"{path}: holds a record that is not a tf.train.Example; is it "
            "a TFRecord file from a BERT builder?"
        ) from error
    values = example.features.feature
    if missing := [
        feature.file_name
        for feature in FEATURES.values()
        if feature.file_name not in values
    ]:
        raise errors.UserError(
            f"{path}: a record lacks {', '.join(missing)}; it has "
            f"{', '.join(sorted(values)) or 'nothing'}."
        )
    return {
        name: np.array(
            values[feature.file_name].float_list.value
            if feature.dtype == np.float32
            else values[feature.file_name].int64_list.value,
            feature.dtype,
        )
        for name, feature in features_of(
            PACKED_FEATURES["document_ids"].file_name in values
        ).items()
    }
