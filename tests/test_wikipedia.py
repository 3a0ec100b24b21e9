import bz2
import re

import pytest

from bert_pretrain import errors, files
from tfrecord_builders.sources import documents, streams, wikipedia

HEADER = """\
<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" \
xml:lang="de">
  <siteinfo>
    <dbname>dewiki</dbname>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="1" case="first-letter">Diskussion</namespace>
      <namespace key="6" case="first-letter">Datei</namespace>
      <namespace key="14" case="first-letter">Kategorie</namespace>
    </namespaces>
  </siteinfo>
"""
FOOTER = "</mediawiki>\n"


def page(number, title, text, namespace="<ns>0</ns>", extra="", model=""):
    return f"""\
  <page>
    <title>{title}</title>
    {namespace}
    <id>{number}</id>{extra}
    <revision>
      <id>99{number}</id>{model}
      <text bytes="1" xml:space="preserve">{text}</text>
    </revision>
  </page>
"""


PAGES = [
    page(1, "Fluss", "[[Datei:A.jpg|Ein Bild]]Ein '''Fluss''' &amp;lt; Meer."),
    page(2, "River", "#REDIRECT [[Fluss]]", extra='<redirect title="Fluss"/>'),
    page(3, "Bach", "#WEITERLEITUNG [[Fluss]]"),
    page(4, "Diskussion:Fluss", "Talk.", namespace="<ns>1</ns>"),
    page(5, "Lenn", "Lenn is\n* a river\n{{Begriffsklärung}}"),
    page(6, "Lenn (disambiguation)", "Lenn is a name."),
    page(7, "Aa", "{{Begriffsklärungshinweis}}\n{{disambiguation needed}}Aa."),
    page(8, "Leer", ""),
    page(9, "Daten", "{}", model="<model>json</model>"),
    page(10, "Kategorie:X", "Old.", namespace=""),
    page(11, "See: ein Text", "Ein &lt;b&gt;See&lt;/b&gt;.", namespace=""),
]
KINDS = [
    "Ein Fluss < Meer.",
    "redirect",
    "redirect",
    "not_article",
    "disambiguation",
    "disambiguation",
    "Aa.",
    "no_text",
    "no_text",
    "not_article",
    "Ein See.",
]


def read(path, content=None, start=0, end=None):
    if content is not None:
        if isinstance(content, str):
            content = content.encode("utf-8")
        files.write_bytes(path, content)
    span = streams.Span(
        "wikipedia", path, start, files.size(path) if end is None else end
    )
    config = documents.SourceConfig(source=("wikipedia",), input=(path,))
    return list(wikipedia.read(streams.Stream(span), config))


def kinds(found):
    return [
        item.reason if isinstance(item, streams.Dropped) else item.text
        for item in found
    ]


def test_articles_are_read_and_other_pages_dropped_with_their_reasons(tmp_path):
    found = read(f"{tmp_path}/a.xml", HEADER + "".join(PAGES) + FOOTER)
    assert kinds(found) == KINDS
    assert found[0].id == "dewiki:1"
    assert found[1].id == "dewiki:2"


def test_exports_of_any_version_and_histories_are_read(tmp_path):
    history = PAGES[0].replace(
        "    <revision>",
        "    <revision><text>Old</text></revision>\n    <revision>",
    )
    for version in ("0.3", "0.10", "0.11"):
        content = HEADER.replace("0.11", version) + history + FOOTER
        assert kinds(read(f"{tmp_path}/a.xml", content)) == KINDS[:1]
    content = "<mediawiki>" + PAGES[0] + FOOTER
    assert read(f"{tmp_path}/a.xml", content)[0].id == "wiki:1"


@pytest.mark.parametrize(
    "markup",
    [
        "#redirect [[A]]",
        "#REDIRECT: [[A]]",
        " #Weiterleitung[[A]]",
        "#REDIRECCIÓN [[A]]",
        "#перенаправление [[A]]",
        "#重定向 [[A]]",
        "# REDIRECT [[A]]",
    ],
)
def test_redirects_are_recognized_in_any_language(tmp_path, markup):
    content = HEADER + page(1, "A", markup) + FOOTER
    assert kinds(read(f"{tmp_path}/a.xml", content)) == ["redirect"]


@pytest.mark.parametrize(
    "markup, is_one",
    [
        ("{{disambig}}", True),
        ("{{Disambiguation|geo|hndis}}", True),
        ("{{ hndis|Lenn, A}}", True),
        ("{{Human name disambiguation}}", True),
        ("__DISAMBIG__", True),
        ("{{homonymie}}", True),
        ("{{消歧义}}", True),
        ("{{неоднозначность}}", True),
        ("{{geodis}}", True),
        ("{{dp}}", True),
        ("{{about|x||Lenn (disambiguation)}}", False),
        ("{{disambiguation needed|date=x}}", False),
        ("{{dablink|x}}", False),
        ("{{Voir homonymes|x}}", False),
        ("{{nota disambigua|x}}", False),
        ("a disambiguation", False),
    ],
)
def test_disambiguation_is_distinguished_from_its_mention(
    tmp_path, markup, is_one
):
    content = HEADER + page(1, "A", f"Text. {markup}") + FOOTER
    found = read(f"{tmp_path}/a.xml", content)
    assert (kinds(found) == ["disambiguation"]) == is_one


