"""Reads batches from shards, in an order that depends only on the seed.

In each epoch the shards are permuted by (seed, epoch). The examples in these
shards form one sequence, which is cut into V ranges, one for each stream. V
does not depend on the hardware. The global example t is the next example of
stream t mod V. So each epoch holds each example once, and the number of
examples read so far gives the position in each stream by arithmetic. A run
can therefore resume at any example, on another number of hosts too.

Each host has one input pipeline. Pipeline i of n serves the examples t with
t mod n = i. The builder has shuffled the rows, so there is no shuffle buffer.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.python.data.ops import multi_device_iterator_ops

from bert_pretrain import errors, storage_errors
from bert_pretrain.data import dynamic_masking, manifests, records

# Each stream keeps a file open, and every batch holds examples of all streams.
_MAX_STREAMS = 64
_HOST_BATCH_SIZE = 256
# Threads that read streams; so many are enough for object stores.
_NUM_READERS = 16
# Threads that parse and mask.
_NUM_PARSERS = max(2, os.cpu_count() or 1)
_NUM_BATCHES_READY = 8

# For several devices TensorFlow makes one more dataset for each device, and
# has no argument for their options. The iterators of four such datasets took
# 37 seconds to end after 45 seconds of use. See `records.without_autotuning`.
_create_device_dataset = multi_device_iterator_ops._create_device_dataset
multi_device_iterator_ops._create_device_dataset = lambda *args: (
    records.without_autotuning(_create_device_dataset(*args))
)


@dataclasses.dataclass(frozen=True)
class StreamPlan:
    """Ranges of shards that one stream reads, in order: int64 arrays [N]."""

    shards: np.ndarray  # the indexes of the shards
    skips: np.ndarray  # number of examples to skip at the start of the shard
    takes: np.ndarray  # number of examples to read after these


def train_batches(  # noqa: PLR0913 (the batches depend on all of these)
    strategy: tf.distribute.Strategy,
    data_dir: str,
    manifest: manifests.Manifest,
    global_batch_size: int,
    seed: int,
    examples: range,
    masking: dynamic_masking.Masking | None = None,
) -> tf.distribute.DistributedDataset:
    """Makes batches of the training split, distributed over `strategy`.

    Args:
      examples: the global examples to serve; the range starts where the run
        is now, and its length is a multiple of the batch size.
      masking: for datasets without masks: how to mask the rows.
    """
    shards = manifest.splits[records.TRAIN].shards

    # Nothing that is traced here needs AutoGraph, as in trainer.py.
    @tf.autograph.experimental.do_not_convert
    def build(context: tf.distribute.InputContext) -> tf.data.Dataset:
        serialized = _train_records(data_dir, shards, seed, examples, context)
        dataset = _batch(serialized, manifest, context, global_batch_size)
        if masking is not None:
            dataset = _mask(dataset, masking, seed, examples, context)
        return records.without_autotuning(dataset.prefetch(_NUM_BATCHES_READY))

    return strategy.distribute_datasets_from_function(build)


def eval_batches(
    strategy: tf.distribute.Strategy,
    data_dir: str,
    manifest: manifests.Manifest,
    split: str,
    global_batch_size: int,
) -> tuple[tf.distribute.DistributedDataset, int]:
    """Makes batches that hold each example of a split exactly once.

    Rows of padding, whose weights are all zero, fill the last batches. So
    every replica gets the same number of batches.

    Returns:
      The distributed batches, and the number of global batches.
    """
    shards = manifest.splits[split].shards
    num_examples = sum(shard.num_examples for shard in shards)
    num_batches = -(-num_examples // global_batch_size)

    @tf.autograph.experimental.do_not_convert
    def build(context: tf.distribute.InputContext) -> tf.data.Dataset:
        index, num_pipelines = (
            context.input_pipeline_id,
            context.num_input_pipelines,
        )
        num_own = len(range(index, num_examples, num_pipelines))
        num_rows = num_batches * global_batch_size // num_pipelines
        serialized = tf.data.TFRecordDataset(
            [f"{data_dir}/{shard.file}" for shard in shards]
        )
        serialized = serialized.shard(num_pipelines, index).concatenate(
            tf.data.Dataset.from_tensors(_empty_record(manifest)).repeat(
                num_rows - num_own
            )
        )
        dataset = _batch(serialized, manifest, context, global_batch_size)
        return records.without_autotuning(dataset.prefetch(_NUM_BATCHES_READY))

    return strategy.distribute_datasets_from_function(build), num_batches


def host_batches(
    data_dir: str, manifest: manifests.Manifest, split: str
) -> Iterator[dict[str, tf.Tensor]]:
    """Yields batches of a split in this process only, not distributed."""
    # A coordinator would otherwise read them through a worker.
    with tf.device("/job:localhost/replica:0/task:0/device:CPU:0"):
        batches, _ = eval_batches(
            tf.distribute.get_strategy(),
            data_dir,
            manifest,
            split,
            global_batch_size=_HOST_BATCH_SIZE,
        )
        return iter(batches)


@contextlib.contextmanager
def naming_failures(
    data_dir: str, manifest: manifests.Manifest
) -> Iterator[None]:
    """Translates TensorFlow's errors in a block that reads the dataset.

    Raises:
      UserError: if a shard is corrupt, the disk is full, the memory of the
        device is exhausted, or gs:// does not give a shard.
    """
    try:
        yield
    except tf.errors.DataLossError as error:
        path = manifests.find_corrupt_shard(data_dir, manifest)
        if path is None:
            raise
        raise errors.UserError(
            f"{path}: the file is corrupt: its checksum differs from the "
            "manifest's; copy the file again, or remove the dataset and build "
            "it again, then run the same command to resume."
        ) from error
    except tf.errors.ResourceExhaustedError as error:
        message = error.message.splitlines()[0]
        if "space" in message.lower():
            raise errors.UserError(
                f"the disk is full ({message}); free some space, then run "
                "the same command to resume."
            ) from error
        raise errors.UserError(
            f"the device's memory is exhausted ({message}); give a smaller "
            "--global_batch_size."
        ) from error
    except tf.errors.OpError as error:
        said = storage_errors.explain(error.message, data_dir)
        if said is None:
            raise
        raise errors.UserError(f"{data_dir}: {said}.") from error


def check_shards(num_shards: int, num_pipelines: int) -> None:
    """Checks that each input pipeline gets the same number of streams.

    Raises:
      UserError: if the streams cannot be divided equally.
    """
    num_streams = _num_streams(num_shards)
    if num_streams % num_pipelines:
        raise errors.UserError(
            f"{num_shards} training shards for {num_pipelines} input "
            "pipelines (one a host): each pipeline needs a shard of its own, "
            "and the number of pipelines must be a power of two up to "
            f"{_MAX_STREAMS}; build the dataset with a larger --num_shards (a "
            f"multiple of {num_pipelines})."
        )


def _train_records(
    data_dir: str,
    shards: Sequence[manifests.Shard],
    seed: int,
    examples: range,
    context: tf.distribute.InputContext,
) -> tf.data.Dataset:
    """One pipeline's share of a range of global examples, serialized."""
    num_pipelines = context.num_input_pipelines
    check_shards(len(shards), num_pipelines)
    plans = plan(
        [shard.num_examples for shard in shards],
        seed,
        examples,
        context.input_pipeline_id,
        num_pipelines,
    )
    paths = tf.constant([f"{data_dir}/{shard.file}" for shard in shards])
    # `interleave` passes only the number of the stream to its function. So
    # the plans of all streams lie in the same tensors, one after another.
    bounds = tf.constant(
        np.cumsum([0] + [len(stream_plan.shards) for stream_plan in plans])
    )
    indexes, skips, takes = (
        tf.constant(np.concatenate([getattr(p, name) for p in plans]))
        for name in ("shards", "skips", "takes")
    )

    def read_stream(number: tf.Tensor) -> tf.data.Dataset:
        own = slice(bounds[number], bounds[number + 1])
        ranges = tf.data.Dataset.from_tensor_slices(
            (indexes[own], skips[own], takes[own])
        )
        return ranges.flat_map(
            lambda index, skip, take: (
                tf.data.TFRecordDataset(tf.gather(paths, index))
                .skip(skip)
                .take(take)
            )
        )

    num_streams = len(plans)
    return (
        tf.data.Dataset.range(num_streams)
        .interleave(
            read_stream,
            cycle_length=num_streams,
            block_length=1,
            num_parallel_calls=min(num_streams, _NUM_READERS),
            deterministic=True,
        )
        .take(len(examples) // num_pipelines)
    )


def plan(
    shard_sizes: Sequence[int],
    seed: int,
    examples: range,
    pipeline_index: int,
    num_pipelines: int,
) -> list[StreamPlan]:
    """Plans the reads of one pipeline for its share of a range of examples.

    Args:
      shard_sizes: the number of examples in each shard.
      examples: the range of global examples, over all pipelines.

    Returns:
      One `StreamPlan` for each stream of the pipeline. The pipeline takes one
      example from each stream in turn, in this order.
    """
    num_streams = _num_streams(len(shard_sizes))
    sizes = np.asarray(shard_sizes, np.int64)
    start = examples.start
    # The first examples of the pipeline in the range, one of each stream.
    first_examples = range(
        start + (pipeline_index - start) % num_pipelines,
        start + num_streams,
        num_pipelines,
    )
    epoch_size = int(sizes.sum())
    epochs = [
        _plan_epoch(sizes, seed, epoch, examples, num_streams)
        for epoch in range(start // epoch_size, -(-examples.stop // epoch_size))
    ]
    return [
        StreamPlan(
            *np.concatenate(
                [streams[example % num_streams] for streams in epochs], axis=1
            )
        )
        for example in first_examples
    ]


def _num_streams(num_shards: int) -> int:
    """The largest power of two up to the number of shards and the limit."""
    return min(_MAX_STREAMS, 1 << (max(num_shards, 1).bit_length() - 1))


def _plan_epoch(
    shard_sizes: np.ndarray,
    seed: int,
    epoch: int,
    examples: range,
    num_streams: int,
) -> list[np.ndarray]:
    """Plans the reads of each stream in one epoch.

    Returns:
      For each stream int64 [3, N], whose rows are a `StreamPlan`'s fields.
    """
    order = np.random.default_rng((seed, epoch)).permutation(len(shard_sizes))
    bounds = np.cumsum([0, *shard_sizes[order]])
    epoch_start = epoch * bounds[-1]
    epoch_end = epoch_start + bounds[-1]
    # For each stream: how many examples it has served before the epoch,
    # before its share of `examples`, after that share, and after the epoch.
    before, first, last, after = (
        -(-(t - np.arange(num_streams)) // num_streams)
        for t in (
            epoch_start,
            max(epoch_start, examples.start),
            min(epoch_end, examples.stop),
            epoch_end,
        )
    )
    # The ranges of the streams follow one another in the epoch's sequence.
    shifts = np.cumsum(after - before) - after
    return [
        _cut(order, bounds, start, stop)
        for start, stop in zip(first + shifts, last + shifts, strict=True)
    ]


def _cut(
    order: np.ndarray, bounds: np.ndarray, start: int, stop: int
) -> np.ndarray:
    """[shards, skips, takes] of the examples [start, stop) of an epoch."""
    begins, ends = bounds[:-1], bounds[1:]
    touched = np.flatnonzero((begins < stop) & (ends > start) & (start < stop))
    begins, ends = begins[touched], ends[touched]
    starts = np.maximum(begins, start)
    return np.stack(
        [order[touched], starts - begins, np.minimum(ends, stop) - starts]
    )


def _batch(
    serialized: tf.data.Dataset,
    manifest: manifests.Manifest,
    context: tf.distribute.InputContext,
    global_batch_size: int,
) -> tf.data.Dataset:
    """Parsed batches of fixed shape, each for one replica."""
    dataset = serialized.batch(
        context.get_per_replica_batch_size(global_batch_size),
        drop_remainder=True,
    )
    return dataset.map(
        lambda serialized_B: records.parse(
            serialized_B,
            manifest.seq_length,
            manifest.max_predictions_per_seq,
            manifest.is_packed,
        ),
        num_parallel_calls=_NUM_PARSERS,
        deterministic=True,
    )


def _mask(
    dataset: tf.data.Dataset,
    masking: dynamic_masking.Masking,
    seed: int,
    examples: range,
    context: tf.distribute.InputContext,
) -> tf.data.Dataset:
    """Masks each example of a pipeline by its number in the run."""
    stride = context.num_input_pipelines
    first = (
        examples.start + (context.input_pipeline_id - examples.start) % stride
    )

    def mask(
        index: tf.Tensor, batch: dict[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        num_rows = batch["input_ids"].shape[0]
        rows_B = index * num_rows + tf.range(num_rows, dtype=tf.int64)
        return dynamic_masking.mask(
            batch, first + stride * rows_B, seed, masking
        )

    return dataset.enumerate().map(
        mask, num_parallel_calls=_NUM_PARSERS, deterministic=True
    )


def _empty_record(manifest: manifests.Manifest) -> bytes:
    """A row of padding, with no token, prediction or weight."""
    widths = {
        "S": manifest.seq_length,
        "1": 1,
        "P": manifest.max_predictions_per_seq,
    }
    (record,) = records.serialize(
        {
            name: np.zeros([1, widths[feature.width]], feature.dtype)
            for name, feature in records.features_of(manifest.is_packed).items()
        }
    )
    return record
