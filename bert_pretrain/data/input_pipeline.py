"""From shards to batches, in an order that follows from the seed alone.

In each epoch the shards, permuted by (seed, epoch), are one sequence of
examples, which is cut into V ranges, where V does not depend on the hardware:
a stream each. The global example t is the next one of stream t mod V. So every
epoch holds each example once, what has been consumed at any count of examples
follows by arithmetic, and a run goes on from there, on another number of hosts
too.

Input pipeline i of n (one a host) serves the examples t with t mod n = i. The
rows were shuffled when they were written, so there is no shuffle buffer.
"""

import contextlib
import dataclasses
import os

import numpy as np
import tensorflow as tf
from tensorflow.python.data.ops import multi_device_iterator_ops

from bert_pretrain import errors
from bert_pretrain.data import dynamic_masking, manifests, records

# Files that are open at once, of which every batch holds examples.
_MAX_STREAMS = 64
_HOST_BATCH_SIZE = 256
# Threads that read streams, enough for object stores; that parse and mask.
_NUM_READERS = 16
_NUM_PARSERS = max(2, os.cpu_count() or 1)
_NUM_BATCHES_READY = 8

# What hands batches to several devices has a dataset of its own for each,
# which takes no options: after 45 seconds of life, four took 37 seconds to
# end. See `records.without_autotuning`.
_for_a_device = multi_device_iterator_ops._create_device_dataset
multi_device_iterator_ops._create_device_dataset = lambda *args: (
    records.without_autotuning(_for_a_device(*args))
)


@dataclasses.dataclass(frozen=True)
class Segment:
    """What one stream reads, in order: ranges of shards, all int64 arrays."""

    shards: np.ndarray  # their indexes
    skips: np.ndarray  # examples to pass over at the start
    takes: np.ndarray  # examples to read then


def train_batches(  # noqa: PLR0913 (as many as what is read depends on)
    strategy,
    data_dir,
    manifest,
    global_batch_size,
    seed,
    examples,
    masking=None,
):
    """Batches of the training split, distributed over `strategy`.

    Args:
      examples: the range of global examples to serve, which begins where the
        run has come to; its length is a multiple of the batch.
      masking: a `dynamic_masking.Masking` of rows that are not masked yet.
    """
    shards = manifest.splits[records.TRAIN].shards

    def build(context):
        serialized = _train_records(data_dir, shards, seed, examples, context)
        dataset = _batch(serialized, manifest, context, global_batch_size)
        if masking is not None:
            dataset = _mask(dataset, masking, seed, examples, context)
        return records.without_autotuning(dataset.prefetch(_NUM_BATCHES_READY))

    return strategy.distribute_datasets_from_function(build)


