"""Makes a set of TFRecords that another BERT builder wrote.

    python -m tfrecord_builders.adopt --train_input='theirs/part-*' \
        --eval_input=theirs/held_out --vocab_file=vocab.txt --output_dir=set

The files of google-research/bert, tf-models-official and all that took their
features over hold what a trainer needs, but do not say for what vocabulary,
length and number of predictions, nor that they are whole. So each record is
read and checked once, the files are copied, and a manifest says the rest.
"""

import collections
import dataclasses
import os
from typing import NamedTuple

import tensorflow as tf
import tqdm

from bert_pretrain import errors, files, locks, options
from bert_pretrain.data import manifests, records, vocabulary

_ROWS_AT_ONCE = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdoptConfig(options.Options):
    train_input: tuple[str, ...] = options.option(
        "TFRecord files to train on, or patterns of them. May be repeated."
    )
    eval_input: tuple[str, ...] = options.option(
        "Files to validate on, which none of the others may repeat."
    )
    test_input: tuple[str, ...] = options.option(
        "Files for the final test; none: no test split.", ()
    )
    vocab_file: str = options.option("The vocab.txt they were made with.")
    output_dir: str = options.option("Folder of the set.")

    def __post_init__(self):
        super().__post_init__()
        for name in ("train_input", "eval_input"):
            if not getattr(self, name):
                raise errors.UserError(f"{name} is empty; name files to read.")


def main(config):
    vocab = vocabulary.read(config.vocab_file)
    paths = {
        records.TRAIN: files.expand(config.train_input),
        records.EVAL: files.expand(config.eval_input),
        records.TEST: files.expand(config.test_input),
    }
    _check_apart(paths)
    with locks.locked(config.output_dir):
        _refuse_existing(config.output_dir)
        manifest = adopt(paths, vocab, config.output_dir)
    for name, split in manifest.splits.items():
        print(
            f"{name:6}{split.num_examples:12,} examples in "
            f"{len(split.shards):,} shards, {split.padding_fraction:.1%} "
            "padding"
        )
    print(
        f"{config.output_dir} is a set of rows of {manifest.seq_length} "
        f"tokens, {manifest.max_predictions_per_seq} predictions at most, "
        f"pairing {manifest.pairing}."
    )


def adopt(paths, vocab, output_dir):
    """Copies files of records to a set, and writes its manifest.

    Args:
      paths: for each of `records.SPLITS` a list of TFRecord files.
      vocab: the `vocabulary.Vocabulary` that they were made with.

    Returns:
      The `manifests.Manifest`.

    Raises:
      UserError: naming the file that is corrupt, or does not fit the
        vocabulary or the first file.
    """
    first = paths[records.TRAIN][0]
    form = _form(first)
    if form is None:
        raise errors.UserError(f"{first} holds no record; leave it out.")
    total = sum(files.size(path) for mine in paths.values() for path in mine)
    splits = {}
    with tqdm.tqdm(total=total, unit="B", unit_scale=True) as bar:
        for name, mine in paths.items():
            counts, shards = collections.Counter(), []
            for i, path in enumerate(mine):
                counted = _count(path, form, vocab)
                max_id = max(counts["max_id"], counted["max_id"])
                counts.update(counted)
                counts["max_id"] = max_id
                copy = f"{output_dir}/{records.shard_name(name, i, len(mine))}"
                shards.append(_copy(path, copy, counted["num_examples"]))
                bar.update(shards[-1].num_bytes)
            splits[name] = _split(counts, shards, form.seq_length)
    vocab.write(f"{output_dir}/{vocabulary.FILE_NAME}")
    manifest = manifests.Manifest(
        seq_length=form.seq_length,
        max_predictions_per_seq=form.max_predictions_per_seq,
        # Where no pair is random, there is nothing to learn about pairs.
        pairing="nsp"
        if any(split.num_random_next for split in splits.values())
        else "none",
        masking="unknown",
        is_packed=form.is_packed,
        vocab_size=vocab.size,
        vocab_sha256=vocab.sha256,
        is_lower_case=vocab.is_lower_case,
        splits=splits,
        options={},
        sources=(),
        documents={
            "read": 0,
            "kept": 0,
            "dropped": {},
            "boilerplate_lines": 0,
        },
        rows={},
    )
    files.remove_temporary_files(output_dir)
    manifests.write(output_dir, manifest)
    return manifest


