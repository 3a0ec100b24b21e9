"""The stage that shuffles, masks and serializes the rows of each shard."""

import collections
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from bert_pretrain import file_errors, files
from bert_pretrain.data import records, vocabulary
from tfrecord_builders.engines import work_units
from tfrecord_builders.rows import masking, rows
from tfrecord_builders.stages import build_config, sampling, shard_plan

# Rows that are masked and serialized at once: a few MB, for any shard size.
_ROWS_AT_ONCE = 4096


def stage(
    work: build_config.Work, num_row_units: int, plan: shard_plan.ShardPlan
) -> work_units.Stage[int]:
    """The stage; a unit is one shard, by its number in the plan.

    The summary of a unit has the `shard` as the manifest describes it, its
    `split`, and `counts` of its tokens and masks.

    Args:
      num_row_units: number of units of the stage "rows".
    """
    sources = [f"{work.dir}/rows/{i:05d}.rows" for i in range(num_row_units)]
    return work_units.Stage(
        name="shards",
        item="examples",
        units=list(range(plan.total)),
        run=functools.partial(_write_shard, work, sources, plan),
        describe=functools.partial(_describe_shard, plan),
        num_bytes=sum(files.size(path) for path in sources),
    )


def _describe_shard(plan: shard_plan.ShardPlan, unit: int) -> str:
    _, name = plan.name(unit)
    return name


def _write_shard(
    work: build_config.Work,
    sources: Sequence[str],
    plan: shard_plan.ShardPlan,
    unit: int,
    prefix: str,
    progress: work_units.UnitProgress,
) -> work_units.Summary:
    """Shuffles, masks and serializes the rows of one shard."""
    del prefix  # A shard is written to the dataset, not to the work folder.
    split, name = plan.name(unit)
    rng = np.random.default_rng(
        [work.config.seed, sampling.SHARDS_STREAM, unit]
    )
    shuffled = rows.concatenate([_read_rows(path, unit) for path in sources])
    order = rng.permutation(len(shuffled))
    bytes_per_row = shuffled.num_bytes // max(1, len(order))
    vocab = _vocabulary(work.config.vocab_file)
    counts: collections.Counter[str] = collections.Counter()

    def batches() -> Iterator[Mapping[str, np.ndarray]]:
        for start in range(0, len(order), _ROWS_AT_ONCE):
            batch = shuffled.take(order[start : start + _ROWS_AT_ONCE])
            yield _masked(batch, work.config, split, vocab, rng, counts)
            progress.add(bytes_per_row * len(batch), len(batch))

    shard = records.write_shard(f"{work.output_dir}/{name}", batches())
    return {
        "split": split,
        "shard": dataclasses.asdict(shard),
        "counts": counts,
    }


@functools.lru_cache(maxsize=1)
def _vocabulary(path: str) -> vocabulary.Vocabulary:
    return vocabulary.read(path)


def _read_rows(path: str, shard: int) -> rows.Rows:
    """Reads the rows that one unit of the stage "rows" made for a shard."""
    with file_errors.naming(path), tf.io.gfile.GFile(path, "rb") as file:
        file.seek(8 * shard)
        start, end = np.frombuffer(file.read(16), "<i8").tolist()
        file.seek(start)
        return rows.Rows.from_bytes(file.read(end - start))


def _masked(
    batch: rows.Rows,
    config: build_config.DatasetConfig,
    split: str,
    vocab: vocabulary.Vocabulary,
    rng: np.random.Generator,
    counts: collections.Counter[str],
) -> dict[str, np.ndarray]:
    """The features of rows, masked; adds to the counts of the shard."""
    masking_config = config.masking
    if split != records.TRAIN:
        masking_config = masking_config.held_out
    features = batch.features(
        config.rows.seq_length, vocab, config.rows.packing
    )
    counts["max_id"] = max(counts["max_id"], int(features["input_ids"].max()))
    features |= masking.mask(
        features["input_ids"],
        features["attention_mask"],
        vocab,
        masking_config,
        rng,
        features.pop("is_continuation", None),
    )
    counts.update(
        num_tokens=int(features["attention_mask"].sum()),
        num_predictions=int(features["masked_lm_weights"].sum()),
        num_random_next=int(features["next_sentence_labels"].sum()),
    )
    return features
