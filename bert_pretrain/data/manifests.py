"""The manifest of a dataset: what it is, and whether its files are all there.

A dataset is a folder of shards, the vocabulary they were made with, and a
manifest that is written last: where it stands, the dataset is whole.

    train-00000-of-00064.tfrecord …   eval-00000-of-00002.tfrecord …
    vocab.txt                         manifest.json
"""

import dataclasses

import tensorflow as tf

from bert_pretrain import errors, files
from bert_pretrain.data import vocabulary

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
NEAR_DUPLICATES_NAME = "near_duplicates.json"  # examples of what was dropped


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """A file of the set."""

    file: str
    num_examples: int
    num_bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """The shards of train, eval or test, and what their rows hold."""

    num_documents: int
    num_examples: int
    num_tokens: int  # special tokens included, padding not
    num_predictions: int
    # Pairs whose second part is from elsewhere; with pairing "sop", swapped.
    num_random_next: int
    padding_fraction: float
    # Of a packed set: what it would be if no row held two documents.
    unpacked_padding_fraction: float | None = None
    max_id: int  # the largest token id in any row
    shards: tuple[Shard, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a set is: all that a trainer must agree with, and its origin."""

    format_version: int = FORMAT_VERSION
    seq_length: int
    max_predictions_per_seq: int
    pairing: str  # "none", "nsp" or "sop"
    # "token", "whole_word", "span", "ngram"; "none" for rows that the trainer
    # masks, by the rates in `options`. Held-out rows always have masks.
    masking: str
    is_packed: bool = False  # are there several documents in a row?
    vocab_size: int
    vocab_sha256: str
    is_lower_case: bool
    splits: dict[str, Split]
    options: dict  # of the build, as given
    sources: tuple[dict, ...]  # what was read, per input
    documents: dict  # counts: read, kept, dropped by reason
    rows: dict  # counts of what did not go into rows


def write(data_dir, manifest):
    files.write_json(
        f"{data_dir}/{MANIFEST_NAME}", dataclasses.asdict(manifest)
    )


def read(data_dir):
    """Reads the manifest of a set.

    Raises:
      UserError: if there is none, another version of the format wrote it, or
        it was changed.
    """
    path = f"{data_dir}/{MANIFEST_NAME}"
    with errors.naming(path):
        is_whole = tf.io.gfile.exists(path)
    if not is_whole:
        raise errors.UserError(
            f"{path} does not exist: {data_dir} holds no finished set; run "
            "tfrecord_builders.build again, it goes on where it stopped."
        )
    values = files.read_json(path)
    try:
        return _to_manifest(values, path)
    except (AttributeError, KeyError, TypeError) as error:
        raise errors.UserError(
            f"{path}: not as the builder writes it ({error}); put the "
            "original back, or build the set again."
        ) from error


def _to_manifest(values, path):
    if values.get("format_version") != FORMAT_VERSION:
        raise errors.UserError(
            f"{path}: format_version {values.get('format_version')!r}, "
            f"expected {FORMAT_VERSION}; build the set again."
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


def check_dataset(data_dir, manifest):
    """Checks that the files of a set are those that its manifest names.

    Looks at the names and sizes of the shards and at the vocabulary, not at
    every byte: `find_corrupt_shard` does, once something has gone wrong.

    Raises:
      UserError: naming the file that is missing, cut short, or another.
    """
    for shard in _shards(manifest):
        path = f"{data_dir}/{shard.file}"
        num_bytes = files.size(path)
        if num_bytes != shard.num_bytes:
            raise errors.UserError(
                f"{path}: {num_bytes} bytes, the manifest says "
                f"{shard.num_bytes}: the shard is truncated or not of this "
                "set; copy it again, or remove the set and build it again."
            )
    vocab_path = f"{data_dir}/{vocabulary.FILE_NAME}"
    vocab = vocabulary.read(vocab_path)
    vocabulary.check_same(
        vocab_path,
        vocab.sha256,
        manifest.vocab_sha256,
        expected_by="the manifest",
        remedy="put the vocabulary back that the dataset was built with",
    )
    for name, split in manifest.splits.items():
        if split.max_id >= manifest.vocab_size:
            raise errors.UserError(
                f"{data_dir}: the {name} rows hold the id {split.max_id}, "
                f"the vocabulary only {manifest.vocab_size} tokens; build "
                "the set again with its own vocabulary."
            )


def find_corrupt_shard(data_dir, manifest):
    """The path of the first shard whose bytes are not as written, or None."""
    for shard in _shards(manifest):
        path = f"{data_dir}/{shard.file}"
        if files.sha256(path) != shard.sha256:
            return path
    return None


def _shards(manifest):
    return [
        shard for split in manifest.splits.values() for shard in split.shards
    ]