def _check_apart(paths):
    seen = {}
    for name, mine in paths.items():
        for path in mine:
            # Links and other ways to write a path lead to the same records.
            file = path if "://" in path else os.path.realpath(path)
            other, its_path = seen.setdefault(file, (name, path))
            if other != name:
                also = "" if its_path == path else f" as {its_path}"
                raise errors.UserError(
                    f"{path} is in {name} and in {other}{also}; what is held "
                    "out must not be trained on: leave it out of one."
                )


def _refuse_existing(output_dir):
    path = f"{output_dir}/{manifests.MANIFEST_NAME}"
    with errors.naming(path):
        if tf.io.gfile.exists(path):
            raise errors.UserError(
                f"{output_dir} holds a finished set; give another output_dir, "
                "or remove the folder."
            )


class _Form(NamedTuple):
    """What all records of a set have in common."""

    seq_length: int
    max_predictions_per_seq: int
    is_packed: bool

    def __str__(self):
        kind = "packed" if self.is_packed else "not packed"
        return (
            f"of {self.seq_length} tokens and "
            f"{self.max_predictions_per_seq} predictions, {kind}"
        )


def _form(path):
    """The form that the first record of a file has; None if it has none."""
    for example in records.read_examples([path]):
        return _Form(
            len(example["input_ids"]),
            len(example["masked_lm_ids"]),
            "document_ids" in example,
        )
    return None


def _count(path, form, vocab):
    """Counts what the records of a file hold, and checks that they fit."""
    misfit = (
        f"{path}: a record is not {form}, as the first file's are, or lacks a "
        "feature; build all files with the same options."
    )
    # Before all are read: a packed row would pass for one that is not.
    if _form(path) not in (form, None):
        raise errors.UserError(misfit)
    counts = collections.Counter()
    batches = records.without_autotuning(
        tf.data.TFRecordDataset(path).batch(_ROWS_AT_ONCE)
    )
    with errors.naming(path):
        for serialized in batches.as_numpy_iterator():
            try:
                batch = records.parse(serialized, *form)
            except tf.errors.InvalidArgumentError as error:
                raise errors.UserError(misfit) from error
            batch = {name: values.numpy() for name, values in batch.items()}
            counts.update(
                num_examples=len(serialized),
                num_tokens=int(batch["attention_mask"].sum()),
                num_predictions=int(batch["masked_lm_weights"].sum()),
                num_random_next=int(batch["next_sentence_labels"].sum()),
            )
            ids = max(batch[n].max() for n in ("input_ids", "masked_lm_ids"))
            counts["max_id"] = max(counts["max_id"], int(ids))
            if ids >= vocab.size:
                raise errors.UserError(
                    f"{path}: holds the id {ids}, the vocabulary only "
                    f"{vocab.size} tokens; give the vocab_file that the "
                    "records were made with."
                )
            position = batch["masked_lm_positions"].max(initial=0)
            if position >= form.seq_length:
                raise errors.UserError(
                    f"{path}: a masked position is {position}, in rows of "
                    f"{form.seq_length} tokens; build the file again."
                )
    return counts


def _copy(path, copy, num_examples):
    with files.replacing(copy) as aside:
        tf.io.gfile.copy(path, aside)
    return manifests.Shard(
        file=copy.rpartition("/")[2],
        num_examples=num_examples,
        num_bytes=files.size(copy),
        sha256=files.sha256(copy),
    )


def _split(counts, shards, seq_length):
    capacity = max(1, counts["num_examples"] * seq_length)
    return manifests.Split(
        num_documents=0,  # No record tells.
        num_examples=counts["num_examples"],
        num_tokens=counts["num_tokens"],
        num_predictions=counts["num_predictions"],
        num_random_next=counts["num_random_next"],
        padding_fraction=round(1 - counts["num_tokens"] / capacity, 4),
        max_id=counts["max_id"],
        shards=tuple(shards),
    )


if __name__ == "__main__":
    options.run(main, AdoptConfig)
