"""Measures the cost of a resume in the input pipeline.

    python benchmarks/resume_cost.py                       # a random dataset
    python benchmarks/resume_cost.py --data_dir=records

The benchmark resumes after different numbers of epochs, each in a process of
its own. It prints the seconds to the first batch, the growth of the process's
memory in that time, and the number of records that the pipeline skips.
"""

import dataclasses
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf

from bert_pretrain import command_line, options
from bert_pretrain.data import input_pipeline, manifests, records

_EPOCHS = 0, 1, 10, 100, 1000
_STEPS_AHEAD = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(options.Options):
    data_dir: str = options.option("A dataset; default: random rows.", "")
    global_batch_size: int = options.option(
        "Examples in a step.", 256, at_least=1
    )
    epochs: int = options.option(
        "Measure only this number of epochs; -1: several.", -1, at_least=-1
    )


def main(config: BenchmarkConfig) -> None:
    if config.epochs >= 0:
        _measure(config)
        return
    with tempfile.TemporaryDirectory() as folder:
        data_dir = config.data_dir
        if not data_dir:
            data_dir = folder
            _write_random_rows(
                data_dir, num_shards=64, num_rows=1000, width=128
            )
        print("epochs  to the first batch  memory  records skipped")
        for epochs in _EPOCHS:
            subprocess.run(
                [
                    sys.executable,
                    __file__,
                    f"--data_dir={data_dir}",
                    f"--global_batch_size={config.global_batch_size}",
                    f"--epochs={epochs}",
                ],
                check=True,
                stderr=subprocess.DEVNULL,
            )


def _measure(config):
    manifest = manifests.read(config.data_dir)
    split = manifest.splits[records.TRAIN]
    # Half an epoch more, because most resumes are in the middle of an epoch.
    first = int((config.epochs + 0.5) * split.num_examples)
    examples = range(first, first + _STEPS_AHEAD * config.global_batch_size)
    strategy = tf.distribute.get_strategy()
    earlier = _resident_bytes()
    start = time.perf_counter()
    batches = input_pipeline.train_batches(
        strategy,
        config.data_dir,
        manifest,
        config.global_batch_size,
        0,
        examples,
    )
    next(iter(batches))
    seconds = time.perf_counter() - start
    memory = _resident_bytes() - earlier
    plans = input_pipeline.plan(
        [shard.num_examples for shard in split.shards], 0, examples, 0, 1
    )
    skipped = sum(int(stream_plan.skips[0]) for stream_plan in plans)
    print(
        f"{config.epochs:6,}  {seconds:17.2f} s  {memory / 1e6:3.0f} MB  "
        f"{skipped:,} of {split.num_examples:,} in {len(plans)} shards",
        flush=True,
    )


def _resident_bytes():
    # Not the peak: the import of TensorFlow has already set a higher one.
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _write_random_rows(data_dir, num_shards, num_rows, width):
    rng = np.random.default_rng(0)
    num_predictions = 20
    widths = {"S": width, "1": 1, "P": num_predictions}
    shards = []
    for index in range(num_shards):
        rows = {
            name: rng.integers(
                1, 20_000, [num_rows, widths[feature.width]]
            ).astype(feature.dtype)
            for name, feature in records.features_of(False).items()
        }
        name = records.shard_name(records.TRAIN, index, num_shards)
        shards.append(records.write_shard(f"{data_dir}/{name}", [rows]))
    empty = {
        field.name: 0
        for field in dataclasses.fields(manifests.Split)
        if field.name != "shards"
    }
    train = manifests.Split(
        **{**empty, "num_examples": num_shards * num_rows},
        shards=tuple(shards),
    )
    values = {
        "seq_length": width,
        "max_predictions_per_seq": num_predictions,
        "vocab_size": 20_000,
        "vocab_sha256": "",
        "is_lower_case": True,
        "pairing": "none",
        "masking": "token",
        "options": {},
        "sources": (),
        "documents": {},
        "rows": {},
    }
    held_out = manifests.Split(**empty, shards=())
    manifests.write(
        data_dir,
        manifests.Manifest(
            **values,
            splits={
                records.TRAIN: train,
                records.EVAL: held_out,
                records.TEST: held_out,
            },
        ),
    )


if __name__ == "__main__":
    command_line.run(main, BenchmarkConfig)
