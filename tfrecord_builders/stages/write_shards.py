"""The stage that shuffles, masks and serializes the rows of each shard."""

import collections
import dataclasses
import functools

import numpy as np
import tensorflow as tf

from bert_pretrain import errors, files
from bert_pretrain.data import records, vocabulary
from tfrecord_builders.engines import engine
from tfrecord_builders.rows import masking, rows
from tfrecord_builders.stages import build_config

# Rows that are masked and serialized at once: a few MB, whatever the shard.
_ROWS_AT_ONCE = 4096


def stage(work, num_row_units, shards):
    sources = [f"{work.dir}/rows/{i:05d}.rows" for i in range(num_row_units)]
    return engine.Stage(
        name="shards",
        item="examples",
        units=list(range(shards.total)),
        run=functools.partial(_write_shard, work, sources, shards),
        describe=functools.partial(_describe_shard, shards),
        num_bytes=sum(files.size(path) for path in sources),
    )


def _describe_shard(shards, unit):
    _, name = shards.name(unit)
    return name


def _write_shard(work, sources, shards, unit, prefix, progress):
    """Shuffles, masks and serializes the rows of one shard."""
    del prefix  # A shard lies beside the manifest, not among the work files.
    config = work.config
    vocab = vocabulary.read(config.vocab_file)
    split, name = shards.name(unit)
    mask_as = config.masking
    if split != records.TRAIN:
        mask_as = mask_as.held_out
    rng = np.random.default_rng([config.seed, build_config.SHARDS_STREAM, unit])
    shuffled = rows.concatenate([_read_rows(path, unit) for path in sources])
    order = rng.permutation(len(shuffled))
    bytes_per_row = shuffled.num_bytes // max(1, len(order))
    counts = collections.Counter()

    def masked():
        for start in range(0, len(order), _ROWS_AT_ONCE):
            mine = shuffled.take(order[start : start + _ROWS_AT_ONCE])
            features = mine.features(
                config.rows.seq_length, vocab, config.rows.packing
            )
            counts["max_id"] = max(
                counts["max_id"], int(features["input_ids"].max())
            )
            features |= masking.mask(
                features["input_ids"],
                features["attention_mask"],
                vocab,
                mask_as,
                rng,
                features.pop("is_continuation", None),
            )
            counts.update(
                num_tokens=int(features["attention_mask"].sum()),
                num_predictions=int(features["masked_lm_weights"].sum()),
                num_random_next=int(features["next_sentence_labels"].sum()),
            )
            yield features
            progress.add(bytes_per_row * len(mine), len(mine))

    shard = records.write_shard(f"{work.output_dir}/{name}", masked())
    return {
        "split": split,
        "shard": dataclasses.asdict(shard),
        "counts": counts,
    }


def _read_rows(path, shard):
    with errors.naming(path), tf.io.gfile.GFile(path, "rb") as file:
        file.seek(8 * shard)
        start, end = np.frombuffer(file.read(16), "<i8").tolist()
        file.seek(start)
        return rows.Rows.from_bytes(file.read(end - start))
