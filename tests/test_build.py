"""The whole builder: the same text always gives the same dataset."""

import dataclasses
import gzip
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from bert_pretrain import errors, files
from bert_pretrain.data import manifests, records, vocabulary
from helpers import builds, programs
from tfrecord_builders import build, engines
from tfrecord_builders.quality import minhash
from tfrecord_builders.stages import sampling


def test_the_summary_warns_of_last_sections_that_no_table_knows(text, capsys):
    """In a language without a table, references would stay in the text."""
    stories = files.read_text(f"{text}/news-1.jsonl").splitlines()[:40]
    pages = "".join(
        f"<page><title>A{i}</title><ns>0</ns><id>{i}</id><revision><text>"
        f"{json.loads(story)['text']}\n== Lähdekasa ==\nA book."
        "</text></revision></page>"
        for i, story in enumerate(stories)
    )
    path = f"{text}/fiwiki.xml"
    files.write_text(path, f'<mediawiki xml:lang="fi">{pages}</mediawiki>')
    config = builds.config_of(text, source=("wikipedia",), input=(path,))
    build.main(config)
    manifest = manifests.read(config.output_dir)
    counts = manifest.sources[0]
    assert counts["articles_with_sections"] == 40
    assert counts["unknown_last_sections"] == 40
    assert manifest.documents["unknown_headings"] == {"Lähdekasa": 40}
    printed = capsys.readouterr().err
    assert "warning: 40 of 40 articles" in printed
    assert "'Lähdekasa' (40)" in printed
    assert "end_sections.yaml" in printed


@pytest.mark.slow
@pytest.mark.parametrize("pairing", ["none", "nsp"])
def test_the_number_of_workers_changes_no_byte(text, pairing):
    sets = []
    for num_workers in (1, 2, 3):
        config = builds.config_of(
            text,
            f"set{num_workers}",
            num_workers,
            pairing=pairing,
            dupe_factor=2,
        )
        build.main(config)
        sets.append(builds.contents(config.output_dir))
    assert sets[0] == sets[1] == sets[2]
    assert "manifest.json" in sets[0] and "work" not in sets[0]


def test_a_dataset_holds_all_text_once_and_no_document_in_two_splits(text):
    config = builds.config_of(text)
    build.main(config)
    manifest = manifests.read(config.output_dir)
    manifests.check_dataset(config.output_dir, manifest)
    vocab = vocabulary.read(config.dataset.vocab_file)
    tokens_of = {
        split: sorted(
            int(i)
            for example in builds.examples(config.output_dir, split)
            for i in builds.restored(example)
            if not vocab.is_special[i]
        )
        for split in records.SPLITS
    }
    # The text without the duplicates and the documents that are too short.
    expected, seen = {split: [] for split in records.SPLITS}, set()
    for path in files.expand(config.dataset.source.input):
        for line in files.read_text(path).splitlines():
            content = json.loads(line)["text"]
            digest = minhash.digest(content)
            if digest in seen or len(content) < 100:
                continue
            seen.add(digest)
            tokens = content.lower().replace(".", " .").split()
            expected[sampling.split_of(digest, config.dataset)] += [
                vocab.id(t) for t in tokens if t in vocab.tokens
            ]
    assert tokens_of == {split: sorted(ids) for split, ids in expected.items()}
    assert all(tokens_of.values())
    dropped = manifest.documents["dropped"]
    assert dropped == {"duplicate": 20, "too_short": 12}
    assert manifest.documents["kept"] == 600
    assert sum(s.num_documents for s in manifest.splits.values()) == 600


def test_the_manifest_counts_what_the_records_hold(text):
    config = builds.config_of(text, pairing="nsp", dupe_factor=2)
    build.main(config)
    manifest = manifests.read(config.output_dir)
    for name, split in manifest.splits.items():
        found = builds.examples(config.output_dir, name)
        assert split.num_examples == len(found)
        assert split.num_tokens == sum(
            int(e["attention_mask"].sum()) for e in found
        )
        assert split.num_predictions == sum(
            int(e["masked_lm_weights"].sum()) for e in found
        )
        assert split.num_random_next == sum(
            int(e["next_sentence_labels"].sum()) for e in found
        )
        assert split.padding_fraction == round(
            1 - split.num_tokens / (len(found) * 64), 4
        )
    train = manifest.splits["train"]
    counts = [shard.num_examples for shard in train.shards]
    assert len(counts) == 4
    # Within a unit, shards differ by one row at most.
    assert max(counts[:2]) - min(counts[:2]) <= 12
    assert abs(train.num_random_next / train.num_examples - 0.5) < 0.05


