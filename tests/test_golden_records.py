"""The bytes of three small datasets stay as they are recorded.

A change that moves them on purpose records them again, and gives the reason in
the file's "reason".
"""

import hashlib
import itertools
import json
import pathlib
import random

import pytest

from helpers import programs

GOLDEN = pathlib.Path(__file__).with_name("golden_records.json")
DATASETS = {
    "pairs, whole words": [
        "--pairing=nsp",
        "--masking=whole_word",
        "--dupe_factor=2",
        "--num_workers=2",
    ],
    "packed, spans": ["--packing", "--masking=span"],
    "not masked": ["--masking=none"],
}
SYLLABLES = [
    "".join(letters) for letters in itertools.product("bdfgklm", "aeiou", "nrs")
]


def write_text(folder):
    """Articles of made-up words; most words are several word pieces."""
    rng = random.Random(0)
    names = [
        "".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) for _ in range(800)
    ]
    articles = []
    for _ in range(120):
        sentences = [
            " ".join(rng.choices(names, k=rng.randint(4, 20))).capitalize()
            for _ in range(rng.randint(4, 30))
        ]
        articles.append({"text": ". ".join(sentences) + "."})
    articles += articles[:5]  # duplicates
    lines = [json.dumps(article) for article in articles]
    (folder / "news.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "vocab.txt").write_text(
        "\n".join(
            [
                *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."),
                *SYLLABLES,
                *(f"##{syllable}" for syllable in SYLLABLES),
            ]
        )
        + "\n"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    write_text(folder)
    return folder


@pytest.fixture(scope="module")
def builder(folder):
    with programs.Program(
        "tfrecord_builders.build", folder, "tfrecord_builders.building.pipeline"
    ) as program:
        yield program


@pytest.mark.parametrize("name", DATASETS)
def test_the_bytes_of_a_dataset_are_as_they_were(name, folder, builder):
    output_dir = folder / name.replace(", ", "-").replace(" ", "-")
    done = builder.run(
        *("--source=jsonl", f"--input={folder}/news.jsonl"),
        *(f"--vocab_file={folder}/vocab.txt", f"--output_dir={output_dir}"),
        *("--seq_length=64", "--num_shards=2", "--num_workers=1"),
        *("--eval_fraction=0.1", "--test_fraction=0.1"),
        # Several units, so that shards hold documents of different units.
        "--unit_mb=0.05",
        *DATASETS[name],
    )
    assert done.returncode == 0, done.stderr
    shards = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output_dir.glob("*.tfrecord"))
    }
    recorded = folder / f"{output_dir.name}.json"
    recorded.write_text(json.dumps({name: shards}, indent=1) + "\n")
    golden = json.loads(GOLDEN.read_text())
    assert shards == golden[name], f"the new ones are in {recorded}"
