"""The report says what is in a set, and opens without a network.

`REPORT_OF=output/records pytest -n0 tests/test_report.py -k chromium` opens
the page about that set and takes the picture that the README shows.
"""

import html.parser
import json
import os
import pathlib
import random
import re
import shutil
import subprocess

import numpy as np
import pytest

from bert_pretrain import errors, files, options, records, vocabulary
from tfrecord_builders import build, report

CHROMIUM = shutil.which("chromium")
REPORT_OF = os.environ.get("REPORT_OF")
README_PICTURE = pathlib.Path(__file__).parents[1] / "docs" / "report.png"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A set of made-up news with repeats, and the page about it."""
    folder = tmp_path_factory.mktemp("report")
    words = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    vocabulary.Vocabulary(
        (*vocabulary.SPECIAL_TOKENS, ".", "<b>", *words), is_lower_case=True
    ).write(f"{folder}/vocab.txt")
    rng = random.Random(0)
    lines = []
    for _ in range(200):
        text = " ".join(
            " ".join(rng.choices(words, k=rng.randint(5, 30))) + "."
            for _ in range(rng.randint(2, 12))
        )
        lines += [text, text] if rng.random() < 0.1 else [text]
    files.write_text(
        f"{folder}/news.jsonl",
        "\n".join(json.dumps({"text": line}) for line in lines),
    )
    build.main(
        options.from_dict(
            build.BuildConfig,
            {
                "set": {
                    "source": {
                        "source": ("jsonl",),
                        "input": (f"{folder}/news.jsonl",),
                    },
                    "rows": {"seq_length": 64},
                    "masking": {},
                    "filters": {"filters": "none"},
                    "deduplication": {},
                    "vocab_file": f"{folder}/vocab.txt",
                    "eval_fraction": 0.1,
                    "test_fraction": 0.05,
                    "num_shards": 4,
                },
                "output_dir": f"{folder}/set",
                "num_workers": 1,
            },
        )
    )
    report.main(
        report.ReportConfig(
            data_dir=f"{folder}/set", output_file=f"{folder}/report.html"
        )
    )
    return folder


class Page(html.parser.HTMLParser):
    """The tags that are open at the end, and all addresses in the page."""

    VOID = {"meta", "link"}

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.addresses += [v for k, v in attrs if k in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_for_nothing_from_elsewhere(built):
    text = (built / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.addresses == ["data:,"]
    assert "<script" not in text and "url(" not in text


def test_the_page_says_what_the_manifest_says(built):
    text = (built / "report.html").read_text()
    manifest = records.read_manifest(f"{built}/set")
    counts = manifest.documents
    assert counts["dropped"]["duplicate"] > 5
    assert f"read {counts['read']:,}" in text
    assert f"kept {counts['kept']:,}" in text
    assert f"duplicate {counts['dropped']['duplicate']:,}" in text
    for name, split in manifest.splits.items():
        assert f"{name} {split.num_documents:,}" in text
        assert f"<td>{split.num_examples:,}</td>" in text


def test_masks_found_are_near_those_asked(built):
    text = (built / "report.html").read_text()
    shares = {
        name: [float(asked), float(found)]
        for name, asked, found in re.findall(
            r"<td>([^<]+)</td><td>([\d.]+)%</td><td>([\d.]+)%</td>", text
        )
    }
    assert set(shares) == {
        "tokens predicted",
        "of these: [MASK]",
        "of these: random",
        "of these: kept",
    }
    for asked, found in shares.values():
        assert abs(asked - found) < 2.5


def test_twenty_examples_show_their_masks_in_colour(built):
    text = (built / "report.html").read_text()
    section = text.split("20 examples</h2>")[1].split("</section>")[0]
    examples = section.split("<p>")[1:]
    assert len(examples) == 20
    assert all("[CLS]" in example for example in examples)
    assert sum('class="mask"' in example for example in examples) >= 19


@pytest.mark.parametrize(
    "sizes, num_examples, positions",
    [
        ((30, 10, 20), 20_000, range(0, 60, 3)),
        # The first twenty of each shard are read.
        ((30, 25), 40, [*range(0, 20, 2), *range(30, 50, 2)]),
        ((9, 4), 20_000, range(13)),
    ],
)
def test_examples_are_from_all_over_the_set(
    make_set, sizes, num_examples, positions
):
    data_dir = make_set(train=sizes)
    manifest = records.read_manifest(data_dir)
    vocab = vocabulary.read(f"{data_dir}/{vocabulary.FILE_NAME}")
    paths = files.expand([f"{data_dir}/train-*"])
    rows = list(records.read_examples(paths))
    sample = report.read_sample(data_dir, manifest, vocab, num_examples)
    assert sample.decoded == [report._decode(rows[i], vocab) for i in positions]


def test_a_set_that_is_not_whole_is_refused(built, tmp_path):
    shutil.copytree(built / "set", tmp_path / "set")
    (tmp_path / "set" / vocabulary.FILE_NAME).write_text(
        "\n".join(vocabulary.SPECIAL_TOKENS)
    )
    config = report.ReportConfig(
        data_dir=f"{tmp_path}/set", output_file=f"{tmp_path}/report.html"
    )
    with pytest.raises(errors.UserError, match="vocab.txt: sha256"):
        report.main(config)


def test_text_cannot_become_markup():
    vocab = vocabulary.Vocabulary(
        (*vocabulary.SPECIAL_TOKENS, "<b>", "&"), is_lower_case=True
    )
    rows = {
        "input_ids": [[2, 5, 4, 6, 3]],
        "attention_mask": [[1] * 5],
        "token_type_ids": [[0] * 5],
        "masked_lm_positions": [[2]],
        "masked_lm_ids": [[5]],
        "masked_lm_weights": [[1.0]],
        "next_sentence_labels": [[0]],
    }
    (serialized,) = records.serialize(
        {name: np.array(values) for name, values in rows.items()}
    )
    shown = report._decode(records.to_arrays(serialized, "x"), vocab)
    assert "<b>" not in shown.replace("<b>&lt;b&gt;</b>", "")
    assert "&amp;" in shown


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_chromium_opens_it_and_nothing_fails_to_load(built, tmp_path):
    log, page = tmp_path / "log", built / "report.html"
    screenshot = tmp_path / "report.png"
    if REPORT_OF:
        page, screenshot = tmp_path / "report.html", README_PICTURE
        report.main(
            report.ReportConfig(data_dir=REPORT_OF, output_file=str(page))
        )
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path}/profile",
            f"--log-net-log={log}",
            "--window-size=1000,1400",
            f"--screenshot={screenshot}",
            f"file://{page}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr  # Refused loads are logged there.
    picture = screenshot.read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 20_000
    # Every address that the browser was asked for, the page's own included.
    asked = set(
        re.findall(r'"url":"((?:file|https?)://[^"]+)"', log.read_text())
    )
    folder = page.parent.name
    assert {url for url in asked if folder in url} <= {f"file://{page}"}
