"""Compares the speed of the input pipeline with the needs of a TPU host.

    python benchmarks/input_speed.py

The training pipeline reads a dataset of random rows, and nothing consumes its
batches. It does so for S = 128 and 512, plain, packed, and with dynamic
masking. The benchmark counts CPU seconds over all threads, so the examples/s
are those of one core, and other processes do not matter. The variants take
turns; the benchmark prints medians.

It also prints how many examples/s a v5e host with eight chips needs when
BERT-base trains at 50 % MFU (by `accelerators.py`), and how many cores of this
machine can deliver them.
"""

import dataclasses
import statistics
import tempfile
import time

import numpy as np
import tensorflow as tf
import transformers

from bert_pretrain import command_line, options
from bert_pretrain.data import (
    dynamic_masking,
    input_pipeline,
    manifests,
    records,
    vocabulary,
)
from bert_pretrain.telemetry import accelerators

_VARIANTS = "plain", "packed", "masking"
_SEQ_LENGTHS = 128, 512
_HOST = "v5litepod-8"
_CHIPS = 8
_MFU = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(options.Options):
    num_rows: int = options.option("Rows of each dataset.", 16_384, at_least=1)
    num_shards: int = options.option("Files of each dataset.", 16, at_least=1)
    batch_size: int = options.option("Rows in a batch.", 256, at_least=1)
    epochs: int = options.option(
        "Passes over the dataset in a round.", 1, at_least=1
    )
    rounds: int = options.option("Number of rounds.", 3, at_least=1)
    vocab_size: int = options.option(
        "Tokens in the vocabulary.", 30522, at_least=1000
    )


def main(config: BenchmarkConfig) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cases = {}
        for seq_length in _SEQ_LENGTHS:
            for variant in _VARIANTS:
                data_dir = f"{folder}/{seq_length}-{variant}"
                tf.io.gfile.makedirs(data_dir)
                manifest = _write_dataset(config, data_dir, seq_length, variant)
                cases[seq_length, variant] = data_dir, manifest
        seconds: dict[tuple[int, str], list[float]] = {
            case: [] for case in cases
        }
        for _ in range(config.rounds):
            for case, (data_dir, manifest) in cases.items():
                seconds[case].append(
                    _cpu_seconds(config, data_dir, manifest, case[1])
                )
    print(
        f"{'S':>4}  {'variant':8}{'examples/s a core':>18}"
        f"{f'{_HOST} at {_MFU:.0%} MFU':>26}{'cores':>8}"
    )
    for (seq_length, variant), values in seconds.items():
        speed = config.num_rows * config.epochs / statistics.median(values)
        needed = _consumption(config, seq_length)
        print(
            f"{seq_length:4}  {variant:8}{speed:18,.0f}{needed:26,.0f}"
            f"{needed / speed:8.2f}"
        )
    for seq_length in _SEQ_LENGTHS:
        print(_arithmetic(config, seq_length))


def _cpu_seconds(config, data_dir, manifest, variant):
    """The CPU seconds for the batches of all epochs."""
    batches = input_pipeline.train_batches(
        tf.distribute.get_strategy(),
        data_dir,
        manifest,
        config.batch_size,
        seed=0,
        examples=range(config.num_rows * config.epochs),
        masking=_masking(manifest) if variant == "masking" else None,
    )
    started = time.process_time()
    num_batches = sum(1 for _ in batches)
    if num_batches != config.num_rows * config.epochs // config.batch_size:
        raise RuntimeError(f"{num_batches} batches of {data_dir}")
    return time.process_time() - started


def _flops_per_example(config, seq_length):
    bert_config = transformers.BertConfig(vocab_size=config.vocab_size)
    return accelerators.flops_per_example(
        bert_config, seq_length, seq_length * 20 // 128, False
    )


def _consumption(config, seq_length):
    """The examples/s that a host with `_CHIPS` chips needs."""
    peak = _chip_flops() * _CHIPS
    return _MFU * peak / _flops_per_example(config, seq_length)


def _chip_flops():
    chip = accelerators.find_tpu(_HOST)
    assert chip is not None and chip.bfloat16 is not None
    return chip.bfloat16


def _arithmetic(config, seq_length):
    per_example = _flops_per_example(config, seq_length)
    return (
        f"S={seq_length}: {_CHIPS} chips x {_chip_flops() / 1e12:.0f} TFLOP/s "
        f"x {_MFU:.0%} / {per_example / 1e9:.1f} GFLOP an example = "
        f"{_consumption(config, seq_length):,.0f} examples/s"
    )


def _masking(manifest):
    is_special = np.zeros(manifest.vocab_size, bool)
    is_special[: len(vocabulary.SPECIAL_TOKENS)] = True
    return dynamic_masking.Masking(
        masked_fraction=0.15,
        mask_token_fraction=0.8,
        random_token_fraction=0.1,
        max_predictions_per_seq=manifest.max_predictions_per_seq,
        mask_id=vocabulary.SPECIAL_TOKENS.index(vocabulary.MASK),
        is_special=is_special,
    )


def _write_dataset(config, data_dir, seq_length, variant):
    """Writes random rows without padding; records have realistic sizes."""
    rng = np.random.default_rng(0)
    is_packed = variant == "packed"
    num_predictions = seq_length * 20 // 128
    widths = {"S": seq_length, "1": 1, "P": num_predictions}
    num_rows = config.num_rows // config.num_shards
    features = {
        name: np.zeros([num_rows, widths[feature.width]], feature.dtype)
        for name, feature in records.features_of(is_packed).items()
    }
    shape = num_rows, seq_length
    features["attention_mask"][:] = 1
    features["input_ids"][:] = rng.integers(5, config.vocab_size, shape)
    if is_packed:
        # Four documents in each row.
        features["document_ids"][:] = (
            1 + np.arange(seq_length) * 4 // seq_length
        )
    if variant != "masking":
        features["masked_lm_positions"][:] = np.arange(num_predictions)
        features["masked_lm_ids"][:] = features["input_ids"][
            :, :num_predictions
        ]
        features["masked_lm_weights"][:] = 1
    shards = tuple(
        records.write_shard(
            f"{data_dir}/"
            + records.shard_name(records.TRAIN, index, config.num_shards),
            [features],
        )
        for index in range(config.num_shards)
    )
    split = manifests.Split(
        num_documents=config.num_rows,
        num_examples=num_rows * config.num_shards,
        num_tokens=config.num_rows * seq_length,
        num_predictions=config.num_rows * num_predictions,
        num_random_next=0,
        padding_fraction=0.0,
        max_id=config.vocab_size - 1,
        shards=shards,
    )
    return manifests.Manifest(
        seq_length=seq_length,
        max_predictions_per_seq=num_predictions,
        pairing="none",
        masking="none" if variant == "masking" else "token",
        is_packed=is_packed,
        vocab_size=config.vocab_size,
        vocab_sha256="",
        is_lower_case=True,
        splits={records.TRAIN: split},
        options={},
        sources=(),
        documents={},
        rows={},
    )


if __name__ == "__main__":
    command_line.run(main, BenchmarkConfig)
