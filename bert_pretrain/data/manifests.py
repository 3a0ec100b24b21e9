"""The manifest of a dataset: its description, and checks of its files.

A dataset is a folder with shards, the vocabulary of their token ids, and a
manifest. The builder writes the manifest last: a dataset with a manifest is
complete.

    train-00000-of-00064.tfrecord …   eval-00000-of-00002.tfrecord …
    vocab.txt                         manifest.json
"""

import dataclasses
from typing import Any

import tensorflow as tf

from bert_pretrain import errors, file_errors, files
from bert_pretrain.data import vocabulary

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
NEAR_DUPLICATES_NAME = "near_duplicates.json"  # some dropped documents


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of examples."""

    file: str
    num_examples: int
    num_bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """The shards of train, eval or test, and counts of their content."""

    num_documents: int
    num_examples: int
    num_tokens: int  # with special tokens, without padding
    num_predictions: int
    # Pairs whose second segment is random; with pairing "sop": swapped pairs.
    num_random_next: int
    padding_fraction: float
    # For a packed dataset: the padding with only one document in each row.
    unpacked_padding_fraction: float | None = None
    max_id: int  # the largest token id in any row
    shards: tuple[Shard, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The format of a dataset, its content, and how it was built."""

    format_version: int = FORMAT_VERSION
    seq_length: int
    max_predictions_per_seq: int
    pairing: str  # "none", "nsp" or "sop"
    # "token", "whole_word", "span" or "ngram". With "none" the trainer masks
    # the training rows, by the rates in `options`; held-out rows have masks.
    masking: str
    is_packed: bool = False  # whether a row may hold several documents
    vocab_size: int
    vocab_sha256: str
    is_lower_case: bool
    # None in datasets of earlier versions: as `is_lower_case`.
    strips_accents: bool | None = None
    splits: dict[str, Split]
    options: dict[str, Any]  # the options of the build
    sources: tuple[dict[str, Any], ...]  # the files that were read
    documents: dict[str, Any]  # counts: read, kept, dropped by reason
    rows: dict[str, int]  # counts of text that is in no row
    # Counts of the text in each language; "" is text of no known language.
    languages: dict[str, dict[str, int]] = dataclasses.field(
        default_factory=dict
    )


def read_vocabulary(data_dir: str, manifest: Manifest) -> vocabulary.Vocabulary:
    """Reads the vocabulary of a dataset, with the casing of its text."""
    strips_accents = manifest.strips_accents
    if strips_accents is None:
        strips_accents = manifest.is_lower_case
    return vocabulary.read(
        f"{data_dir}/{vocabulary.FILE_NAME}",
        manifest.is_lower_case,
        strips_accents,
    )


def write(data_dir: str, manifest: Manifest) -> None:
    """Writes the manifest into the dataset's folder."""
    files.write_json(
        f"{data_dir}/{MANIFEST_NAME}", dataclasses.asdict(manifest)
    )


def read(data_dir: str) -> Manifest:
    """Reads the manifest of a dataset.

    Raises:
      UserError: if the manifest is missing, is of another format version, or
        was edited.
    """
    path = f"{data_dir}/{MANIFEST_NAME}"
    with file_errors.naming(path):
        is_complete = tf.io.gfile.exists(path)
    if not is_complete:
        raise errors.UserError(
            f"{path} does not exist: {data_dir} holds no finished dataset; "
            "run tfrecord_builders.build again to resume an unfinished build."
        )
    values = files.read_json(path)
    try:
        return _to_manifest(values, path)
    except (AttributeError, KeyError, TypeError) as error:
        raise errors.UserError(
            f"{path}: not as the builder writes it ({error}); restore the "
            "original file, or build the dataset again."
        ) from error


def _to_manifest(values: dict[str, Any], path: str) -> Manifest:
    if values.get("format_version") != FORMAT_VERSION:
        raise errors.UserError(
            f"{path}: format_version {values.get('format_version')!r}, "
            f"expected {FORMAT_VERSION}; build the dataset again."
        )
    values["splits"] = {
        name: Split(
            **{
                **split,
                "shards": tuple(Shard(**shard) for shard in split["shards"]),
            }
        )
        for name, split in values["splits"].items()
    }
    return Manifest(**{**values, "sources": tuple(values["sources"])})


def check_dataset(data_dir: str, manifest: Manifest) -> None:
    """Checks the files of a dataset against its manifest.

    The check reads the vocabulary and the sizes of the shards, but not their
    bytes: that would take too long. After a read error, `find_corrupt_shard`
    reads the bytes.

    Raises:
      UserError: if a file is missing or truncated, or does not belong to the
        dataset.
    """
    for shard in _shards(manifest):
        path = f"{data_dir}/{shard.file}"
        num_bytes = files.size(path)
        if num_bytes != shard.num_bytes:
            raise errors.UserError(
                f"{path}: {num_bytes} bytes, but the manifest says "
                f"{shard.num_bytes}: the shard is truncated, or is from "
                "another dataset; copy the file again, or remove the dataset "
                "and build it again."
            )
    vocabulary.check_same(
        f"{data_dir}/{vocabulary.FILE_NAME}",
        read_vocabulary(data_dir, manifest).sha256,
        manifest.vocab_sha256,
        expected_by="the manifest",
        remedy="restore the vocabulary that the dataset was built with",
    )
    for name, split in manifest.splits.items():
        if split.max_id >= manifest.vocab_size:
            raise errors.UserError(
                f"{data_dir}: the {name} rows hold the id {split.max_id}, but "
                f"the vocabulary has only {manifest.vocab_size} tokens; build "
                "the dataset again with its own vocabulary."
            )


def find_corrupt_shard(data_dir: str, manifest: Manifest) -> str | None:
    """The path of the first shard with a wrong checksum, or None."""
    for shard in _shards(manifest):
        path = f"{data_dir}/{shard.file}"
        if files.sha256(path) != shard.sha256:
            return path
    return None


def _shards(manifest: Manifest) -> list[Shard]:
    return [
        shard for split in manifest.splits.values() for shard in split.shards
    ]
