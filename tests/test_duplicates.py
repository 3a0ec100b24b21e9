"""A build keeps no duplicates, and repeats each input as its options say."""

import dataclasses
import json
import random
import tracemalloc
import types

import numpy as np
import pytest

from bert_pretrain import errors, files, options
from bert_pretrain.data import manifests, records, vocabulary
from tfrecord_builders import build
from tfrecord_builders.quality import filters, minhash, quality_config
from tfrecord_builders.stages import build_config, document_parts, duplicates

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "dlnrs"]


def story(rng, num_words=240):
    return rng.choices(WORDS, k=num_words)


def edited(words, num_edits, rng):
    words = list(words)
    for place in rng.sample(range(len(words)), num_edits):
        words[place] = rng.choice(WORDS)
    return words


def named(number, words):
    """A story with its name in it, so that it can be found in the records."""
    return [f"story{number}", *words]


def write(path, stories):
    files.write_text(
        path,
        "\n".join(json.dumps({"text": " ".join(words)}) for words in stories),
    )


def built(folder, *names, num_workers=1, **values):
    """Builds a set: (numbers of its stories by split, manifest, folder)."""
    vocab = f"{folder}/vocab.txt"
    vocabulary.Vocabulary(
        (
            *vocabulary.SPECIAL_TOKENS,
            *WORDS,
            *(f"story{i}" for i in range(3000)),
        ),
        is_lower_case=True,
    ).write(vocab)
    nested = {
        "source": {
            "source": ("jsonl",),
            "input": tuple(f"{folder}/{name}" for name in names),
        },
        "filters": {},
        "deduplication": {},
        "rows": {"seq_length": 128},
        "masking": {},
        "vocab_file": vocab,
        "num_shards": 2,
        "eval_fraction": 0.3,
        "test_fraction": 0.2,
        "unit_mb": 0.05,
    }
    for key, value in values.items():
        part = next(
            (
                part
                for part in ("source", "filters", "deduplication")
                if key
                in build_config.DatasetConfig.__annotations__[
                    part
                ].__dataclass_fields__
            ),
            None,
        )
        (nested[part] if part else nested)[key] = value
    output_dir = f"{folder}/set{random.random()}"
    config = options.from_dict(
        build_config.BuildConfig,
        {
            "dataset": nested,
            "output_dir": output_dir,
            "num_workers": num_workers,
        },
    )
    build.main(config)
    ids = vocabulary.read(vocab)
    found = {}
    for split in records.SPLITS:
        paths = files.expand([f"{output_dir}/{split}-*.tfrecord"])
        found[split] = sorted(
            int(ids.tokens[i].removeprefix("story"))
            for example in records.read_examples(paths)
            for i in restored(example)
            if ids.tokens[i].startswith("story")
        )
    return found, manifests.read(output_dir), output_dir


