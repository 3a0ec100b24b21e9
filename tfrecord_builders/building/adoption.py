"""Makes a dataset of records that another BERT builder wrote."""

import collections
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tqdm

from bert_pretrain import errors, file_errors, files
from bert_pretrain.data import manifests, records, vocabulary

_ROWS_AT_ONCE = 1024


def adopt(
    paths: Mapping[str, Sequence[str]],
    vocab: vocabulary.Vocabulary,
    output_dir: str,
) -> manifests.Manifest:
    """Copies files of records into a dataset, and writes its manifest.

    Args:
      paths: the TFRecord files of each split in `records.SPLITS`.
      vocab: the vocabulary with which the files were made.

    Raises:
      UserError: with the name of a file that is corrupt, or does not fit the
        vocabulary or the first file.
    """
    first = paths[records.TRAIN][0]
    row_format = _read_format(first)
    if row_format is None:
        raise errors.UserError(f"{first} holds no record; leave it out.")
    num_bytes = sum(
        files.size(path) for in_split in paths.values() for path in in_split
    )
    with tqdm.tqdm(total=num_bytes, unit="B", unit_scale=True) as bar:
        splits = {
            split: _adopt_split(
                split, in_split, row_format, vocab, output_dir, bar
            )
            for split, in_split in paths.items()
        }
    vocab.write(f"{output_dir}/{vocabulary.FILE_NAME}")
    has_random_pairs = any(split.num_random_next for split in splits.values())
    manifest = manifests.Manifest(
        seq_length=row_format.seq_length,
        max_predictions_per_seq=row_format.max_predictions_per_seq,
        # Without random pairs all labels are equal, and a model cannot learn
        # from them.
        pairing="nsp" if has_random_pairs else "none",
        masking="unknown",
        is_packed=row_format.is_packed,
        vocab_size=vocab.size,
        vocab_sha256=vocab.sha256,
        is_lower_case=vocab.is_lower_case,
        strips_accents=vocab.strips_accents,
        splits=splits,
        options={},
        sources=(),
        documents={
            "read": 0,
            "kept": 0,
            "dropped": {},
            "boilerplate_lines": 0,
        },
        rows={},
    )
    files.remove_temporary_files(output_dir)
    manifests.write(output_dir, manifest)
    return manifest


def refuse_overlap(paths: Mapping[str, Sequence[str]]) -> None:
    """Refuses a file that is in two splits."""
    seen: dict[str, tuple[str, str]] = {}
    for split, in_split in paths.items():
        for path in in_split:
            # Links, and different spellings of a path, name the same file.
            file = path if "://" in path else os.path.realpath(path)
            other_split, other_path = seen.setdefault(file, (split, path))
            if other_split != split:
                alias = "" if other_path == path else f" as {other_path}"
                raise errors.UserError(
                    f"{path} is in {split} and in {other_split}{alias}; "
                    "held-out data must not be trained on: leave the file out "
                    "of one of the two."
                )


def refuse_existing(output_dir: str) -> None:
    path = f"{output_dir}/{manifests.MANIFEST_NAME}"
    with file_errors.naming(path):
        if tf.io.gfile.exists(path):
            raise errors.UserError(
                f"{output_dir} holds a finished dataset; give another "
                "output_dir, or remove the folder."
            )


class _RowFormat(NamedTuple):
    """The properties that all records of a dataset share."""

    seq_length: int
    max_predictions_per_seq: int
    is_packed: bool

    def __str__(self) -> str:
        kind = "packed" if self.is_packed else "not packed"
        return (
            f"of {self.seq_length} tokens and "
            f"{self.max_predictions_per_seq} predictions, {kind}"
        )


def _read_format(path: str) -> _RowFormat | None:
    """Reads the format of a file's first record; None if it has no record."""
    for example in records.read_examples([path]):
        return _RowFormat(
            len(example["input_ids"]),
            len(example["masked_lm_ids"]),
            "document_ids" in example,
        )
    return None


