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


def wiki(language="", database="", names=()):
    """The header of a wiki; `names` are those of its namespaces, by number."""
    attribute = f' xml:lang="{language}"' if language else ""
    return (
        f"<mediawiki{attribute}>\n<siteinfo>\n<dbname>{database}</dbname>\n"
        + "".join(
            f'<namespace key="{key}" case="first-letter">{name}</namespace>\n'
            for key, name in names
        )
        + "</siteinfo>\n"
    )


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
    assert found[0].language == "de"
    assert found[1].id == "dewiki:2"


ENGLISH_NAMES = ((-2, "Media"), (6, "File"), (14, "Category"))


@pytest.mark.parametrize(
    "language, database, markup",
    [
        (
            "it",
            "itwiki",
            "[[Immagine:A.jpg|thumb|Un [[fiume]]]]T[[Categoria:X]]",
        ),
        ("pl", "plwiki", "[[Grafika:A.jpg|mały|O]]T[[Kategoria:X|Y]]"),
        ("ko", "kowiki", "[[그림:A.jpg|섬네일|강의 [[다리]]]]T[[분류:강]]"),
        ("he", "hewiki", "[[תמונה:A.jpg|ממוזער|נהר]]T[[קטגוריה:נהרות]]"),
        ("fa", "fawiki", "[[تصویر:A.jpg|رود]]T[[رده:رودها]]"),
        ("hr", "hrwiki", "[[DT:A.jpg|mini|rijeka]]T[[KT:Rijeke]]"),
        ("th", "thwiki", "[[ภาพ:A.jpg|แม่น้ำ]]T[[หมวดหมู่:แม่น้ำ]]"),
        ("vi", "viwiki", "[[Hình:A.jpg|Sông]]T[[thể_loại:Sông]]"),
        ("sr-el", "srwiki", "[[Слика:A.jpg|r]][[slika:A.jpg|r]]T"),
        ("zh-hant", "zhwiki", "[[图片:A.jpg|河]][[圖片:A.jpg|河]]T[[分类:河]]"),
        # Names of fallback languages.
        ("gsw", "alswiki", "[[Bild:A.jpg|E Fluss]]T[[Kategorie:X]]"),
        ("", "zh_classicalwiki", "[[檔案:A.jpg|河]]T[[分類:河]]"),
        # The database alone tells the language.
        ("", "be_x_oldwiki", "[[Выява:A.jpg|Рака]]T[[Катэгорыя:Рэкі]]"),
        ("", "nds_nlwiki", "[[Ofbeelding:A.jpg|R]]T"),
        # Nothing tells it.
        ("", "", "[[Slika:A.jpg|R]][[ファイル:A.jpg|R]]T"),
        # Spaces, underscores, case, marks of direction and English names.
        ("ru", "", "[[ изображение :A.jpg|r]][[\u200eФАЙЛ:A.jpg|r]]T"),
        ("tr", "", "[[Image:A.jpg|r]][[_category:X]]T[[Dosya:A.jpg|r]]"),
    ],
)
def test_a_wiki_s_links_of_files_and_categories_are_known_without_its_header(
    tmp_path, language, database, markup
):
    """Their captions are no prose."""
    header = wiki(language, database, ENGLISH_NAMES)
    content = header + page(1, "A", markup) + FOOTER
    assert kinds(read(f"{tmp_path}/a.xml", content)) == ["T"]


def test_links_to_files_and_categories_are_shown(tmp_path):
    content = (
        wiki("cs", "cswiki")
        + page(1, "A", "[[:Kategorie:Řeky]], [[:Soubor:A.jpg|obrázek]]")
        + page(2, "B", "[[Bild: Roman|Roman]] [[Bild: Roman]]")
        + FOOTER
    )
    # Bild is no namespace of the Czech wiki.
    texts = ["Řeky, obrázek", "Roman Bild: Roman"]
    assert kinds(read(f"{tmp_path}/a.xml", content)) == texts


@pytest.mark.parametrize(
    "language, database, code",
    [
        ("zh-Hans", "zhwiki", "zh"),
        ("en", "simplewiki", "en"),
        ("", "simplewiki", "en"),
        ("", "commonswiki", "en"),
        ("nb", "nowiki", "no"),
        ("", "zh_yuewiki", "yue"),
        ("", "frwiktionary", "fr"),
        ("", "roa_tarawiki", "roa-tara"),
        ("pt-br", "", "pt"),
        ("", "warehouse", ""),
    ],
)
def test_documents_have_the_language_of_the_wiki(
    tmp_path, language, database, code
):
    content = wiki(language, database) + page(1, "A", "Text.") + FOOTER
    assert read(f"{tmp_path}/a.xml", content)[0].language == code


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


def revision(text, number="", timestamp="", model="wikitext"):
    number = number and f"<id>{number}</id>"
    timestamp = timestamp and f"<timestamp>{timestamp}</timestamp>"
    return (
        f"<revision>{number}{timestamp}<model>{model}</model>"
        f"<text>{text}</text></revision>"
    )


