"""The record format: rows to `tf.train.Example`s and back.

A record is a `tf.train.Example` with the feature names and types of
google-research/bert, so that every BERT trainer reads our shards and ours
reads theirs. In Python the features go by HuggingFace's names; this module
alone knows both.

A row of a packed dataset holds several documents,
`[CLS] … [SEP][CLS] … [SEP]`, which must not attend to one another. Its record
has one more feature, under a name of our own: `document_ids` [S], 1 for the
tokens of the row's first document, its [CLS] and [SEP] included, 2 for those
of its second, …, and 0 for padding. Where a document's positions begin anew
follows from it.

Rows of a dataset with masking "none" are for dynamic masking: their
`input_ids` are whole, and the masked_lm features are there, since
google-research/bert's readers ask for them, but are all 0, weights too.

B = records in a batch, S = seq_length, P = max_predictions_per_seq.
"""

import dataclasses
import hashlib

import numpy as np
import tensorflow as tf
from google.protobuf import message

from bert_pretrain import errors, files
from bert_pretrain.data import example_proto, manifests, tfrecord_frames

# As many rows as the processor's cache holds while they are serialized.
_ROWS_AT_ONCE = 1024
SPLITS = TRAIN, EVAL, TEST = ("train", "eval", "test")


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature of a record: its name in the file, its width, its type."""

    file_name: str
    width: str  # "S", "P" or "1"
    dtype: np.dtype


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


def features_of(is_packed):
    """The features that the records of a set have, by name."""
    return PACKED_FEATURES if is_packed else FEATURES


def shard_name(split, index, num_shards):
    return f"{split}-{index:05d}-of-{num_shards:05d}.tfrecord"


def serialize(features):
    """Serializes rows to records.

    Args:
      features: `FEATURES`' names to arrays [B, S], [B, P] or [B, 1] of
        numbers that are not negative; of packed rows `PACKED_FEATURES`'.

    Returns:
      A list of B byte strings.
    """
    return [
        content[start:end].tobytes()
        for content, ends in _serialize(features)
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def _serialize(features):
    """Yields (the bytes of some records, where each of them ends)."""
    written = features_of("document_ids" in features)
    for start in range(0, len(features["input_ids"]), _ROWS_AT_ONCE):
        yield example_proto.serialize(
            {
                feature.file_name: np.asarray(
                    features[name][start : start + _ROWS_AT_ONCE], feature.dtype
                ).reshape(-1, np.prod(np.shape(features[name])[1:], dtype=int))
                for name, feature in written.items()
            }
        )


def write_shard(path, batches):
    """Writes rows to a TFRecord file, aside and then renamed.

    Args:
      batches: rows as `serialize` takes them, some at a time.

    Returns:
      The shard's entry in the manifest.
    """
    num_examples = num_bytes = 0
    checksum = hashlib.sha256()
    with files.replacing(path) as aside:
        with tf.io.gfile.GFile(aside, "wb") as file:
            file.write(b"")  # Else there is no file where there is no row.
            for features in batches:
                for content, ends in _serialize(features):
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


def parse(serialized_B, seq_length, max_predictions_per_seq, is_packed=False):
    """Parses a batch of records inside an input pipeline.

    Args:
      serialized_B: string tensor [B].
      is_packed: whether the records are those of a packed set.

    Returns:
      `FEATURES`' names to tensors [B, S], [B, P] or [B]; int32, float32. Of
      packed rows `document_ids` too, and `position_ids` [B, S], which count
      from 0 in each document.
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


def position_ids(document_ids_BS):
    """Positions that begin anew in each document: int32 [B, S]."""
    # Rising, so that the first of equals is found by bisection.
    rising_BS = tf.where(
        document_ids_BS > 0, document_ids_BS, document_ids_BS.dtype.max
    )
    starts_BS = tf.ensure_shape(
        tf.searchsorted(rising_BS, rising_BS, side="left"),
        document_ids_BS.shape,
    )
    return tf.range(document_ids_BS.shape[1]) - starts_BS


def read_examples(paths):
    """Yields the examples of TFRecord files as dicts of NumPy arrays.

    Raises:
      UserError: naming the file that is corrupt, or holds something else.
    """
    for path in paths:
        with errors.naming(path):
            for serialized in without_autotuning(tf.data.TFRecordDataset(path)):
                yield to_arrays(serialized.numpy(), path)


def without_autotuning(dataset):
    """A `tf.data.Dataset` whose iterators end as soon as they are let go.

    The end of an iterator waits for its autotuning thread, which sleeps ever
    longer, for up to a minute: of 30 iterators that had lived 8 seconds, seven
    took 2 to 60 seconds to end. An accelerator would stand idle so long after
    each phase, and each time a run goes back.
    """
    settings = tf.data.Options()
    settings.autotune.enabled = False
    return dataset.with_options(settings)


def to_arrays(serialized, path):
    """Parses one record of any set, its widths taken from the record.

    `document_ids` are among the arrays if they are in the record.

    Raises:
      UserError: naming `path`, if this is no such record.
    """
    try:
        example = tf.train.Example.FromString(serialized)
    except message.DecodeError as error:
        raise errors.UserError(
            f"{path}: holds a record that is no tf.train.Example; is it a "
            "TFRecord file of a BERT builder?"
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
