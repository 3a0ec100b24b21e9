"""A made-up text, and what a build makes of it."""

import itertools
import json
import random

import tensorflow as tf

from bert_pretrain import files, options
from bert_pretrain.data import records, vocabulary
from tfrecord_builders.stages import build_config

WORDS = [
    "".join(letters)
    for letters in itertools.product("bdfgklmnprst", "aeiou", "bdlnrs")
]
_NESTED_CONFIGS = ("source", "filters", "deduplication", "rows", "masking")


def write_vocabulary(path):
    vocabulary.Vocabulary(
        (*vocabulary.SPECIAL_TOKENS, ".", *WORDS), is_lower_case=True
    ).write(path)


def write_news(path, num_documents=300, seed=0):
    """Writes articles as JSON lines; some are repeated, some are too short."""
    rng = random.Random(seed)
    lines = []
    for i in range(num_documents):
        sentences = [
            " ".join(rng.choices(WORDS, k=rng.randint(4, 20))).capitalize()
            + "."
            for _ in range(rng.randint(4, 30))
        ]
        lines.append(
            json.dumps({"text": f"article {i} " + " ".join(sentences)})
        )
        if i % 30 == 0:
            # A duplicate: case and white space do not count.
            lines.append(lines[-1].replace("article", "ARTICLE "))
        if i % 50 == 0:
            lines.append(json.dumps({"text": "Too short."}))
    files.write_text(path, "\n".join(lines) + "\n")


def config_of(folder, name="set", num_workers=1, **values):
    """A build of a folder's text into the folder `name` beside it.

    Args:
      values: options of the dataset, by name.
    """
    dataset = {
        "source": {"source": ("jsonl",), "input": (f"{folder}/news-*.jsonl",)},
        "filters": {},
        "deduplication": {},
        "rows": {"seq_length": 64},
        "masking": {},
        "vocab_file": f"{folder}/vocab.txt",
        "num_shards": 4,
        "eval_fraction": 0.1,
        "test_fraction": 0.05,
        "unit_mb": 0.05,
    }
    for key, value in values.items():
        nested = next(
            (n for n in _NESTED_CONFIGS if key in _fields_of(n)), None
        )
        (dataset[nested] if nested else dataset)[key] = value
    return options.from_dict(
        build_config.BuildConfig,
        {
            "dataset": dataset,
            "output_dir": f"{folder}/{name}",
            "num_workers": num_workers,
        },
    )


def _fields_of(nested):
    kinds = build_config.DatasetConfig.__annotations__
    return kinds[nested].__dataclass_fields__


def contents(folder):
    """Name to the bytes of each file of a folder that has no folders."""
    return {
        name: files.read_bytes(f"{folder}/{name}")
        for name in sorted(tf.io.gfile.listdir(folder))
    }


def examples(folder, split):
    paths = files.expand([f"{folder}/{split}-*.tfrecord"])
    return list(records.read_examples(paths))


def restored(example):
    """The row's token ids as they were before masking."""
    ids = example["input_ids"].copy()
    real = example["masked_lm_weights"] > 0
    ids[example["masked_lm_positions"][real]] = example["masked_lm_ids"][real]
    return ids