@pytest.mark.parametrize(
    "revisions",
    [
        # By time, though a revision of an imported page has a higher number.
        [
            revision("Middle", 9, "2019-05-01T00:00:00Z"),
            revision("New", 7, "2021-01-31T23:59:59Z"),
            revision("Old", 8, "2004-12-01T10:00:00Z", model="json"),
        ],
        [
            revision("New", 10),
            revision("Middle", 9),
            revision("#REDIRECT [[B]]", 2),
        ],
        [
            revision("Old", 5, "2004-12-01T10:00:00Z"),
            revision("New", 6, "2004-12-01T10:00:00Z"),
            revision("Middle", 4, "2004-12-01T10:00:00Z"),
        ],
        [revision("Old"), revision("New")],
    ],
)
def test_the_newest_revision_is_read_in_any_order(tmp_path, revisions):
    content = (
        HEADER
        + "<page><title>A</title><ns>0</ns><id>1</id>"
        + "".join(revisions)
        + "</page>"
        + FOOTER
    )
    assert kinds(read(f"{tmp_path}/a.xml", content)) == ["New"]


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


@pytest.mark.parametrize(
    "language, title, markup",
    [
        ("sv", "Å (olika betydelser)", "* [[Å]]"),
        ("ru", "Лена (значения)", "* [[Лена]]"),
        ("zh", "河（消歧義）", "* [[河]]"),
        ("hu", "Tisza (egyértelműsítő lap)", "* [[Tisza]]"),
        ("lt", "Upė (reikšmės)", "* [[Upė]]"),
        ("hy", "Գետ", "{{Բազմիմաստություն}}"),
        ("fa", "رود", "{{ابهام‌زدایی}}"),
        ("th", "แม่น้ำ", "{{แก้ความกำกวม}}"),
        ("ka", "მდინარე", "{{მრავალმნიშვნელოვანი}}"),
        ("cs", "Řeka", "{{Šablona:rozcestník - příjmení}}"),
        ("fr", "Aa", "{{Homonymie de patronyme}}"),
        ("nb", "Å", "{{Peker}}"),
        # The words of its fallback language.
        ("ba", "Йылға", "{{Список однофамильцев}}"),
    ],
)
def test_disambiguation_pages_are_known_in_the_wiki_s_language(
    tmp_path, language, title, markup
):
    content = wiki(language) + page(1, title, markup) + FOOTER
    assert kinds(read(f"{tmp_path}/a.xml", content)) == ["disambiguation"]


@pytest.mark.parametrize(
    "language, title, markup",
    [
        # Notes above articles, which name other meanings.
        ("ru", "Лена", "{{Значения}} Лена"),
        ("sv", "Å", "{{Olika betydelser|Å}} Å"),
        ("de", "Aa", "{{Begriffsklärungshinweis}} Aa"),
        # In English, "gren" and "čvor" are no words for it.
        ("en", "Aa", "{{gren}} Aa"),
        ("en", "Aa (čvor)", "Aa"),
    ],
)
def test_articles_are_no_disambiguation_pages_by_another_language_s_word(
    tmp_path, language, title, markup
):
    content = wiki(language) + page(1, title, markup) + FOOTER
    assert kinds(read(f"{tmp_path}/a.xml", content)) != ["disambiguation"]


def test_last_sections_that_are_not_known_are_noted(tmp_path):
    markup = [
        "No section",
        "Intro\n== Historia ==\nA\n== Lähteet ==\nB",
        "Intro\n== Historia ==\nA\n=== Lähteet ===\nB",
        "Intro\n== Lähteet ==\nA\n== Tekijät ==&lt;!-- [[A]] --&gt;",
        "== Lähteet ==",
    ]
    pages = [page(i, "A", text) for i, text in enumerate(markup)]
    content = wiki("fi") + "".join(pages) + FOOTER
    found = read(f"{tmp_path}/a.xml", content)
    assert [item.unknown_heading for item in found] == [
        "",
        "",
        "Historia",
        "Tekijät",
        "",
    ]
    notes = [dict(item.notes) for item in found]
    known = {"articles_with_sections": 1}
    unknown = known | {"unknown_last_sections": 1}
    assert notes == [{}, known, unknown, unknown, known]


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
        (lambda text: text.replace("Talk.", "Talk\0."), "Talk", "character"),
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


def test_a_page_whose_damage_hides_the_next_page_is_an_error(tmp_path):
    """Else one dropped page would stand for two."""
    content = (HEADER + "".join(PAGES[:3]) + FOOTER).encode("utf-8")
    damaged = content.replace(b"</page>", b"</p\xe4ge>", 1)
    with pytest.raises(errors.UserError, match="</page> is missing"):
        read(f"{tmp_path}/a.xml", damaged)
    # The bytes between them are lost, and what is left is right XML.
    end, start = content.index(b"</page>"), content.index(b"<id>2</id>")
    with pytest.raises(errors.UserError, match="</page> is missing"):
        read(f"{tmp_path}/a.xml", content[:end] + content[start:])


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