def _adopt_split(
    split: str,
    paths: Sequence[str],
    row_format: _RowFormat,
    vocab: vocabulary.Vocabulary,
    output_dir: str,
    bar: tqdm.tqdm,
) -> manifests.Split:
    """Checks and copies the files of a split."""
    counts: collections.Counter[str] = collections.Counter()
    shards = []
    for i, path in enumerate(paths):
        counted = _count(path, row_format, vocab)
        max_id = max(counts["max_id"], counted["max_id"])
        counts.update(counted)
        counts["max_id"] = max_id
        copy = f"{output_dir}/{records.shard_name(split, i, len(paths))}"
        shards.append(_copy(path, copy, counted["num_examples"]))
        bar.update(shards[-1].num_bytes)
    capacity = max(1, counts["num_examples"] * row_format.seq_length)
    return manifests.Split(
        num_documents=0,  # Records do not tell it.
        num_examples=counts["num_examples"],
        num_tokens=counts["num_tokens"],
        num_predictions=counts["num_predictions"],
        num_random_next=counts["num_random_next"],
        padding_fraction=round(1 - counts["num_tokens"] / capacity, 4),
        max_id=counts["max_id"],
        shards=tuple(shards),
    )


def _count(
    path: str, row_format: _RowFormat, vocab: vocabulary.Vocabulary
) -> collections.Counter[str]:
    """Checks the records of a file, and counts their content.

    Returns:
      The counts of `manifests.Split` by name, and `max_id`, which is no count.
    """
    misfit = (
        f"{path}: a record is not {row_format}, as the records of the first "
        "file, or lacks a feature; build all files with the same options."
    )
    # Parsing alone would not find a packed row where none is expected.
    if _read_format(path) not in (row_format, None):
        raise errors.UserError(misfit)
    counts: collections.Counter[str] = collections.Counter()
    batches = records.without_autotuning(
        tf.data.TFRecordDataset(path).batch(_ROWS_AT_ONCE)
    )
    with file_errors.naming(path):
        for serialized in batches.as_numpy_iterator():
            try:
                tensors = records.parse(serialized, *row_format)
            except tf.errors.InvalidArgumentError as error:
                raise errors.UserError(misfit) from error
            batch = {name: tensor.numpy() for name, tensor in tensors.items()}
            max_id = _max_id(batch)
            _refuse_misfit(path, batch, max_id, row_format, vocab)
            counts.update(
                num_examples=len(serialized),
                num_tokens=int(batch["attention_mask"].sum()),
                num_predictions=int(batch["masked_lm_weights"].sum()),
                num_random_next=int(batch["next_sentence_labels"].sum()),
            )
            counts["max_id"] = max(counts["max_id"], max_id)
    return counts


def _max_id(batch: Mapping[str, np.ndarray]) -> int:
    return int(max(batch[n].max() for n in ("input_ids", "masked_lm_ids")))


def _refuse_misfit(
    path: str,
    batch: Mapping[str, np.ndarray],
    max_id: int,
    row_format: _RowFormat,
    vocab: vocabulary.Vocabulary,
) -> None:
    """Refuses rows with a token id or a position that is too large."""
    if max_id >= vocab.size:
        raise errors.UserError(
            f"{path}: holds the token id {max_id}, but the vocabulary has "
            f"only {vocab.size} tokens; give the vocab_file with which the "
            "records were made."
        )
    position = batch["masked_lm_positions"].max(initial=0)
    if position >= row_format.seq_length:
        raise errors.UserError(
            f"{path}: a masked position is {position}, but rows have only "
            f"{row_format.seq_length} tokens; build the file again."
        )


def _copy(path: str, copy: str, num_examples: int) -> manifests.Shard:
    with files.replacing(copy) as temporary:
        tf.io.gfile.copy(path, temporary)
    return manifests.Shard(
        file=copy.rpartition("/")[2],
        num_examples=num_examples,
        num_bytes=files.size(copy),
        sha256=files.sha256(copy),
    )