def test_passes_hold_the_same_rows_under_other_masks(text):
    config = builds.config_of(text, dupe_factor=2)
    build.main(config)
    shards = [
        list(
            records.read_examples(
                [f"{config.output_dir}/{records.shard_name('train', i, 4)}"]
            )
        )
        for i in range(4)
    ]
    first, second = shards[0] + shards[1], shards[2] + shards[3]
    key = lambda example: builds.restored(example).tobytes()  # noqa: E731
    assert sorted(map(key, first)) == sorted(map(key, second))
    masks = [
        {key(e): e["masked_lm_positions"].tolist() for e in half}
        for half in (first, second)
    ]
    differing = sum(masks[0][k] != masks[1][k] for k in masks[0])
    assert differing > 0.9 * len(masks[0])


def test_a_finished_dataset_is_not_built_again(text, capsys):
    config = builds.config_of(text)
    build.main(config)
    before = builds.contents(config.output_dir)
    build.main(config)
    assert "nothing to do" in capsys.readouterr().out
    assert builds.contents(config.output_dir) == before


def test_an_interrupted_build_continues_and_writes_the_same_bytes(
    text, monkeypatch
):
    undisturbed = builds.config_of(text, "undisturbed")
    build.main(undisturbed)
    config = builds.config_of(text, "disturbed")
    write_shard, num_written = records.write_shard, 0

    def write_two(path, batches):
        nonlocal num_written
        num_written += 1
        if num_written > 2:
            raise KeyboardInterrupt
        return write_shard(path, batches)

    monkeypatch.setattr(records, "write_shard", write_two)
    with pytest.raises(KeyboardInterrupt):
        build.main(config)
    assert not os.path.exists(f"{config.output_dir}/manifest.json")
    monkeypatch.setattr(records, "write_shard", write_shard)
    build.main(config)
    assert builds.contents(config.output_dir) == builds.contents(
        undisturbed.output_dir
    )


@pytest.mark.parametrize("is_finished", [True, False])
def test_changed_options_over_an_earlier_build_are_refused(
    text, is_finished, monkeypatch
):
    config = builds.config_of(text)
    if is_finished:
        build.main(config)
    else:
        monkeypatch.setattr(
            records,
            "write_shard",
            lambda *_: (_ for _ in ()).throw(errors.UserError("stopped")),
        )
        with pytest.raises(errors.UserError, match="stopped"):
            build.main(config)
    with pytest.raises(errors.UserError, match="seq_length=64, not 32"):
        build.main(builds.config_of(text, seq_length=32))
    with pytest.raises(errors.UserError, match="masking='token', not 'whole"):
        build.main(builds.config_of(text, masking="whole_word"))


def stop_at_the_shards(monkeypatch, config):
    """Leaves a build unfinished."""
    with monkeypatch.context() as patch:
        patch.setattr(
            records,
            "write_shard",
            lambda *_: (_ for _ in ()).throw(errors.UserError("stopped")),
        )
        with pytest.raises(errors.UserError, match="stopped"):
            build.main(config)


def test_changed_text_under_an_unfinished_build_is_refused(text, monkeypatch):
    config = builds.config_of(text)
    stop_at_the_shards(monkeypatch, config)
    first, added = f"{text}/news-1.jsonl", f"{text}/news-3.jsonl"
    content = files.read_bytes(first)
    for changed in (content + b"{}\n", content.replace(b"icle 0", b"icle 9")):
        files.write_bytes(first, changed)
        with pytest.raises(errors.UserError, match="news-1.jsonl was .* bytes"):
            build.main(config)
    os.remove(first)
    with pytest.raises(errors.UserError, match="news-1.jsonl .* not there no"):
        build.main(config)
    files.write_bytes(first, content)
    files.write_bytes(added, content)
    with pytest.raises(errors.UserError, match="news-3.jsonl was not there"):
        build.main(config)
    os.remove(added)
    # The same text with another modification time.
    os.utime(first, (0, 0))
    build.main(config)