def test_ranges_of_a_dump_give_each_page_once(tmp_path):
    path = f"{tmp_path}/a.xml"
    pages = [page(i, "T" * (i % 5), f"Text ä {i}") for i in range(6)]
    whole = read(path, HEADER + "".join(pages) + FOOTER)
    size = files.size(path)
    for num_ranges in (1, 2, 3, 7, 20, 97, size):
        bounds = [size * i // num_ranges for i in range(num_ranges + 1)]
        # Divisions at single bytes, around a tag and at the end.
        if num_ranges == size:
            bounds = [0, *range(900, 960), *range(size - 20, size + 1)]
        parts = [
            item
            for start, end in zip(bounds[:-1], bounds[1:], strict=True)
            for item in read(path, start=start, end=end)
        ]
        assert parts == whole, num_ranges


@pytest.mark.parametrize("num_streams", [1, 4, 23])
def test_ranges_of_a_multistream_dump_give_each_page_once(
    tmp_path, num_streams
):
    """Also if streams do not end with a page, as in files of pbzip2."""
    path = f"{tmp_path}/a.xml.bz2"
    pages = [page(i, "T", f"Text {i} " + "x" * 50) for i in range(9)]
    content = (HEADER + "".join(pages) + FOOTER).encode("utf-8")
    cuts = [len(content) * i // num_streams for i in range(num_streams + 1)]
    files.write_bytes(
        path,
        b"".join(
            bz2.compress(content[i:j], 1 + i % 9)
            for i, j in zip(cuts[:-1], cuts[1:], strict=True)
        ),
    )
    whole = read(path)
    assert len(whole) == 9
    size = files.size(path)
    for num_ranges in (2, 3, 10, 50):
        bounds = [size * i // num_ranges for i in range(num_ranges + 1)]
        parts = [
            item
            for i in range(num_ranges)
            for item in read(path, start=bounds[i], end=bounds[i + 1])
        ]
        assert parts == whole, num_ranges


@pytest.mark.parametrize(
    "breakage, at_line, what",
    [
        (lambda text: text.replace("<text ", "<txt ", 1), "<txt ", "mismatch"),
        (lambda text: text.replace("<title>Bach", "<title><Bach"), "<Bach", ""),
        (
            lambda text: text[: text.index("Talk.")],
            "<page>",
            "inside this page",
        ),
        (lambda text: text.replace(FOOTER, ""), "", "without </mediawiki>"),
        (
            lambda text: text.replace("<page>", "<pge>", 3),
            "",
            "<page> is missing",
        ),
        (lambda text: text.replace("</page>", "", 1), "</page>", ""),
    ],
)
def test_broken_xml_is_an_error_that_names_file_and_line(
    tmp_path, breakage, at_line, what
):
    path = f"{tmp_path}/broken.xml"
    content = breakage(HEADER + "".join(PAGES) + FOOTER)
    with pytest.raises(errors.UserError) as caught:
        read(path, content)
    message = str(caught.value)
    assert message.startswith(f"{path}: broken XML at line ")
    assert what in message and "\n" not in message
    line = int(re.search(r"line (\d+)", message)[1])
    assert at_line in [*content.splitlines(), ""][line - 1]


def test_a_file_that_is_no_dump_is_an_error(tmp_path):
    for content in ("", "plain text", "<html><page></page></html>"):
        with pytest.raises(errors.UserError, match="not a MediaWiki"):
            read(f"{tmp_path}/a.xml", content)


def test_a_page_that_is_not_utf8_is_dropped_alone(tmp_path):
    content = (HEADER + "".join(PAGES[:3]) + FOOTER).encode("utf-8")
    found = read(f"{tmp_path}/a.xml", content.replace(b"Meer", b"M\xe4r"))
    assert kinds(found) == ["not_utf8", *KINDS[1:3]]
    assert found[0].id == "dewiki:1"


def test_a_page_that_is_too_large_is_skipped_and_not_kept_in_memory(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(streams, "MAX_DOCUMENT_BYTES", 3000)
    monkeypatch.setattr(streams, "_READ_BYTES", 64)
    monkeypatch.setattr(wikipedia, "_HEAD_BYTES", 1000)
    large = page(77, "Large", "x\n" * 5000)
    broken = PAGES[1].replace("<revision>", "<rev>")
    path = f"{tmp_path}/a.xml"
    found = read(path, HEADER + PAGES[0] + large + PAGES[2] + FOOTER)
    assert kinds(found) == [KINDS[0], "too_long", KINDS[2]]
    assert found[1].id == "dewiki:77"
    # Its lines still count.
    content = HEADER + large + broken + FOOTER
    with pytest.raises(errors.UserError, match="line ") as caught:
        read(path, content)
    line = int(re.search(r"line (\d+)", str(caught.value))[1])
    assert "</revision>" in content.splitlines()[line - 1]


def test_a_page_that_the_parser_rejects_is_dropped(tmp_path):
    content = HEADER + page(1, "A", "[[a " * 3000) + PAGES[0] + FOOTER
    assert kinds(read(f"{tmp_path}/a.xml", content)) == ["unparsable", KINDS[0]]