def eval_batches(strategy, data_dir, manifest, split, global_batch_size):
    """Batches that hold each example of a held-out split exactly once.

    The last ones are filled up with rows whose weights are all zero, so that
    every replica gets as many batches as every other.

    Returns:
      The distributed batches, and the number of global batches.
    """
    shards = manifest.splits[split].shards
    num_examples = sum(shard.num_examples for shard in shards)
    num_batches = -(-num_examples // global_batch_size)

    def build(context):
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


def host_batches(data_dir, manifest, split):
    """Batches of a split for this process itself, in no distribution."""
    batches, _ = eval_batches(
        tf.distribute.get_strategy(),
        data_dir,
        manifest,
        split,
        global_batch_size=_HOST_BATCH_SIZE,
    )
    return batches


@contextlib.contextmanager
def naming_failures(data_dir, manifest):
    """Turns an error of a run that reads the set into what can be mended.

    Raises:
      UserError: naming the shard that is corrupt, or what is exhausted.
    """
    try:
        yield
    except tf.errors.DataLossError as error:
        path = manifests.find_corrupt_shard(data_dir, manifest)
        if path is None:
            raise
        raise errors.UserError(
            f"{path}: corrupt, its bytes are not those that the manifest "
            "names; copy it again, or remove the set and build it again, then "
            "run the same command to go on."
        ) from error
    except tf.errors.ResourceExhaustedError as error:
        message = error.message.splitlines()[0]
        if "space" in message.lower():
            raise errors.UserError(
                f"the disk is full ({message}); free some space, then run "
                "the same command to go on."
            ) from error
        raise errors.UserError(
            f"the device's memory is exhausted ({message}); give a smaller "
            "--global_batch_size."
        ) from error


def check_shards(num_shards, num_pipelines):
    """Checks that the shards can feed the input pipelines.

    Raises:
      UserError: if some pipelines would have none, or not their equal part.
    """
    num_streams = _num_streams(num_shards)
    if num_streams % num_pipelines:
        raise errors.UserError(
            f"{num_shards} training shards for {num_pipelines} input "
            "pipelines (hosts): each needs its own, and their number must be "
            f"a power of two up to {_MAX_STREAMS}; build the set with a "
            f"larger --num_shards (a multiple of {num_pipelines})."
        )


def _train_records(data_dir, shards, seed, examples, context):
    """One pipeline's part of a range of global examples, serialized."""
    num_pipelines = context.num_input_pipelines
    check_shards(len(shards), num_pipelines)
    segments = plan(
        [shard.num_examples for shard in shards],
        seed,
        examples,
        context.input_pipeline_id,
        num_pipelines,
    )
    paths = tf.constant([f"{data_dir}/{shard.file}" for shard in shards])
    # All streams in one row of tensors, since a dataset's function can only
    # be given its stream's number.
    bounds = tf.constant(
        np.cumsum([0] + [len(segment.shards) for segment in segments])
    )
    indexes, skips, takes = (
        tf.constant(np.concatenate([getattr(s, name) for s in segments]))
        for name in ("shards", "skips", "takes")
    )

    def stream(number):
        mine = slice(bounds[number], bounds[number + 1])
        ranges = tf.data.Dataset.from_tensor_slices(
            (indexes[mine], skips[mine], takes[mine])
        )
        return ranges.flat_map(
            lambda index, skip, take: (
                tf.data.TFRecordDataset(tf.gather(paths, index))
                .skip(skip)
                .take(take)
            )
        )

    num_streams = len(segments)
    return (
        tf.data.Dataset.range(num_streams)
        .interleave(
            stream,
            cycle_length=num_streams,
            block_length=1,
            num_parallel_calls=min(num_streams, _NUM_READERS),
            deterministic=True,
        )
        .take(len(examples) // num_pipelines)
    )


def plan(shard_sizes, seed, examples, pipeline_index, num_pipelines):
    """What one pipeline reads to serve its part of a range of examples.

    Args:
      shard_sizes: the number of examples in each shard.
      examples: the range of global examples, over all pipelines.

    Returns:
      A `Segment` for each of the pipeline's streams, in the order of their
      turns; taking an example from each in turn gives the pipeline's part.
    """
    num_streams = _num_streams(len(shard_sizes))
    shard_sizes = np.asarray(shard_sizes, np.int64)
    start = examples.start
    # The pipeline's first examples of the range are one of each stream.
    first_turns = range(
        start + (pipeline_index - start) % num_pipelines,
        start + num_streams,
        num_pipelines,
    )
    epoch_size = int(shard_sizes.sum())
    ranges = [
        _of_epoch(shard_sizes, seed, epoch, examples, num_streams)
        for epoch in range(start // epoch_size, -(-examples.stop // epoch_size))
    ]
    return [
        Segment(
            *np.concatenate(
                [of_epoch[turn % num_streams] for of_epoch in ranges], axis=1
            )
        )
        for turn in first_turns
    ]


def _num_streams(num_shards):
    """The largest power of two that neither the shards nor the limit bar."""
    return min(_MAX_STREAMS, 1 << (max(num_shards, 1).bit_length() - 1))


def _of_epoch(shard_sizes, seed, epoch, examples, num_streams):
    """What each stream reads of an epoch: int64 [3, ranges] a stream.

    The rows are those of a `Segment`.
    """
    order = np.random.default_rng((seed, epoch)).permutation(len(shard_sizes))
    bounds = np.cumsum([0, *shard_sizes[order]])
    epoch_start = epoch * bounds[-1]
    epoch_end = epoch_start + bounds[-1]
    # How many examples each stream has had at the epoch's start and end, and
    # where its part of `examples` begins and ends.
    before, first, last, after = (
        -(-(t - np.arange(num_streams)) // num_streams)
        for t in (
            epoch_start,
            max(epoch_start, examples.start),
            min(epoch_end, examples.stop),
            epoch_end,
        )
    )
    # The epoch's sequence is cut into one range after the other.
    shifts = np.cumsum(after - before) - after
    return [
        _cut(order, bounds, *part)
        for part in np.stack([first + shifts, last + shifts], axis=1)
    ]


def _cut(order, bounds, start, stop):
    """[shards, skips, takes] of the examples [start, stop) of an epoch."""
    begins, ends = bounds[:-1], bounds[1:]
    mine = np.flatnonzero((begins < stop) & (ends > start) & (start < stop))
    begins, ends = begins[mine], ends[mine]
    starts = np.maximum(begins, start)
    return np.stack(
        [order[mine], starts - begins, np.minimum(ends, stop) - starts]
    )


def _batch(serialized, manifest, context, global_batch_size):
    """Parsed batches of fixed shape, for one replica at a time."""
    dataset = serialized.batch(
        context.get_per_replica_batch_size(global_batch_size),
        drop_remainder=True,
    )
    dataset = dataset.map(
        lambda serialized_B: records.parse(
            serialized_B,
            manifest.seq_length,
            manifest.max_predictions_per_seq,
            manifest.is_packed,
        ),
        num_parallel_calls=_NUM_PARSERS,
        deterministic=True,
    )
    return dataset


def _mask(dataset, masking, seed, examples, context):
    """Masks each of a pipeline's examples by its number in the run."""
    stride = context.num_input_pipelines
    first = (
        examples.start + (context.input_pipeline_id - examples.start) % stride
    )

    def mask(index, batch):
        num_rows = batch["input_ids"].shape[0]
        rows_B = index * num_rows + tf.range(num_rows, dtype=tf.int64)
        return dynamic_masking.mask(
            batch, first + stride * rows_B, seed, masking
        )

    return dataset.enumerate().map(
        mask, num_parallel_calls=_NUM_PARSERS, deterministic=True
    )


def _empty_record(manifest):
    """A row of padding: no token, no prediction, no weight."""
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
