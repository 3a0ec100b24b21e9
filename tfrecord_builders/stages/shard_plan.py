"""The final shards of a dataset: how many, and which rows each one gets."""

import dataclasses

from bert_pretrain import errors
from bert_pretrain.data import records

_SHARD_BYTES = 1 << 25
# So much a shard may have that the user asks for.
_UNITS_PER_SHARD = 6


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """The final shards of a set: how many of each split, numbered through."""

    num_train: int
    num_eval: int
    num_test: int
    num_passes: int

    @property
    def total(self):
        return self.num_train + self.num_eval + self.num_test

    def passes(self):
        """(split, first shard, past the last shard) of each pass."""
        per_pass = self.num_train // self.num_passes
        for first in range(0, self.num_train, per_pass):
            yield records.TRAIN, first, first + per_pass
        first_test = self.num_train + self.num_eval
        if self.num_eval:
            yield records.EVAL, self.num_train, first_test
        if self.num_test:
            yield records.TEST, first_test, self.total

    def name(self, number):
        """(split, file name) of a shard."""
        for split, first, count in (
            (records.TRAIN, 0, self.num_train),
            (records.EVAL, self.num_train, self.num_eval),
            (records.TEST, self.num_train + self.num_eval, self.num_test),
        ):
            if number - first < count:
                return split, records.shard_name(split, number - first, count)
        raise IndexError(number)


def count_shards(config, all_parts):
    """How many shards a set of the text of the parts has.

    Raises:
      UserError: if those asked for would be too large for a worker.
    """
    num_bytes = int(sum(part.num_bytes * part.weight for part in all_parts))
    num_train = config.num_shards
    if num_train:
        _refuse_large_shards(config, num_bytes * config.dupe_factor)
    else:
        num_bytes *= config.dupe_factor
        num_train = max(
            1, num_bytes // _SHARD_BYTES, min(16, num_bytes // 2**16)
        )
        num_train += -num_train % config.dupe_factor
    held_out = [
        max(1, round(num_train / config.dupe_factor * fraction))
        if fraction
        else 0
        for fraction in (config.eval_fraction, config.test_fraction)
    ]
    return ShardPlan(num_train, *held_out, config.dupe_factor)


def _refuse_large_shards(config, num_bytes):
    # A byte of text takes one in memory here, and four in a unit.
    limit = _UNITS_PER_SHARD * config.unit_bytes
    if num_bytes > limit * config.num_shards:
        num_shards = -(-num_bytes // limit)
        num_shards += -num_shards % config.dupe_factor
        raise errors.UserError(
            f"num_shards={config.num_shards} puts "
            f"{num_bytes / config.num_shards / 2**20:,.0f} MB of text into "
            "each shard, and a worker holds a shard: give at least "
            f"num_shards={num_shards}, or, where there is memory, a larger "
            f"unit_mb than {config.unit_mb:g}."
        )