def restored(example):
    row = example["input_ids"].copy()
    real = example["masked_lm_weights"] > 0
    row[example["masked_lm_positions"][real]] = example["masked_lm_ids"][real]
    return row


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Stories 0…199, and later near and exact copies of some of them."""
    folder = str(tmp_path_factory.mktemp("planted"))
    rng = random.Random(0)
    stories = [named(i, story(rng)) for i in range(200)]
    copies = []
    # Near duplicates differ in one word and in the name.
    for i in range(0, 100, 2):
        copies.append(named(1000 + i, edited(stories[i][1:], 1, rng)))
    for i in range(1, 40, 2):  # Exact duplicates.
        copies.append([word.upper() for word in stories[i]])
    # Chains: each story is like the one before, and unlike the first one.
    for i in range(150, 160):
        last = stories[i][1:]
        for link in range(1, 6):
            last = edited(last, 2, rng)
            copies.append(named(2000 + 10 * i - 1500 + link, last))
    rng.shuffle(copies)
    write(f"{folder}/a.jsonl", stories)
    write(f"{folder}/b.jsonl", copies)
    return folder


def test_only_the_first_of_all_duplicates_is_kept_in_any_split(planted):
    found, manifest, _ = built(planted, "a.jsonl", "b.jsonl")
    kept = sorted(sum(found.values(), []))
    # All originals and no copies, so no copy is in another split.
    assert kept == list(range(200))
    assert all(len(found[split]) > 15 for split in records.SPLITS)
    assert manifest.documents["read"] == 320
    assert manifest.documents["kept"] == 200
    assert manifest.documents["dropped"] == {
        "duplicate": 20,
        "near_duplicate": 100,
    }
    assert manifest.documents["thresholds"] == filters.THRESHOLDS
    assert [source["kept"] for source in manifest.sources] == [200, 0]
    assert manifest.sources[1]["dropped"] == {
        "duplicate": 20,
        "near_duplicate": 100,
    }


def test_the_threshold_0_keeps_near_duplicates(planted):
    found, manifest, output_dir = built(
        planted, "a.jsonl", "b.jsonl", near_duplicate_threshold=0.0
    )
    assert manifest.documents["dropped"] == {"duplicate": 20}
    assert len(sum(found.values(), [])) == 300
    assert files.read_json(f"{output_dir}/near_duplicates.json") == []


@pytest.mark.slow
def test_units_and_workers_change_nothing(planted, monkeypatch):
    sets = []
    for num_workers, per_unit in ((1, 1 << 23), (2, 37)):
        monkeypatch.setattr(duplicates, "_DOCUMENTS_PER_UNIT", per_unit)
        found = built(planted, "b.jsonl", "a.jsonl", num_workers=num_workers)
        sets.append((found[0], dataclasses.asdict(found[1])))
    assert sets[0] == sets[1]
    # In this order the copies come first, and are kept.
    assert len(sum(sets[0][0].values(), [])) == 200


def test_examples_of_near_duplicates_are_written_beside_the_dataset(planted):
    _, _, output_dir = built(planted, "a.jsonl", "b.jsonl")
    examples = files.read_json(f"{output_dir}/near_duplicates.json")
    assert len(examples) == duplicates.MAX_EXAMPLES
    assert len({example["later"]["id"] for example in examples}) > 10
    for example in examples:
        first, second = example["earlier"], example["later"]
        assert example["similarity"] >= 0.8
        assert second["id"].startswith(f"{planted}/b.jsonl")
        same = set(first["text"].split()) & set(second["text"].split())
        assert len(same) > 30


@pytest.fixture(scope="module")
def two_inputs(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("two"))
    rng = random.Random(1)
    for name, first in (("a-1", 0), ("a-2", 250), ("b", 500)):
        stories = [named(first + i, story(rng, 40)) for i in range(250)]
        write(f"{folder}/{name}.jsonl", stories)
    return folder


def counts_of(found, first, past):
    """The numbers of the training stories, and of the held-out ones."""
    train = [i for i in found["train"] if first <= i < past]
    held_out = [i for i in found["eval"] + found["test"] if first <= i < past]
    return train, held_out


def test_weights_repeat_and_sample_training_documents_only(two_inputs):
    plain, _, _ = built(two_inputs, "a-*.jsonl", "b.jsonl", unit_mb=1.0)
    found, manifest, _ = built(
        two_inputs, "a-*.jsonl", "b.jsonl", weight=(0.5, 2.25), unit_mb=1.0
    )
    plain_a, held_out_a = counts_of(plain, 0, 500)
    plain_b, held_out_b = counts_of(plain, 500, 750)
    half, held_out = counts_of(found, 0, 500)
    assert held_out == held_out_a and set(half) < set(plain_a)
    assert len(half) == len(set(half))
    assert abs(len(half) / len(plain_a) - 0.5) < 0.1
    repeated, held_out = counts_of(found, 500, 750)
    assert held_out == held_out_b and set(repeated) == set(plain_b)
    assert {repeated.count(i) for i in plain_b} == {2, 3}
    assert abs(len(repeated) / len(plain_b) - 2.25) < 0.13  # three deviations
    not_sampled = manifest.documents["dropped"]["not_sampled"]
    assert not_sampled == len(plain_a) - len(half)
    assert [source["weight"] for source in manifest.sources] == [0.5, 0.5, 2.25]
    assert sum(s["kept"] for s in manifest.sources) == 750 - not_sampled


def test_a_text_and_its_copy_are_in_different_rows(two_inputs):
    found, _, output_dir = built(
        two_inputs, "b.jsonl", weight=(3.0,), unit_mb=1.0
    )
    paths = files.expand([f"{output_dir}/train-*.tfrecord"])
    # A story has 40 words, so a row holds several stories.
    for example in records.read_examples(paths):
        row = restored(example).tolist()
        assert max(row.count(i) for i in range(5 + len(WORDS), 4000)) <= 1
    assert len(found["train"]) == 3 * len(set(found["train"]))


def test_a_limit_is_for_all_files_of_an_input_together(two_inputs):
    plain, _, _ = built(two_inputs, "a-*.jsonl", "b.jsonl", unit_mb=1.0)
    found, manifest, _ = built(
        two_inputs, "a-*.jsonl", "b.jsonl", max_mb=(0.02, 0.0), unit_mb=1.0
    )
    capped, _ = counts_of(found, 0, 500)
    assert counts_of(found, 500, 750) == counts_of(plain, 500, 750)
    num_bytes = 2**20 * 0.02
    weight = manifest.sources[0]["weight"]
    assert weight == manifest.sources[1]["weight"] < 1
    total = sum(
        files.size(f"{two_inputs}/a-{i}.jsonl") - 12 * 250 for i in (1, 2)
    )
    assert abs(weight - num_bytes / total) < 0.02
    everything = len(counts_of(plain, 0, 500)[0])
    assert abs(len(capped) / everything - weight) < 0.1
    # The counts of an input's files can be added up.
    assert [source["input"] for source in manifest.sources] == [
        f"{two_inputs}/a-*.jsonl",
        f"{two_inputs}/a-*.jsonl",
        f"{two_inputs}/b.jsonl",
    ]
    # The kept documents are from both files, and from all over each file.
    assert any(i > 200 for i in capped) and any(i > 450 for i in capped)


def test_filters_are_counted_by_file_and_can_be_switched_off(tmp_path):
    rng = random.Random(2)
    good = [named(i, story(rng)) for i in range(60)]
    notice = ["\nThis website uses cookies.\n"]
    write(
        f"{tmp_path}/a.jsonl",
        [
            *good[:40],
            ["too", "short"],
            named(100, ["1234,"] * 90 + story(rng, 20)),
            named(101, story(rng, 15) * 9),
            named(102, (story(rng) + ["\nnext"]) + ["\nmore\n"] * 60),
        ],
    )
    write(f"{tmp_path}/b.jsonl", [words + notice for words in good[40:]])
    _, manifest, _ = built(str(tmp_path), "a.jsonl", "b.jsonl")
    first, second = manifest.sources
    assert first["dropped"] == {
        "few_letters": 1,
        "repeated_lines": 1,
        "repeated_ngrams": 1,
        "too_short": 1,
    }
    assert (first["kept"], first["boilerplate_lines"]) == (40, 0)
    assert (second["kept"], second["boilerplate_lines"]) == (20, 20)
    assert manifest.documents["boilerplate_lines"] == 20
    thresholds = manifest.documents["thresholds"]
    assert thresholds["min_letter_share"] == quality_config.MIN_LETTER_SHARE
    assert thresholds["max_repeated_ngrams"]["10"] == 0.1
    _, manifest, _ = built(str(tmp_path), "a.jsonl", "b.jsonl", filters="none")
    assert "thresholds" not in manifest.documents
    assert manifest.documents["dropped"] == {}
    assert manifest.documents["boilerplate_lines"] == 0


def test_too_many_documents_are_refused():
    class Part:
        num_documents = 1 << 32

    with pytest.raises(errors.UserError, match="4,294,967,296 documents"):
        duplicates.plan([Part()], quality_config.DeduplicationConfig())


class Part:
    """A document part with random keys, each of which occurs twice."""

    sources = (document_parts.Source("a.jsonl", 0),)

    def __init__(self, number, num_documents, seed):
        rng = np.random.default_rng(seed)
        self.first_document = number * num_documents
        self.num_documents = num_documents
        keys = rng.integers(0, 2**64, num_documents, np.uint64)
        self._keys = np.where(np.arange(num_documents) % 2, keys, keys[::-1])

    def read_digests(self):
        return np.repeat(self._keys, 2).view(np.uint8).reshape(-1, 16)

    def read_band(self, number):
        return self._keys

    def read_fingerprints(self, num_bands):
        return np.repeat(self.read_digests(), 2, axis=1)

    def source_numbers(self):
        return np.zeros(self.num_documents, int)

    def read_documents(self, numbers):
        return {i: (str(i), "text") for i in numbers}


def test_a_unit_s_memory_fits_beside_tensorflow():
    all_parts = [Part(i, 1 << 18, i) for i in range(16)]
    config = quality_config.DeduplicationConfig()
    progress = types.SimpleNamespace(add=lambda *_: None)
    units = duplicates.plan(all_parts, config)
    for unit in (units[0], units[-1]):
        tracemalloc.start()
        num_links = duplicates.find(
            all_parts, config, unit, "ram://unit.links", progress
        )
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert num_links > 100_000
        # All documents are candidates. TensorFlow takes 700 MB of 1 GB.
        assert peak < 250e6


class CountingNumpy:
    """Stands in for NumPy, and counts the elements that it is given.

    Not counted is the array that a function only looks some elements up in.
    """

    def __init__(self):
        self.num_elements = 0

    def __getattr__(self, name):
        found = getattr(np, name)
        if isinstance(found, type) or not callable(found):
            return found
        counted = self._count(found, is_lookup=name == "searchsorted")
        if isinstance(found, np.ufunc):
            counted.at = self._count(found.at, is_lookup=True)
        return counted

    def _count(self, function, is_lookup):
        def call(*args, **options):
            self.num_elements += sum(map(_num_elements, args[is_lookup:]))
            return function(*args, **options)

        return call


def _num_elements(value):
    if isinstance(value, (list, tuple)):
        return sum(map(_num_elements, value))
    return value.size if isinstance(value, np.ndarray) else 0


def test_links_in_many_files_are_no_more_work_than_in_few(
    tmp_path, monkeypatch
):
    rng = np.random.default_rng(5)
    links = np.zeros(1 << 19, minhash.LINK)
    ends = np.sort(rng.integers(0, 1 << 20, (len(links), 2)), axis=1)
    links["earlier"], links["later"] = ends.T
    all_parts = [Part(i, 1 << 14, i) for i in range(64)]
    work, found = [], []
    for num_files in (2, 256):
        names = [f"{tmp_path}/{num_files}-{i}" for i in range(num_files)]
        for name, some in zip(
            names, np.array_split(links, num_files), strict=True
        ):
            files.write_bytes(name, some.tobytes())
        # Exact duplicates come first, in half of the files.
        bands = np.repeat([-1, 0], num_files // 2).tolist()
        units = [(band, 0, 1) for band in bands]
        path = f"{tmp_path}/dropped"
        counting = CountingNumpy()
        with monkeypatch.context() as patch:
            patch.setattr(duplicates, "np", counting)
            patch.setattr(minhash, "np", counting)
            found.append(duplicates.resolve(all_parts, units, names, path))
        work.append(counting.num_elements)
        found.append(files.read_bytes(path))
    assert found[:2] == found[2:]
    # Each link is read twice.
    assert 2 * len(links) < work[1] < 2 * work[0], work
