"""The order of examples depends only on the seed, from any start."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.data.ops import multi_device_iterator_ops

from bert_pretrain import errors
from bert_pretrain.data import input_pipeline, manifests, records
from helpers import strategies


def expected_order(shard_sizes, seed, num_examples):
    """(shard, number in it) of the global examples 0, 1, …, by definition."""
    num_streams = 1
    while num_streams * 2 <= min(len(shard_sizes), 64):
        num_streams *= 2
    found = [None] * num_examples
    for epoch in range(num_examples // sum(shard_sizes) + 1):
        order = np.random.default_rng((seed, epoch)).permutation(
            len(shard_sizes)
        )
        left = iter([(int(s), i) for s in order for i in range(shard_sizes[s])])
        start = epoch * sum(shard_sizes)
        for stream in range(num_streams):
            for t in range(start, start + sum(shard_sizes)):
                if t % num_streams == stream:
                    example = next(left)
                    if t < num_examples:
                        found[t] = example
    return found


def planned_order(shard_sizes, seed, examples, index=0, num_pipelines=1):
    """The same for one pipeline, from `plan`."""
    segments = input_pipeline.plan(
        shard_sizes, seed, examples, index, num_pipelines
    )
    streams = [
        [
            (int(shard), i)
            for shard, skip, take in zip(
                segment.shards, segment.skips, segment.takes, strict=True
            )
            for i in range(skip, skip + take)
        ]
        for segment in segments
    ]
    num_own = len(examples) // num_pipelines
    assert sum(map(len, streams)) == num_own
    return [
        streams[u % len(streams)][u // len(streams)] for u in range(num_own)
    ]


SIZES = [
    (5,),
    (3, 4),
    (7, 1, 4),
    (2, 9, 4, 4, 6),
    (3, 0, 5, 2, 8, 1, 4, 6, 2),
    tuple(range(1, 80)),
]


@pytest.mark.parametrize("sizes", SIZES)
def test_the_plan_from_any_start_equals_the_undisturbed_order(sizes):
    total = 3 * sum(sizes)
    order = expected_order(sizes, 11, total)
    for start in [
        0,
        1,
        2,
        3,
        5,
        8,
        sum(sizes) - 1,
        sum(sizes),
        2 * sum(sizes) + 1,
    ]:
        assert planned_order(sizes, 11, range(start, total)) == order[start:]


@pytest.mark.parametrize("sizes", SIZES[3:])
@pytest.mark.parametrize("num_pipelines", [1, 2, 4])
@pytest.mark.parametrize("start", [0, 4, 6, 33])
def test_the_number_of_hosts_does_not_change_the_order(
    sizes, num_pipelines, start
):
    examples = range(start, start + 8 * sum(sizes) // 4 * 4)
    order = expected_order(sizes, 2, examples.stop)
    union = {}
    for index in range(num_pipelines):
        own = [t for t in examples if t % num_pipelines == index]
        union |= zip(
            own,
            planned_order(sizes, 2, examples, index, num_pipelines),
            strict=True,
        )
    assert [union[t] for t in examples] == order[start:]


@pytest.mark.parametrize("sizes", [*SIZES, (6,) * 3, (6,) * 8, (50,) * 100])
def test_each_epoch_holds_every_example_once(sizes):
    everything = [(s, i) for s, size in enumerate(sizes) for i in range(size)]
    for epoch in range(3):
        start = epoch * len(everything)
        order = planned_order(sizes, 5, range(start, start + len(everything)))
        assert sorted(order) == everything


def test_each_seed_and_each_epoch_has_its_own_order():
    sizes = (5,) * 16
    first = planned_order(sizes, 0, range(80))
    assert first != planned_order(sizes, 1, range(80))
    assert first != planned_order(sizes, 0, range(80, 160))


def test_resuming_after_many_epochs_reads_one_shard_in_each_stream():
    sizes = (50,) * 8
    start = 1000 * sum(sizes) + 77
    segments = input_pipeline.plan(sizes, 0, range(start, start + 8), 0, 1)
    assert [len(segment.shards) for segment in segments] == [1] * 8
    assert all(segment.skips[0] < 50 for segment in segments)


def test_a_stream_skips_few_examples_of_its_shards():
    # An example that a stream skips within a shard must still be read.
    sizes = (50, 49) * 100
    segments = input_pipeline.plan(sizes, 0, range(sum(sizes)), 0, 1)
    num_passed_over = sum(segment.skips.sum() for segment in segments)
    assert len(segments) == 64
    assert num_passed_over < 64 * 50


@pytest.mark.parametrize(
    "num_shards, num_pipelines", [(1, 2), (3, 4), (8, 3), (100, 128)]
)
def test_too_few_shards_for_the_hosts_are_refused(num_shards, num_pipelines):
    with pytest.raises(errors.UserError, match=f"{num_shards} training"):
        input_pipeline.check_shards(num_shards, num_pipelines)


# ------------------------------------------------------------ the real files


def rows_of(data_dir, shard):
    """Each example of a shard file, as bytes that identify it."""
    manifest = manifests.read(data_dir)
    serialized = list(tf.data.TFRecordDataset(f"{data_dir}/{shard.file}"))
    batch = records.parse(
        serialized, manifest.seq_length, manifest.max_predictions_per_seq
    )
    return list(map(_key, tf.unstack(batch["input_ids"])))


def _key(input_ids_S):
    return np.asarray(input_ids_S).tobytes()


@pytest.mark.parametrize("num_hosts", [1, 2])
@pytest.mark.parametrize("start", [0, 36])
def test_batches_hold_the_planned_examples(make_dataset, num_hosts, start):
    data_dir = make_dataset(train=(13, 7, 9, 11, 5))
    manifest = manifests.read(data_dir)
    shards = manifest.splits["train"].shards
    rows = [rows_of(data_dir, shard) for shard in shards]
    examples = range(start, start + 4 * 20)
    served = {}
    hosts = input_pipeline.train_batches(
        strategies.Hosts(num_hosts), data_dir, manifest, 4, 3, examples
    )
    for index, batches in enumerate(hosts):
        flat = []
        for batch in batches:
            assert batch["input_ids"].shape == [4 // num_hosts, 16]
            flat += map(_key, tf.unstack(batch["input_ids"]))
        served |= zip(
            (t for t in examples if t % num_hosts == index), flat, strict=True
        )
    order = expected_order([s.num_examples for s in shards], 3, examples.stop)
    assert [served[t] for t in examples] == [
        rows[shard][i] for shard, i in order[start:]
    ]


@pytest.mark.parametrize(
    "num_hosts, global_batch_size", [(1, 4), (1, 11), (1, 64), (2, 4), (4, 8)]
)
def test_evaluation_sees_every_example_once(
    make_dataset, num_hosts, global_batch_size
):
    data_dir = make_dataset(held_out=11)
    manifest = manifests.read(data_dir)
    hosts, num_batches = input_pipeline.eval_batches(
        strategies.Hosts(num_hosts),
        data_dir,
        manifest,
        "eval",
        global_batch_size,
    )
    seen, num_predictions = [], 0
    for batches in hosts:
        batches = list(batches)
        assert len(batches) == num_batches
        for batch in batches:
            assert len(batch["input_ids"]) == global_batch_size // num_hosts
            num_predictions += float(tf.reduce_sum(batch["masked_lm_weights"]))
            seen += [
                _key(ids)
                for ids, mask in zip(
                    batch["input_ids"], batch["attention_mask"], strict=True
                )
                if mask[0]
            ]
    (shard,) = manifest.splits["eval"].shards
    assert sorted(seen) == sorted(rows_of(data_dir, shard))
    assert num_predictions == manifest.splits["eval"].num_predictions


def test_a_corrupt_shard_is_named(make_dataset):
    data_dir = make_dataset(train=(30,))
    manifest = manifests.read(data_dir)
    (shard,) = manifest.splits["train"].shards
    path = f"{data_dir}/{shard.file}"
    with open(path, "r+b") as file:
        file.seek(shard.num_bytes // 2)
        file.write(b"\xff\x00\xff\x00")
    (batches,) = input_pipeline.train_batches(
        strategies.Hosts(1), data_dir, manifest, 5, 0, range(30)
    )
    with pytest.raises(errors.UserError, match=shard.file):
        with input_pipeline.naming_failures(data_dir, manifest):
            list(batches)


def test_no_iterator_waits_for_autotuning_at_its_end(make_dataset, monkeypatch):
    # The end of an iterator waits for tf.data's thread for autotuning, which
    # sleeps for up to a minute.
    data_dir = make_dataset(train=(16,))
    manifest = manifests.read(data_dir)
    (train,) = input_pipeline.train_batches(
        strategies.Hosts(1), data_dir, manifest, 4, 0, range(16)
    )
    (evaluation,), _ = input_pipeline.eval_batches(
        strategies.Hosts(1), data_dir, manifest, records.EVAL, 4
    )
    # TensorFlow makes a dataset for each of several devices.
    of_devices, make = [], multi_device_iterator_ops._create_device_dataset
    monkeypatch.setattr(
        multi_device_iterator_ops,
        "_create_device_dataset",
        lambda *args: of_devices.append(make(*args)) or of_devices[-1],
    )
    iter(
        strategies.strategy_of(2).distribute_datasets_from_function(
            lambda _: train
        )
    )
    assert len(of_devices) == 2
    for dataset in (train, evaluation, *of_devices):
        assert dataset.options().autotune.enabled is False
