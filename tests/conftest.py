"""What several tests need: a small set of records, and a run on it."""

import dataclasses
import importlib.util
import os

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain import distribution
from bert_pretrain.data import manifests, records, vocabulary

# TensorFlow loads jax where there is one, which has set this to 1 for all that
# the tests start; a program of ours sets it first.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# Before TensorFlow starts: four devices, to train on up to four replicas.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 4,
)
if importlib.util.find_spec("jax"):
    import jax

    # As many, whichever test starts it.
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 4)


def strategy_of(num_replicas):
    """That of a run on so many of the devices."""
    return distribution.build_strategy(
        distribution.DistributionConfig(num_cpu_replicas=num_replicas)
    )


def random_rows(
    num_rows, seq_length=16, num_predictions=4, vocab_size=60, seed=0
):
    """Rows as a builder makes them, of random lengths and tokens."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(num_predictions + 3, seq_length + 1, num_rows)
    mask = (np.arange(seq_length) < lengths[:, None]).astype(np.int32)
    ids = rng.integers(5, vocab_size, (num_rows, seq_length))
    ids[:, 0] = vocabulary.SPECIAL_TOKENS.index(vocabulary.CLS)
    ids *= mask
    # Unequal numbers of predictions, some rows with none.
    counts = rng.integers(0, num_predictions + 1, num_rows)
    is_used = np.arange(num_predictions) < counts[:, None]
    positions = np.where(is_used, np.arange(1, num_predictions + 1), 0)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": mask
        * (np.arange(seq_length) >= lengths[:, None] // 2),
        "masked_lm_positions": positions,
        "masked_lm_ids": np.where(
            is_used, rng.integers(5, vocab_size, positions.shape), 0
        ),
        "masked_lm_weights": is_used.astype(np.float32),
        "next_sentence_labels": rng.integers(0, 2, (num_rows, 1)),
    }


class Hosts:
    """Stands in for a strategy with one replica on each of n hosts."""

    def __init__(self, num_hosts):
        self._num_hosts = num_hosts

    def distribute_datasets_from_function(self, build):
        return [
            build(
                tf.distribute.InputContext(
                    num_input_pipelines=self._num_hosts,
                    input_pipeline_id=index,
                    num_replicas_in_sync=self._num_hosts,
                )
            )
            for index in range(self._num_hosts)
        ]


@pytest.fixture
def make_set(tmp_path):
    return set_maker(tmp_path)


def set_maker(folder):
    """Writes sets: `make_set(train=(30, 30), pairing="nsp")` -> the folder."""

    def make(  # noqa: PLR0913  Keywords, each with a default.
        name="set",
        train=(20, 20),
        held_out=11,
        pairing="none",
        vocab_size=60,
        seq_length=16,
        masking="token",
        is_packed=False,
    ):
        data_dir = str(folder / name)
        vocab = vocabulary.Vocabulary(
            vocabulary.SPECIAL_TOKENS
            + tuple(f"t{i}" for i in range(vocab_size - 5)),
            True,
        )
        vocab.write(f"{data_dir}/{vocabulary.FILE_NAME}")
        splits = {}
        for seed, (split, sizes) in enumerate(
            {
                records.TRAIN: train,
                records.EVAL: (held_out,),
                records.TEST: (held_out,),
            }.items()
        ):
            splits[split] = _write_split(
                data_dir,
                split,
                sizes,
                {
                    "vocab_size": vocab_size,
                    "seq_length": seq_length,
                    "seed": seed,
                },
                is_masked=masking != "none" or split != records.TRAIN,
                is_packed=is_packed,
            )
        manifests.write(
            data_dir,
            manifests.Manifest(
                seq_length=seq_length,
                max_predictions_per_seq=4,
                pairing=pairing,
                masking=masking,
                is_packed=is_packed,
                vocab_size=vocab.size,
                vocab_sha256=vocab.sha256,
                is_lower_case=True,
                splits=splits,
                options={
                    "masked_fraction": 0.15,
                    "mask_token_fraction": 0.8,
                    "random_token_fraction": 0.1,
                },
                sources=(),
                documents={},
                rows={},
            ),
        )
        return data_dir

    return make


@pytest.fixture
def make_set_of_rows(make_set):
    """A set of one training shard, so that its rows come in their order."""

    def make(name, numbers, spoilt=()):
        data_dir = make_set(name, train=(24,), pairing="nsp")
        rows = random_rows(24)
        rows["masked_lm_weights"][list(spoilt)] = np.nan
        manifest = manifests.read(data_dir)
        (shard,) = manifest.splits["train"].shards
        shard = records.write_shard(
            f"{data_dir}/{shard.file}",
            [{k: v[list(numbers)] for k, v in rows.items()}],
        )
        split = dataclasses.replace(
            manifest.splits["train"],
            num_examples=len(numbers),
            shards=(shard,),
        )
        manifests.write(
            data_dir,
            dataclasses.replace(
                manifest, splits={**manifest.splits, "train": split}
            ),
        )
        return data_dir

    return make


@pytest.fixture
def make_config(make_set, tmp_path):
    """A run of one small layer: `make_config(total_steps=9)`."""
    # Loads all that trains, which the builders' tests can do without.
    import training

    def make(data_dir=None, model_dir="model", **values):
        return training.config(
            tmp_path,
            data_dir or make_set(train=(13, 7, 9), pairing="nsp"),
            model_dir,
            **values,
        )

    return make


def _write_split(  # noqa: PLR0913  Keywords of one place.
    data_dir, split, sizes, row_options, is_masked, is_packed
):
    rows = random_rows(sum(sizes), **row_options)
    if is_packed:  # The second part of a row is another document.
        rows["document_ids"] = rows["attention_mask"] + rows["token_type_ids"]
    if not is_masked:
        for name in rows:
            if name.startswith("masked_lm"):
                rows[name] = np.zeros_like(rows[name])
    shards, start = [], 0
    for index, size in enumerate(sizes):
        name = records.shard_name(split, index, len(sizes))
        shards.append(
            records.write_shard(
                f"{data_dir}/{name}",
                [{k: v[start : start + size] for k, v in rows.items()}],
            )
        )
        start += size
    mask = rows["attention_mask"]
    return manifests.Split(
        num_documents=len(mask),
        num_examples=len(mask),
        num_tokens=int(mask.sum()),
        num_predictions=int(rows["masked_lm_weights"].sum()),
        num_random_next=int(rows["next_sentence_labels"].sum()),
        padding_fraction=float(1 - mask.sum() / max(mask.size, 1)),
        max_id=int(rows["input_ids"].max(initial=0)),
        shards=tuple(shards),
    )
