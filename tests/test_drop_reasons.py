"""Losses of nearly all documents are told, with counts and a remedy."""

import json

import pytest

from bert_pretrain import errors, files
from helpers import builds, prose
from tfrecord_builders.building import losses, pipeline
from tfrecord_builders.quality import drop_reasons


def test_counts_come_in_their_order():
    dropped = {"too_short": 3, "repeated_ngrams": 2961, "no_text": 0}
    assert drop_reasons.count(3000, dropped) == (
        "3,000 read, 2,961 repeated_ngrams, 3 too_short"
    )
    assert drop_reasons.count(5, {}) == "5 read, none dropped"


@pytest.mark.parametrize(
    "num_read, dropped, remedy",
    [
        (300, {"repeated_ngrams": 296}, "--filters=none"),
        (300, {"too_short": 290, "duplicate": 5}, "--min_document_chars"),
        (10, {"other_language": 10}, "--language"),
        (10, {"too_long": 9}, "--text_layout=line"),
        (10, {"not_utf8": 8}, "iconv"),
        (10, {"near_duplicate": 8}, "--near_duplicate_threshold"),
        # Of the pages that are articles, nearly all were dropped.
        (100, {"redirect": 80, "no_text": 19}, ""),
        # A reason that is not known here.
        (10, {"bad_row": 9}, "10 read, 9 bad_row"),
    ],
)
def test_a_loss_has_counts_and_a_remedy(num_read, dropped, remedy):
    loss = drop_reasons.find_loss(num_read, dropped)
    assert f"{num_read} read" in loss or dropped.get("redirect")
    assert remedy in loss


@pytest.mark.parametrize(
    "num_read, dropped",
    [
        (0, {}),
        (300, {}),
        (300, {"repeated_ngrams": 200}),
        (300, {"repeated_ngrams": 150, "too_short": 140}),
        # Dumps are mostly redirects, and crawls mostly of other types.
        (300, {"redirect": 290}),
        (300, {"not_html": 260, "not_fetched": 30}),
        (300, {"not_sampled": 299}),
    ],
)
def test_what_is_usual_is_no_loss(num_read, dropped):
    assert drop_reasons.find_loss(num_read, dropped) == ""


def write(path, texts):
    files.write_text(path, "\n".join(json.dumps({"text": t}) for t in texts))


@pytest.fixture
def text(tmp_path):
    """30 good documents in one file, and 12 of 13 bad ones in another."""
    builds.write_vocabulary(f"{tmp_path}/vocab.txt")
    builds.write_news(f"{tmp_path}/news-good.jsonl", 60)
    spam = [f"{prose.NEWS['en']} {prose.NEWS['en']} {i}" for i in range(12)]
    write(f"{tmp_path}/news-spam.jsonl", [*spam, prose.NEWS["en"]])
    return str(tmp_path)


def test_a_file_that_lost_its_documents_is_named(text, capsys):
    pipeline.build(builds.config_of(text))
    (warning,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert "news-spam.jsonl: 13 read, 12 repeated_ngrams; " in warning
    assert "--filters=none" in warning


def test_an_input_that_lost_its_documents_is_named_once(text, capsys):
    spam = files.read_text(f"{text}/news-spam.jsonl")
    for i in range(3):
        files.write_text(f"{text}/spam-{i}.jsonl", spam)
    pipeline.build(
        builds.config_of(
            text,
            input=(f"{text}/news-good.jsonl", f"{text}/spam-*.jsonl"),
            near_duplicate_threshold=0,
        )
    )
    told = capsys.readouterr().err.count("warning")
    assert told == 1


def test_an_empty_split_tells_the_loss_and_not_only_the_share(text):
    config = builds.config_of(text, input=(f"{text}/news-spam.jsonl",))
    with pytest.raises(
        errors.UserError, match=r"13 read, 12 repeated_ngrams; .*=none"
    ):
        pipeline.build(config)


def test_no_document_at_all_tells_the_loss(text):
    lines = files.read_text(f"{text}/news-spam.jsonl").splitlines()[:12]
    files.write_text(f"{text}/all.jsonl", "\n".join(lines))
    config = builds.config_of(text, input=(f"{text}/all.jsonl",))
    with pytest.raises(
        errors.UserError, match=r"no document .*12 read, 12 repeated_ngrams; "
    ):
        pipeline.build(config)


def test_few_warnings_are_shown(capsys):
    class Manifest:
        sources = [
            {
                "path": f"{i}.txt",
                "input": "*.txt",
                "read": 20,
                "dropped": {"too_short": 20} if i < 12 else {},
                "first_fault": "",
            }
            for i in range(20)
        ]

    losses.warn(Manifest())
    shown = capsys.readouterr().err.strip().splitlines()
    assert len(shown) == 6
    assert "7 more files" in shown[-1]
