"""The report describes a dataset, and opens without a network.

`REPORT_OF=output/records pytest -n0 tests/test_report.py -k chromium` opens the
page about that dataset and takes the picture in the README.
"""

import dataclasses
import functools
import html.parser
import http.server
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import tempfile
import threading

import numpy as np
import pytest

from bert_pretrain import errors, files, options
from bert_pretrain.data import manifests, records, vocabulary
from tfrecord_builders import build, report
from tfrecord_builders.reporting import page, statistics
from tfrecord_builders.stages import build_config

CHROMIUM = shutil.which("chromium")
REPORT_OF = os.environ.get("REPORT_OF")
README_PICTURE = pathlib.Path(__file__).parents[1] / "docs" / "report.png"


WORDS = [a + b for a in "bdfgklmnprst" for b in "aeiou"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A dataset of made-up news with duplicates, and the page about it."""
    folder = tmp_path_factory.mktemp("report")
    write_text(folder, num_documents=200)
    make_page(folder)
    return folder


def write_text(folder, num_documents):
    vocabulary.Vocabulary(
        (*vocabulary.SPECIAL_TOKENS, ".", "<b>", *WORDS), is_lower_case=True
    ).write(f"{folder}/vocab.txt")
    rng = random.Random(0)
    lines = []
    for _ in range(num_documents):
        text = " ".join(
            " ".join(rng.choices(WORDS, k=rng.randint(5, 30))) + "."
            for _ in range(rng.randint(2, 12))
        )
        lines += [text, text] if rng.random() < 0.1 else [text]
    files.write_text(
        f"{folder}/news.jsonl",
        "\n".join(json.dumps({"text": line}) for line in lines),
    )


def make_page(folder, rows=(), masking=(), source=(), **values):
    """Builds a dataset from the text in a folder; returns the page about it."""
    build.main(
        options.from_dict(
            build_config.BuildConfig,
            {
                "dataset": {
                    "source": {
                        "source": ("jsonl",),
                        "input": (f"{folder}/news.jsonl",),
                        **dict(source),
                    },
                    "rows": {"seq_length": 64, **dict(rows)},
                    "masking": dict(masking),
                    "filters": {"filters": "none"},
                    "deduplication": {},
                    "vocab_file": f"{folder}/vocab.txt",
                    "eval_fraction": 0.1,
                    "test_fraction": 0.05,
                    "num_shards": 4,
                    **values,
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
    return (folder / "report.html").read_text()


def section(page, title):
    return page.split(f"{title}</h2>")[1].split("</section>")[0]


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


def test_the_page_is_complete_and_loads_nothing_from_elsewhere(built):
    text = (built / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.addresses == ["data:,"]
    assert "<script" not in text and "url(" not in text


def test_the_page_says_what_the_manifest_says(built):
    text = (built / "report.html").read_text()
    manifest = manifests.read(f"{built}/set")
    counts = manifest.documents
    assert counts["dropped"]["duplicate"] > 5
    assert f"read {counts['read']:,}" in text
    assert f"kept {counts['kept']:,}" in text
    assert f"duplicate {counts['dropped']['duplicate']:,}" in text
    for name, split in manifest.splits.items():
        assert f"{name} {split.num_documents:,}" in text
        assert f"<td>{split.num_examples:,}</td>" in text


def test_the_mask_rates_found_are_near_those_asked_for(built):
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
    examples = section(text, "20 examples").split("<p>")[1:]
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
def test_examples_are_from_all_over_the_dataset(
    make_dataset, sizes, num_examples, positions
):
    data_dir = make_dataset(train=sizes)
    manifest = manifests.read(data_dir)
    vocab = vocabulary.read(f"{data_dir}/{vocabulary.FILE_NAME}")
    paths = files.expand([f"{data_dir}/train-*"])
    rows = list(records.read_examples(paths))
    sample = statistics.read_sample(
        data_dir, manifest, records.TRAIN, vocab, num_examples
    )
    assert sample.decoded == [
        statistics._decode(rows[i], vocab) for i in positions
    ]


def test_repeated_documents_are_not_counted_as_kept_twice(tmp_path):
    write_text(tmp_path, num_documents=60)
    page = make_page(tmp_path, source={"weight": (2.0,)})
    manifest = manifests.read(f"{tmp_path}/set")
    splits = manifest.splits
    held_out = splits["eval"].num_documents + splits["test"].num_documents
    once = manifest.documents["kept"] - held_out
    assert splits["train"].num_documents == 2 * once
    assert f">train {once}<" in section(page, "Where the documents went")
    assert f"{once} training documents {2 * once} times" in page
    assert f"<td>{once}</td><td>{2 * once}</td>" in section(page, "Splits")


def with_sources(built, sources):
    """The page about the dataset with other sources in its manifest."""
    manifest = manifests.read(f"{built}/set")
    sources = tuple(
        {"read": kept + sum(dropped.values()), "kept": kept, "dropped": dropped}
        | names
        for names, kept, dropped in sources
    )
    counts = {
        "read": sum(source["read"] for source in sources),
        "kept": sum(source["kept"] for source in sources),
        "dropped": {},
    }
    for source in sources:
        for reason, count in source["dropped"].items():
            counts["dropped"][reason] = count + counts["dropped"].get(reason, 0)
    sample = statistics.Sample(0, {}, 0, 0, {}, [], [])
    return page.render(
        "set",
        dataclasses.replace(manifest, sources=sources, documents=counts),
        {records.TRAIN: sample},
        [],
    )


def test_the_files_of_an_input_count_as_one_source(built):
    page = with_sources(
        built,
        [
            *(
                ({"path": f"wiki/{i}", "input": "wiki/*"}, 100, {"redirect": 7})
                for i in range(50)
            ),
            ({"path": "news.txt", "input": "news.txt"}, 10, {"too_short": 3}),
        ],
    )
    sources = section(page, "Sources")
    assert sources.count("<svg") == 2
    assert (
        "50 files: 5,350 read, 5,000 kept (93.5%), dropped: redirect 350<"
        in sources
    )
    assert "13 read, 10 kept (76.9%), dropped: too short 3<" in sources
    flow = section(page, "Where the documents went")
    for label in ("wiki/* 5,350", "news.txt 13", "redirect 350", "too short 3"):
        assert f">{label}<" in flow
    # Two bands from each input, and three from kept to the splits.
    assert flow.count("<path") == 4 + 3


def test_the_largest_of_many_sources_are_shown_and_all_are_counted(built):
    page = with_sources(
        built,
        [({"path": f"file{i}"}, 1000 + i, {"redirect": 1}) for i in range(400)],
    )
    sources = section(page, "Sources")
    assert sources.count("<svg") == 21
    assert "file399<" in sources and "file379<" not in sources
    assert "and 380 more<" in sources
    assert "380 files: 452,390 read, 452,010 kept" in sources
    assert ">and 392 more 469,028<" in section(page, "Where the documents went")


@pytest.mark.parametrize("eval_fraction", [0.1, 0])
def test_examples_without_masks_are_explained(tmp_path, eval_fraction):
    write_text(tmp_path, num_documents=60)
    page = make_page(
        tmp_path,
        masking={"masking": "none"},
        eval_fraction=eval_fraction,
        test_fraction=0,
    )
    examples = section(page, "20 examples")
    masks = section(page, "Masks: asked and found")
    assert "The training rows have no masks" in masks
    if eval_fraction:
        assert "From eval: the training rows hold no masks" in examples
        assert examples.count('class="mask"') > 20
        assert "found in eval" in masks
    else:
        assert "They hold no masks" in examples
        assert 'class="mask"' not in examples


def test_a_packed_dataset_shows_what_packing_saves_and_how_documents_lie(
    tmp_path,
):
    write_text(tmp_path, num_documents=60)
    page = make_page(tmp_path, rows={"packing": True, "seq_length": 256})
    train = manifests.read(f"{tmp_path}/set").splits["train"]
    before = f"{train.unpacked_padding_fraction:.1%}"
    after = f"{train.padding_fraction:.1%}"
    assert f"<b>{after}</b>padding, {before} if not packed" in page
    assert f"<td>{after}</td><td>{before}</td>" in section(page, "Splits")
    assert f"With one document in each row, {before}" in section(
        page, "Lengths"
    )
    drawn = histograms(page)
    num_documents = sum(
        int(name) * count
        for name, count in drawn["documents in an example"].items()
    )
    assert num_documents > train.num_examples
    assert num_documents == sum(
        drawn["tokens of a document in an example"].values()
    )


def test_pairs_have_a_histogram_for_each_segment(tmp_path):
    write_text(tmp_path, num_documents=60)
    drawn = histograms(make_page(tmp_path, rows={"pairing": "nsp"}))
    train = manifests.read(f"{tmp_path}/set").splits["train"]
    assert set(drawn) == {
        "tokens of an example",
        "tokens of the first segment",
        "tokens of the second segment",
        "predictions in an example",
    }
    for counts in drawn.values():
        assert sum(counts.values()) == train.num_examples


def histograms(page):
    """The bins of each histogram: {title: {name: count}}."""
    return {
        title: {
            name: int(count.replace(",", ""))
            for name, count in re.findall(r"<title>([^<:]+): ([\d,]+)<", drawn)
        }
        for title, drawn in re.findall(
            r"<h3>([^<]+)</h3>(.*?)</svg>", section(page, "Lengths")
        )
    }


def test_each_number_is_in_the_bin_of_its_name():
    values = np.array([1, 2, 2, 3, 4, 64])
    bins = page._bins(values)
    assert len(bins) == 32
    assert bins[:2] == [("1 – 2", 3), ("3 – 4", 2)]
    assert bins[-1] == ("63 – 64", 1)
    assert page._bins(np.array([0, 2, 2])) == [("0", 1), ("1", 0), ("2", 2)]
    # The last bin ends at the largest value.
    assert page._bins(np.arange(1, 36))[-1] == ("35", 1)


def test_the_earlier_of_two_near_duplicates_is_not_called_kept(built):
    def document(name):
        return {"id": name, "text": f"The text of {name}."}

    # Only a was kept of the chain a, b, c.
    pairs = [
        {"similarity": 0.9, "earlier": document("a"), "later": document("b")},
        {"similarity": 0.9, "earlier": document("b"), "later": document("c")},
    ]
    shown = page._near_duplicates(pairs)
    assert "kept" not in shown
    assert "<small>earlier: b</small>" in shown
    assert "<small>dropped: c</small>" in shown
    assert "The earlier document was dropped too if" in shown


def test_records_of_another_builder_have_a_page(make_dataset):
    data_dir = make_dataset()
    manifest = manifests.read(data_dir)
    output_file = f"{data_dir}/report.html"
    report.main(report.ReportConfig(data_dir=data_dir, output_file=output_file))
    page = pathlib.Path(output_file).read_text()
    for title in ("Where the documents went", "Sources"):
        assert "another builder made" in section(page, title)
    assert "documents kept" not in page
    assert f"<td>{manifest.splits['train'].num_documents}</td>" in page


def test_an_incomplete_dataset_is_refused(built, tmp_path):
    shutil.copytree(built / "set", tmp_path / "set")
    (tmp_path / "set" / vocabulary.FILE_NAME).write_text(
        "\n".join((*vocabulary.SPECIAL_TOKENS, "the"))
    )
    config = report.ReportConfig(
        data_dir=f"{tmp_path}/set", output_file=f"{tmp_path}/report.html"
    )
    with pytest.raises(
        errors.UserError, match="vocab.txt: the vocabulary has sha256"
    ):
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
    shown = statistics._decode(records.to_arrays(serialized, "x"), vocab)
    assert "<b>" not in shown.replace("<b>&lt;b&gt;</b>", "")
    assert "&amp;" in shown


needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed"
)


@pytest.fixture
def browse(tmp_path):
    """Opens a page in Chromium.

    `browse(text)` -> (addresses that the page asked for, lines that it wrote to
    the console, a picture of it). The page comes from a server, because
    Chromium does not log the requests of a local file.
    """
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=folder
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        address = f"http://127.0.0.1:{server.server_port}/report.html"

        def open_page(text):
            (folder / "report.html").write_text(text)
            # A new profile, because the cache may hold an earlier page.
            return run_chromium(address, tempfile.mkdtemp(dir=tmp_path))

        yield open_page
        server.shutdown()


def run_chromium(address, folder):
    log, screenshot = f"{folder}/netlog.json", f"{folder}/report.png"
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--enable-logging=stderr",
            f"--user-data-dir={folder}/profile",
            f"--log-net-log={log}",
            "--hide-scrollbars",
            "--window-size=1000,1400",
            f"--screenshot={screenshot}",
            address,
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    events = [
        event["params"]
        for event in json.loads(files.read_text(log))["events"]
        if "initiator" in event.get("params", {})
    ]
    # Requests of the browser itself, such as the page, have no initiator.
    asked = {is_page: [] for is_page in (False, True)}
    for params in events:
        asked[params["initiator"] != "not an origin"].append(params["url"])
    assert address in asked[False]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return asked[True], console, files.read_bytes(screenshot)


@pytest.mark.slow
@needs_chromium
def test_chromium_opens_the_page_and_the_page_asks_for_nothing(
    built, browse, tmp_path
):
    page = built / "report.html"
    if REPORT_OF:
        page = tmp_path / "report.html"
        report.main(
            report.ReportConfig(data_dir=REPORT_OF, output_file=str(page))
        )
    asked, console, picture = browse(page.read_text())
    assert asked == [] and console == []
    assert picture.startswith(b"\x89PNG") and len(picture) > 20_000
    if REPORT_OF:
        README_PICTURE.write_bytes(picture)


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize(
    "broken, asked_for",
    [
        ('<img src="https://elsewhere.test/a.png">', "elsewhere.test/a.png"),
        ('<img src="missing.png">', "/missing.png"),
        ('<link rel="stylesheet" href="missing.css">', "/missing.css"),
        ('<iframe src="http://elsewhere.test/"></iframe>', "elsewhere.test/"),
        ('<script>console.error("a fault")</script>', None),
        ("<script>throw Error('a fault')</script>", None),
    ],
)
def test_chromium_reports_a_page_that_is_broken(
    built, browse, broken, asked_for
):
    page = (built / "report.html").read_text()
    page = page.replace("</main>", f"{broken}</main>")
    # The page's policy prevents all of it, and chromium reports that.
    asked, console, _ = browse(page)
    assert asked == [] and "Content Security Policy" in console[0]
    asked, console, _ = browse(re.sub("<meta http-equiv[^>]*>", "", page))
    if asked_for:
        assert any(asked_for in url for url in asked)
    else:
        assert asked == [] and "a fault" in console[0]