def test_an_unfinished_build_is_found_in_a_folder_that_looks_like_a_pattern(
    text, monkeypatch
):
    config = builds.config_of(text, "br[ack]ets")
    stop_at_the_shards(monkeypatch, config)
    with pytest.raises(errors.UserError, match="min_document_chars=.*, not 7"):
        build.main(builds.config_of(text, "br[ack]ets", min_document_chars=7))
    build.main(config)


def test_a_build_without_results_may_start_over_with_other_options(
    text, monkeypatch
):
    build.main(builds.config_of(text, "undisturbed"))
    # A field that is in no file: no unit is finished. A limit that no document
    # reaches: all units are finished, but nothing is kept.
    for mistake, told in (
        ({"text_field": "txet"}, "'txet'"),
        ({"min_document_chars": 10**6}, "no document was kept"),
        ({"input": (f"{text}/news-1.jsonl",), "text_field": "x"}, "'x'"),
    ):
        with pytest.raises(errors.UserError, match=told):
            build.main(builds.config_of(text, **mistake))
    config = builds.config_of(text)
    stop_at_the_shards(monkeypatch, config)
    with pytest.raises(errors.UserError, match="text_field='text', not 'txet"):
        build.main(builds.config_of(text, text_field="txet"))
    build.main(config)
    undisturbed = builds.contents(f"{text}/undisturbed")
    assert builds.contents(config.output_dir) == undisturbed


def test_the_text_of_a_finished_dataset_may_be_missing_but_not_changed(
    text, capsys
):
    config = builds.config_of(text)
    build.main(config)
    os.remove(f"{text}/news-2.jsonl")
    build.main(config)
    os.rename(f"{text}/news-1.jsonl", f"{text}/elsewhere")
    build.main(config)
    assert capsys.readouterr().out.count("nothing to do") == 2
    os.rename(f"{text}/elsewhere", f"{text}/news-1.jsonl")
    content = files.read_bytes(f"{text}/news-1.jsonl")
    files.write_bytes(
        f"{text}/news-1.jsonl", content.replace(b"icle 0", b"icle 9")
    )
    with pytest.raises(errors.UserError, match="news-1.jsonl was .* bytes"):
        build.main(config)
    files.write_bytes(f"{text}/news-1.jsonl", content)
    shutil.copy(f"{text}/news-1.jsonl", f"{text}/news-2.jsonl")
    with pytest.raises(errors.UserError, match="news-2.jsonl was .* bytes"):
        build.main(config)


def test_a_folder_that_no_build_made_is_not_removed(text):
    mine = f"{text}/set/work/thesis.txt"
    files.write_text(mine, "years")
    with pytest.raises(errors.UserError, match="holds 'thesis.txt', which no"):
        build.main(builds.config_of(text))
    assert files.read_text(mine) == "years"
    # A temporary file of a killed build is no reason to refuse.
    os.rename(mine, f"{text}/set/work/origin.json.tmp-0123456789abcdef")
    build.main(builds.config_of(text))
    assert not os.path.exists(f"{text}/set/work")


