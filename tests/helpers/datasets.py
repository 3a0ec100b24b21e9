"""Small datasets with random rows, as a builder writes them."""

import dataclasses

import numpy as np

from bert_pretrain.data import manifests, records, vocabulary


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
    # Rows differ in their number of predictions; some rows have none.
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


def write(  # noqa: PLR0913  Keywords, each with a default.
    data_dir,
    train=(20, 20),
    held_out=11,
    pairing="none",
    vocab_size=60,
    seq_length=16,
    masking="token",
    is_packed=False,
):
    """Writes a dataset of random rows.

    Args:
      train: the number of rows in each shard of the training split.
      held_out: the number of rows in each of the other splits.
    """
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
        rows = random_rows(
            sum(sizes), seq_length, vocab_size=vocab_size, seed=seed
        )
        if is_packed:  # The second half of a row is another document.
            rows["document_ids"] = (
                rows["attention_mask"] + rows["token_type_ids"]
            )
        if masking == "none" and split == records.TRAIN:
            for name in rows:
                if name.startswith("masked_lm"):
                    rows[name] = np.zeros_like(rows[name])
        splits[split] = _write_split(data_dir, split, sizes, rows)
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


def maker(folder):
    """A function that writes datasets: `make(name, train=(30, 30))`."""

    def make(name="set", **values):
        data_dir = str(folder / name)
        write(data_dir, **values)
        return data_dir

    return make


def replace_training_rows(data_dir, rows):
    """Writes a training split of one shard, in place of an equal one."""
    manifest = manifests.read(data_dir)
    (shard,) = manifest.splits["train"].shards
    shard = records.write_shard(f"{data_dir}/{shard.file}", [rows])
    split = dataclasses.replace(
        manifest.splits["train"],
        num_examples=shard.num_examples,
        shards=(shard,),
    )
    manifests.write(
        data_dir,
        dataclasses.replace(
            manifest, splits={**manifest.splits, "train": split}
        ),
    )


def _write_split(data_dir, split, sizes, rows):
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
