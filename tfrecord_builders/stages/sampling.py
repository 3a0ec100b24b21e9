"""Random choices of a build, which are the same in every run.

The split of a document and the number of its copies follow from its digest.
All other draws follow from (seed, stream of the stage, unit).
"""

from bert_pretrain.data import records
from tfrecord_builders.stages import build_config

# Different, so that no two stages draw the same numbers.
ROWS_STREAM, SHARDS_STREAM = 1, 2


def split_of(digest: bytes, config: build_config.DatasetConfig) -> str:
    """The split of a document.

    Since it depends only on the digest, the same document is held out in every
    build with the same shares, and documents with equal digests are never in
    different splits.
    """
    position = int.from_bytes(digest[:8], "little") / 2**64
    if position < config.eval_fraction:
        return records.EVAL
    if position < config.eval_fraction + config.test_fraction:
        return records.TEST
    return records.TRAIN


def num_copies(digest: bytes, split: str, weight: float) -> int:
    """How many times a document occurs in the dataset."""
    if split != records.TRAIN:
        return 1
    position = int.from_bytes(digest[8:16], "little") / 2**64
    return int(weight) + (position < weight % 1)