def test_only_files_of_the_build_are_removed_from_a_finished_dataset(
    text, monkeypatch
):
    config, mine = builds.config_of(text), f"{text}/set/work/thesis.txt"
    rmtree, removed = tf.io.gfile.rmtree, []

    def stop_at_the_second(path):
        removed.append(path)
        if len(removed) == 2:
            raise KeyboardInterrupt
        rmtree(path)

    with monkeypatch.context() as patch:
        patch.setattr(tf.io.gfile, "rmtree", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            build.main(config)
    assert os.path.exists(f"{text}/set/manifest.json")
    assert os.path.exists(f"{text}/set/work")
    build.main(config)
    assert not os.path.exists(f"{text}/set/work")
    files.write_text(mine, "years")
    build.main(config)
    assert files.read_text(mine) == "years"


@pytest.mark.slow
def test_a_second_build_in_the_same_folder_is_refused(text, run):
    first = subprocess.Popen(
        command(text, "--num_workers=1"), stderr=subprocess.DEVNULL
    )
    while not os.path.exists(f"{text}/set/work/origin.json"):
        assert first.poll() is None
    first.send_signal(signal.SIGSTOP)
    before = sorted(os.walk(f"{text}/set"))
    # The options differ: if the second build looked at the first one's options,
    # the message would name the difference.
    second = run(text, "--seq_length=32")
    assert second.returncode == 2
    assert "another process is working in this folder" in second.stderr
    assert sorted(os.walk(f"{text}/set")) == before
    first.send_signal(signal.SIGCONT)
    assert first.wait() == 0


@pytest.mark.slow
def test_a_full_disk_gives_one_line_and_the_next_run_continues(text):
    # A small file system of its own, if the system allows it.
    program = (
        f"mkdir {text}/disk && mount -t tmpfs -o size=400k none {text}/disk "
        f"&& echo mounted && {shlex.join(command(text))} "
        f"--output_dir={text}/disk/set --num_workers=2; echo code $?; "
        f"mount -o remount,size=40m {text}/disk && {shlex.join(command(text))} "
        f"--output_dir={text}/disk/set --num_workers=1"
    )
    done = subprocess.run(
        ["unshare", "--user", "-r", "--mount", "sh", "-c", program],
        capture_output=True,
        text=True,
    )
    if "mounted" not in done.stdout:
        pytest.skip("Not checked: a full disk (no user namespaces here).")
    assert "code 2" in done.stdout and done.returncode == 0, done.stderr
    assert done.stderr.count("error: ") == 1
    assert "the disk is full: free some space" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_beam_engine_without_beam_names_the_missing_package(
    text, monkeypatch
):
    monkeypatch.delattr(engines, "beam", raising=False)
    monkeypatch.setitem(sys.modules, "tfrecord_builders.engines.beam", None)
    config = dataclasses.replace(builds.config_of(text), engine="beam")
    with pytest.raises(errors.UserError, match=r"pip install .*\[beam\]"):
        build.main(config)


def test_a_split_without_documents_is_reported(text):
    files.write_text(
        f"{text}/one.jsonl", json.dumps({"text": " ".join(builds.WORDS[:50])})
    )
    config = builds.config_of(text, input=(f"{text}/one.jsonl",), num_shards=1)
    with pytest.raises(errors.UserError, match="fell into"):
        build.main(config)


def test_a_build_that_keeps_no_document_reports_the_counts(text):
    with pytest.raises(errors.UserError, match="632 read, 632 too_short"):
        build.main(builds.config_of(text, min_document_chars=10**6))


def test_a_single_file_that_is_not_utf_8_is_named_with_the_position(text):
    files.write_bytes(f"{text}/latin1.txt", b"caf\xe9 " * 100)
    with pytest.raises(errors.UserError, match="latin1.txt: not UTF-8 at by"):
        build.main(
            builds.config_of(
                text, source=("text",), input=(f"{text}/latin1.txt",)
            )
        )


def command(text, *flags):
    return [
        sys.executable,
        "-m",
        "tfrecord_builders.build",
        *arguments_of(text),
        *flags,
    ]


def arguments_of(text):
    return [
        "--source=jsonl",
        f"--input={text}/news-*.jsonl",
        f"--vocab_file={text}/vocab.txt",
        f"--output_dir={text}/set",
        "--num_workers=1",
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs the command on a folder of text: `run(text, "--seq_length=32")`."""
    with programs.Program(
        "tfrecord_builders.build",
        tmp_path_factory.mktemp("output"),
        "tfrecord_builders.building.pipeline",
    ) as program:
        yield lambda text, *flags: program.run(*arguments_of(text), *flags)


@pytest.mark.slow
def test_the_command_prints_a_summary_and_a_progress_bar(text, run):
    done = run(text, "--eval_fraction=0.1", "--test_fraction=0.1")
    assert done.returncode == 0, done.stderr
    assert "632 read, 600 kept, 20 duplicate, 12 too short" in done.stdout
    assert "extract: 100%" in done.stderr
    shown = subprocess.run(
        [
            sys.executable,
            "-m",
            "tfrecord_builders.show_records",
            f"--data_dir={text}/set",
            "--num_examples=2",
            "--split=eval",
        ],
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("[CLS]") == 2
    assert "[MASK]→" in shown.stdout


@pytest.mark.slow
def test_each_mistake_is_one_line_and_exit_code_2(text, run):
    shutil.copy(f"{text}/vocab.txt", f"{text}/short.txt")
    files.write_text(f"{text}/short.txt", "[PAD]\n[UNK]\n")
    for flags, expected in [
        (["--input=/nowhere/*.jsonl"], "/nowhere/*.jsonl"),
        (["--vocab_file=/nowhere"], "/nowhere: no such file"),
        ([f"--vocab_file={text}/short.txt"], "lacks [CLS], [SEP], [MASK]"),
        (["--text_field=body"], "body"),
        (["--eval_fraction=2"], "eval_fraction=2.0"),
        (["--dupe_factor=3", "--num_shards=4"], "num_shards=4"),
        (["--output_dir=/proc/x"], "/proc"),
        (["--runner=DirectRunner"], "Unknown command line flag 'runner'"),
    ]:
        done = run(text, *flags)
        line = done.stderr.strip().split("\n")[-1]
        assert done.returncode == 2, (flags, done.stderr)
        assert line.startswith("error: ") and expected in line
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_corrupt_file_fails_alone_and_is_read_after_it_is_repaired(text, run):
    builds.write_news(f"{text}/news-3.jsonl", seed=2)
    content = gzip.compress(files.read_bytes(f"{text}/news-3.jsonl"))
    os.remove(f"{text}/news-3.jsonl")
    # It comes before other files, so its size decides in which units they are.
    corrupt = f"{text}/news-10.jsonl.gz"
    flags = [f"--input={text}/news-*.jsonl*", "--unit_mb=0.05"]
    files.write_bytes(corrupt, content)
    undisturbed = run(text, *flags, f"--output_dir={text}/undisturbed")
    assert undisturbed.returncode == 0, undisturbed.stderr
    files.write_bytes(corrupt, content[: len(content) // 2])
    done = run(text, *flags, "--num_workers=2")
    assert done.returncode == 2
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
    assert line == done.stderr.splitlines()[-1]
    assert f"{corrupt}: the compressed data is truncated" in line
    assert "Traceback" not in done.stderr
    assert not os.path.exists(f"{text}/set/manifest.json")
    summaries = files.expand([f"{text}/set/work/extract/*.json"])
    assert f"error: 1 of {len(summaries) + 1} units of 'extract'" in line
    # Files that were read must not change, and options must not change.
    good = files.read_bytes(f"{text}/news-1.jsonl")
    files.write_bytes(f"{text}/news-1.jsonl", good + b"{}\n")
    files.write_bytes(corrupt, content)
    refused = run(text, *flags)
    assert "news-1.jsonl was 2" in refused.stderr, refused.stderr
    files.write_bytes(f"{text}/news-1.jsonl", good)
    refused = run(text, *flags, "--min_document_chars=50")
    assert "min_document_chars=100, not 50" in refused.stderr
    assert files.expand([f"{text}/set/work/extract/*.json"]) == summaries
    # The same command then makes the dataset of an undisturbed build.
    done = run(text, *flags)
    assert done.returncode == 0, done.stderr
    assert builds.contents(f"{text}/set") == builds.contents(
        f"{text}/undisturbed"
    )


def test_masks_are_as_the_options_ask(text):
    config = builds.config_of(
        text, masked_fraction=0.2, max_predictions_per_seq=0
    )
    build.main(config)
    manifest = manifests.read(config.output_dir)
    assert manifest.max_predictions_per_seq == 13
    train = manifest.splits["train"]
    num_text_tokens = train.num_tokens - 2 * train.num_examples
    assert abs(train.num_predictions / num_text_tokens - 0.2) < 0.01
    hidden = [
        e["input_ids"][e["masked_lm_positions"][e["masked_lm_weights"] > 0]]
        for e in builds.examples(config.output_dir, "train")
    ]
    mask_id = vocabulary.read(config.dataset.vocab_file).id(vocabulary.MASK)
    assert abs(np.mean(np.concatenate(hidden) == mask_id) - 0.8) < 0.02
