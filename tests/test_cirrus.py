import gzip
import json

import pytest

from bert_pretrain import errors, files
from tfrecord_builders.sources import cirrus, documents, streams

LEAD = "A river is water that flows."
BODY = "It ends in a lake. It may have 2 banks."


def action(number=7, verb="index"):
    return {verb: {"_type": "page", "_id": number}}


def article(**fields):
    return {
        "namespace": 0,
        "wiki": "nlwiki",
        "language": "nl",
        "title": "Rivier",
        "text": f"{LEAD} {BODY}",
        **fields,
    }


def lines_of(*records):
    return "".join(
        (record if isinstance(record, str) else json.dumps(record)) + "\n"
        for record in records
    ).encode("utf-8")


def read(path, *records):
    files.write_bytes(path, lines_of(*records))
    span = streams.Span("cirrus", path, 0, files.size(path))
    config = documents.SourceConfig(source=("cirrus",), input=(path,))
    return list(cirrus.read(streams.Stream(span), config))


def kinds(found):
    return [
        item.reason if isinstance(item, streams.Dropped) else item.text
        for item in found
    ]


def test_articles_are_read_with_their_language_and_number(tmp_path):
    found = read(
        f"{tmp_path}/a.json",
        action("12"),
        article(opening_text=LEAD),
        action(13, "create"),
        article(wiki="be_x_oldwiki", language="be-tarask"),
        action(14),
        article(opening_text="Of another version."),
    )
    assert found == [
        streams.Document("nlwiki:12", f"{LEAD}\n{BODY}", "nl"),
        streams.Document("be_x_oldwiki:13", f"{LEAD} {BODY}", "be"),
        streams.Document("nlwiki:14", f"{LEAD} {BODY}", "nl"),
    ]


def test_documents_without_actions_are_read(tmp_path):
    path = f"{tmp_path}/a.json"
    numberless = article(wiki=None, language=None)
    found = read(path, article(page_id=3), numberless, article(page_id=5))
    assert [item.id for item in found][::2] == ["nlwiki:3", "nlwiki:5"]
    assert found[1].id.startswith(f"{path}:")
    assert [item.language for item in found] == ["nl", "", "nl"]


@pytest.mark.parametrize(
    "fields, reason",
    [
        ({"namespace": 14}, "not_article"),
        ({"namespace": 1, "title": "Overleg:Rivier"}, "not_article"),
        ({"source_text": "#DOORVERWIJZING [[Beek]]"}, "redirect"),
        ({"text": " "}, "no_text"),
        ({"text": None}, "no_text"),
        ({"text": ["a"]}, "no_text"),
        ({"content_model": "Scribunto"}, "no_text"),
        ({"title": "Aa (doorverwijspagina)"}, "disambiguation"),
        ({"template": ["Sjabloon:Dp"]}, "disambiguation"),
        (
            {"language": "ro", "template": ["Format:Dezambiguizare"]},
            "disambiguation",
        ),
        (
            {"language": "ko", "category": ["강", "동음이의어 문서"]},
            "disambiguation",
        ),
        ({"source_text": "* [[Aa]]\n__DISAMBIG__"}, "disambiguation"),
    ],
)
def test_other_pages_are_dropped_for_the_reasons_of_xml_dumps(
    tmp_path, fields, reason
):
    found = read(f"{tmp_path}/a.json", action(), article(**fields))
    assert found == [streams.Dropped(reason, "nlwiki:7")]


def test_an_article_may_mention_disambiguation(tmp_path):
    found = read(
        f"{tmp_path}/a.json",
        action(),
        article(
            language="de",
            template=["Vorlage:Begriffsklärungshinweis", 5],
            category=["Fluss"],
            source_text="{{Begriffsklärungshinweis}} Ein Fluss.",
        ),
    )
    assert kinds(found) == [f"{LEAD} {BODY}"]


def test_each_bad_line_is_dropped_and_the_next_article_is_read(tmp_path):
    found = read(
        f"{tmp_path}/a.json",
        "",
        action(1),
        action(2),  # The document of 1 is missing.
        article(),
        action(3),
        '{"namespace": 0, "text": "cut',
        action(4),
        article(),
        "[1]",
        "[" * 100_000,
        article(page_id=5),
        {"title": "Of something else", "text": "Text."},
        action(6),  # The file is cut.
    )
    text = f"{LEAD} {BODY}"
    assert kinds(found) == [
        "no_document",
        text,
        "not_json",
        text,
        "not_json",
        "not_json",
        text,
        "not_cirrus",
        "no_document",
    ]
    assert [item.id for item in found if item[1] == text] == [
        "nlwiki:2",
        "nlwiki:4",
        "nlwiki:5",
    ]


def test_a_line_that_is_too_long_or_not_utf8_is_dropped_alone(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(streams, "MAX_DOCUMENT_BYTES", 2000)
    path = f"{tmp_path}/a.json"
    files.write_bytes(
        path,
        lines_of(action(1), article(text="x" * 3000), action(2))
        + lines_of(article()).replace(b"lake", b"l\xe4ke")
        + lines_of(action(3), article()),
    )
    span = streams.Span("cirrus", path, 0, files.size(path))
    config = documents.SourceConfig(source=("cirrus",), input=(path,))
    found = list(cirrus.read(streams.Stream(span), config))
    assert kinds(found)[:2] == ["too_long", "not_utf8"]
    assert found[2].id == "nlwiki:3"


def test_dumps_are_read_in_one_piece(tmp_path):
    """Also a large one, in which a unit might begin with half a page."""
    content = lines_of(
        *(line for i in range(50) for line in (action(i), article()))
    )
    for name, packed in (
        ("a.json", content),
        ("b.json.gz", gzip.compress(content)),
    ):
        path = f"{tmp_path}/{name}"
        files.write_bytes(path, packed)
        config = documents.SourceConfig(source=("cirrus",), input=(path,))
        units = documents.plan(config, unit_bytes=200)
        found = [
            item
            for unit in units
            for span in unit
            for item, _ in documents.read(span, config)
        ]
        assert [item.id for item in found] == [f"nlwiki:{i}" for i in range(50)]


def test_a_file_of_other_json_lines_is_an_error_that_names_the_source(tmp_path):
    path = f"{tmp_path}/news.json"
    files.write_bytes(path, lines_of({"text": "A"}, {"text": "B"}))
    config = documents.SourceConfig(source=("cirrus",), input=(path,))
    span = streams.Span("cirrus", path, 0, files.size(path))
    with pytest.raises(errors.UserError, match="source=jsonl") as caught:
        list(documents.read(span, config))
    assert str(caught.value).startswith(path)


def test_a_dump_that_is_cut_short_is_an_error(tmp_path):
    path = f"{tmp_path}/a.json.gz"
    packed = gzip.compress(lines_of(action(), article()) * 50)
    files.write_bytes(path, packed[:-20])
    config = documents.SourceConfig(source=("cirrus",), input=(path,))
    span = streams.Span("cirrus", path, 0, files.size(path))
    with pytest.raises(errors.UserError, match=path):
        list(documents.read(span, config))
