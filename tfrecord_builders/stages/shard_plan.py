"""The final shards of a dataset: how many, and how they are named."""

import dataclasses
from collections.abc import Iterator, Sequence

from bert_pretrain import errors
from bert_pretrain.data import records
from tfrecord_builders.stages import build_config, document_parts

_SHARD_BYTES = 1 << 25
# Largest size of a shard if the user gives num_shards, in work units.
_UNITS_PER_SHARD = 6


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """Number of shards of each split.

    Shards have consecutive numbers over all splits: train, eval, test.
    """

    num_train: int
    num_eval: int
    num_test: int
    num_passes: int

    @property
    def total(self) -> int:
        """Number of shards of all splits."""
        return self.num_train + self.num_eval + self.num_test

    def passes(self) -> Iterator[tuple[str, int, int]]:
        """Yields (split, first shard, after the last shard) of each pass."""
        per_pass = self.num_train // self.num_passes
        for first in range(0, self.num_train, per_pass):
            yield records.TRAIN, first, first + per_pass
        first_test = self.num_train + self.num_eval
        if self.num_eval:
            yield records.EVAL, self.num_train, first_test
        if self.num_test:
            yield records.TEST, first_test, self.total

    def name(self, number: int) -> tuple[str, str]:
        """(split, file name) of a shard."""
        for split, first, count in (
            (records.TRAIN, 0, self.num_train),
            (records.EVAL, self.num_train, self.num_eval),
            (records.TEST, self.num_train + self.num_eval, self.num_test),
        ):
            if number - first < count:
                return split, records.shard_name(split, number - first, count)
        raise IndexError(number)


def plan_shards(
    config: build_config.DatasetConfig,
    parts: Sequence[document_parts.DocumentPart],
) -> ShardPlan:
    """Chooses the number of shards for the text of the parts.

    Raises:
      UserError: if num_shards makes shards that are too large for a worker.
    """
    num_bytes = int(sum(part.num_bytes * part.weight for part in parts))
    num_train = config.num_shards
    if num_train:
        _refuse_large_shards(config, num_bytes * config.dupe_factor)
    else:
        num_bytes *= config.dupe_factor
        num_train = max(
            1, num_bytes // _SHARD_BYTES, min(16, num_bytes // 2**16)
        )
        num_train += -num_train % config.dupe_factor
    num_eval, num_test = (
        max(1, round(num_train / config.dupe_factor * fraction))
        if fraction
        else 0
        for fraction in (config.eval_fraction, config.test_fraction)
    )
    return ShardPlan(num_train, num_eval, num_test, config.dupe_factor)


def _refuse_large_shards(
    config: build_config.DatasetConfig, num_bytes: int
) -> None:
    # A byte of text needs one byte of memory in a shard, and four in a work
    # unit.
    limit = _UNITS_PER_SHARD * config.unit_bytes
    if num_bytes > limit * config.num_shards:
        num_shards = -(-num_bytes // limit)
        num_shards += -num_shards % config.dupe_factor
        raise errors.UserError(
            f"num_shards={config.num_shards} puts "
            f"{num_bytes / config.num_shards / 2**20:,.0f} MB of text into "
            "each shard, and a worker holds a whole shard in memory: give at "
            f"least num_shards={num_shards}, or, if there is enough memory, a "
            f"larger unit_mb than {config.unit_mb:g}."
        )
