"""Dynamic masks: distributed as the builder's, fixed by seed and number."""

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain import errors
from bert_pretrain.data import (
    dynamic_masking,
    input_pipeline,
    manifests,
    vocabulary,
)
from helpers import strategies
from tfrecord_builders.rows import masking, rows_config

VOCAB = vocabulary.Vocabulary(
    vocabulary.SPECIAL_TOKENS + tuple(f"t{i}" for i in range(35)), True
)
MASK = VOCAB.id(vocabulary.MASK)


def masking_of(width=6, **values):
    return dynamic_masking.Masking(
        **{
            "masked_fraction": 0.15,
            "mask_token_fraction": 0.8,
            "random_token_fraction": 0.1,
            "max_predictions_per_seq": width,
            "mask_id": MASK,
            "is_special": VOCAB.is_special,
            **values,
        }
    )


def rows_of(lengths, seq_length=32, seed=0):
    """[CLS] tokens [SEP] tokens [SEP], as the builder writes them."""
    rng = np.random.default_rng(seed)
    columns = np.arange(seq_length)
    lengths = np.asarray(lengths)[:, None]
    ids = rng.integers(5, VOCAB.size, (len(lengths), seq_length))
    ids[:, 0] = VOCAB.id(vocabulary.CLS)
    ids[(columns == lengths - 1) | (columns == lengths // 2)] = VOCAB.id(
        vocabulary.SEP
    )
    is_token = columns < lengths
    return {
        "input_ids": (ids * is_token).astype(np.int32),
        "attention_mask": is_token.astype(np.int32),
    }


def masked(rows, numbers, seed=1, **values):
    batch = dynamic_masking.mask(
        {name: tf.constant(value) for name, value in rows.items()},
        tf.constant(numbers, tf.int64),
        seed,
        masking_of(**values),
    )
    return {name: value.numpy() for name, value in batch.items()}


@pytest.mark.parametrize("width", [3, 6, 40])
def test_a_masked_row_has_the_form_of_the_builder_s(width):
    rows = rows_of(range(3, 33))
    batch = masked(rows, range(30), width=width)
    theirs = masking.mask(
        rows["input_ids"],
        rows["attention_mask"],
        VOCAB,
        rows_config.MaskingConfig(max_predictions_per_seq=width),
        np.random.default_rng(0),
    )
    for name, value in theirs.items():
        assert batch[name].shape == value.shape
        assert batch[name].dtype == value.dtype
    np.testing.assert_array_equal(
        batch["masked_lm_weights"], theirs["masked_lm_weights"]
    )
    for i, original in enumerate(rows["input_ids"]):
        used = batch["masked_lm_weights"][i] > 0
        positions = batch["masked_lm_positions"][i]
        assert np.all(np.diff(positions[used]) > 0)
        assert not positions[~used].any()
        assert not batch["masked_lm_ids"][i][~used].any()
        assert not VOCAB.is_special[original[positions[used]]].any()
        restored = batch["input_ids"][i].copy()
        restored[positions[used]] = batch["masked_lm_ids"][i][used]
        np.testing.assert_array_equal(restored, original)


def test_a_row_without_tokens_has_no_prediction():
    rows = rows_of([32, 32])
    rows["attention_mask"][1] = 0
    rows["input_ids"][1] = 0
    batch = masked(rows, [0, 1])
    assert batch["masked_lm_weights"].sum(axis=1).tolist() == [4, 0]
    assert not batch["input_ids"][1].any()


def statistics(features, original):
    """Counts of choices, whose expectations must agree."""
    used = features["masked_lm_weights"] > 0
    rows = np.nonzero(used)[0]
    positions = features["masked_lm_positions"][used]
    labels = features["masked_lm_ids"][used]
    shown = features["input_ids"][rows, positions]
    others = (shown != MASK) & (shown != labels)
    first = positions[np.append(True, rows[1:] != rows[:-1])]
    return {
        "place": np.bincount(positions, minlength=original.shape[1]),
        "first place": np.bincount(first, minlength=original.shape[1]),
        "kind": np.array(
            [(shown == MASK).sum(), (shown == labels).sum(), others.sum()]
        ),
        "random token": np.bincount(shown[others], minlength=VOCAB.size),
    }


def test_choices_have_the_builder_s_distribution():
    rows = rows_of(np.random.default_rng(1).integers(8, 33, 20_000))
    ours = statistics(masked(rows, range(20_000)), rows["input_ids"])
    theirs = statistics(
        masking.mask(
            rows["input_ids"],
            rows["attention_mask"],
            VOCAB,
            rows_config.MaskingConfig(max_predictions_per_seq=6),
            np.random.default_rng(3),
        ),
        rows["input_ids"],
    )
    for name in ours:
        total = ours[name] + theirs[name]
        assert ours[name].sum() == pytest.approx(theirs[name].sum(), rel=0.05)
        cells = total > 0
        # Pearson's statistic of two samples. Its deviation is sqrt(2 * cells).
        statistic = np.sum(
            (ours[name] - theirs[name])[cells] ** 2 / total[cells]
        )
        num_cells = cells.sum()
        assert statistic < num_cells + 5 * np.sqrt(2 * num_cells), name
        assert statistic > num_cells - 5 * np.sqrt(2 * num_cells), name


@pytest.mark.parametrize(
    "rates, expected",
    [
        ({"mask_token_fraction": 1.0, "random_token_fraction": 0.0}, "mask"),
        ({"mask_token_fraction": 0.0, "random_token_fraction": 0.0}, "keep"),
    ],
)
def test_rates_of_0_and_1_leave_nothing_to_chance(rates, expected):
    rows = rows_of([32] * 50)
    batch = masked(rows, range(50), **rates, masked_fraction=1.0, width=32)
    is_text = ~VOCAB.is_special[rows["input_ids"]]
    assert batch["masked_lm_weights"].sum() == is_text.sum()
    if expected == "mask":
        assert np.all(batch["input_ids"][is_text] == MASK)
    else:
        np.testing.assert_array_equal(batch["input_ids"], rows["input_ids"])


def test_masks_depend_only_on_seed_and_number():
    rows = rows_of([32] * 8)
    numbers = [5, 6, 7, 8, 2**40, 10, 11, 12]
    batch = masked(rows, numbers)
    order = [6, 1, 4]
    part = masked(
        {name: value[order] for name, value in rows.items()},
        [numbers[i] for i in order],
    )
    for name in ("input_ids", "masked_lm_positions", "masked_lm_ids"):
        np.testing.assert_array_equal(part[name], batch[name][order])
    one_row = {name: value[[0] * 8] for name, value in rows.items()}
    positions = masked(one_row, range(8))["masked_lm_positions"]
    assert len(np.unique(positions, axis=0)) == 8
    other = masked(one_row, range(8), seed=2)["masked_lm_positions"]
    assert not np.array_equal(other, positions)


def test_neighbouring_numbers_and_seeds_are_independent():
    rows = rows_of([32])
    rows = {name: value[[0] * 4000] for name, value in rows.items()}
    chosen = []
    for seed in (0, 1):
        positions = masked(rows, range(4000), seed=seed)["masked_lm_positions"]
        is_chosen = np.zeros([4000, 32])
        is_chosen[np.arange(4000)[:, None], positions[:, :4]] = 1
        chosen.append(is_chosen - is_chosen.mean(axis=0))
    variance = (chosen[0] ** 2).mean()
    for a, b in (
        (chosen[0][1:], chosen[0][:-1]),
        (chosen[0][32:], chosen[0][:-32]),
        (chosen[0], chosen[1]),
    ):
        assert abs((a * b).mean() / variance) < 5 / np.sqrt(a.size)


def masked_examples(data_dir, manifest, num_hosts, examples, batch_size=8):
    """Maps the number of each example to its masked ids."""
    masking = dynamic_masking.of_dataset(data_dir, manifest)
    served = {}
    hosts = input_pipeline.train_batches(
        strategies.Hosts(num_hosts),
        data_dir,
        manifest,
        batch_size,
        3,
        examples,
        masking,
    )
    for index, batches in enumerate(hosts):
        own = [t for t in examples if t % num_hosts == index]
        ids = [row for batch in batches for row in batch["input_ids"].numpy()]
        served |= zip(own, ids, strict=True)
    return served


def test_hosts_batches_and_resuming_do_not_change_the_masks(make_dataset):
    data_dir = make_dataset(train=(13, 7, 9, 11), masking="none")
    manifest = manifests.read(data_dir)
    whole = masked_examples(data_dir, manifest, 1, range(0, 96))
    for num_hosts, start, batch_size in ((2, 32, 4), (1, 8, 8), (4, 64, 16)):
        part = masked_examples(
            data_dir, manifest, num_hosts, range(start, 96), batch_size
        )
        assert len(part) == 96 - start
        for number, ids in part.items():
            np.testing.assert_array_equal(ids, whole[number])
    assert sum((ids == MASK).any() for ids in whole.values()) > 60


def test_another_rate_needs_a_dataset_without_masks(make_dataset):
    data_dir = make_dataset()
    manifest = manifests.read(data_dir)
    assert dynamic_masking.of_dataset(data_dir, manifest) is None
    with pytest.raises(errors.UserError, match="masked_fraction=0.3.*fixed"):
        dynamic_masking.of_dataset(data_dir, manifest, 0.3)


def test_another_rate_makes_room_for_its_predictions(make_dataset):
    data_dir = make_dataset(masking="none")
    manifest = manifests.read(data_dir)
    assert (
        dynamic_masking.of_dataset(data_dir, manifest).max_predictions_per_seq
        == 4
    )
    masking = dynamic_masking.of_dataset(data_dir, manifest, 0.4)
    assert masking.masked_fraction == 0.4
    assert masking.max_predictions_per_seq == 7  # of 16 tokens
