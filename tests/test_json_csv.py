import json

import pytest

from bert_pretrain import errors, files
from tfrecord_builders.sources import documents, json_csv, streams

STORY = "Rain fell on the coast."


def read(path, content, start=0, end=None, **options):
    if isinstance(content, str):
        content = content.encode("utf-8")
    if content is not None:
        files.write_bytes(path, content)
    source = path.rpartition(".")[2]
    span = streams.Span(
        source, path, start, files.size(path) if end is None else end
    )
    config = documents.SourceConfig(source=(source,), input=(path,), **options)
    reader = {"jsonl": json_csv.read_jsonl, "csv": json_csv.read_csv}[source]
    return list(reader(streams.Stream(span), config))


def kinds(found):
    return [
        item.reason if isinstance(item, streams.Dropped) else item.text
        for item in found
    ]


def test_the_title_is_the_first_line_unless_the_text_begins_with_it(tmp_path):
    lines = [
        {"title": " Rain\n warning ", "text": STORY},
        {"title": "Rain fell", "text": STORY},
        {"title": None, "text": STORY},
        {"text": STORY},
    ]
    found = read(f"{tmp_path}/a.jsonl", "\n".join(map(json.dumps, lines)))
    assert [item.text.strip() for item in found] == [
        "Rain warning\n" + STORY,
        STORY,
        STORY,
        STORY,
    ]
    found = read(f"{tmp_path}/a.jsonl", json.dumps(lines[0]), title_field="")
    assert found[0].text.strip() == STORY


def test_bad_json_lines_are_dropped_with_their_reasons(tmp_path):
    lines = [
        b'{"text": "good"}',
        b"",
        b"{",
        b"[1]",
        b'{"text": null}',
        b'{"text": 3}',
        b'{"text": "caf\xe9"}',
        b'{"other": 1}',
        b"[" * 100_000,
        b"1" * 5000,
        b'{"text": "\\u0000 \\ud800"}',
    ]
    found = read(f"{tmp_path}/a.jsonl", b"\n".join(lines))
    assert [item.strip() for item in kinds(found)] == [
        "good",
        "not_json",
        "not_json",
        "no_text",
        "not_text",
        "not_utf8",
        "no_text",
        "not_json",
        "not_json",
        "\x00 \ud800",
    ]
    position = b"\n".join(lines).index(b"\xe9")
    assert f"not UTF-8 at byte {position} (0xe9)" in found[5].detail
    for item in found[1:3]:
        assert "; a file of JSON lines must have one JSON" in item.detail


def test_ranges_of_json_lines_give_each_record_once(tmp_path):
    lines = [
        json.dumps({"text": "ä" * (i % 7) + str(i)}, ensure_ascii=False)
        for i in range(12)
    ]
    for content in (
        "\n".join(lines),
        "\r\n".join(lines) + "\r\n",
        "\n\n" + "\n\n".join(lines) + "\n",
    ):
        path = f"{tmp_path}/a.jsonl"
        whole = read(path, content)
        assert [item.text.strip() for item in whole] == [
            json.loads(line)["text"] for line in lines
        ]
        size = len(content.encode("utf-8"))
        for num_ranges in (1, 2, 3, 10, 41, size):
            bounds = [size * i // num_ranges for i in range(num_ranges + 1)]
            parts = [
                item
                for i in range(num_ranges)
                for item in read(path, None, bounds[i], bounds[i + 1])
            ]
            assert parts == whole


def test_a_field_in_no_record_is_an_error_that_lists_the_fields(tmp_path):
    path = f"{tmp_path}/a.jsonl"
    lines = '{"body": "x", "headline": "y"}\n{"body": "x", "date": 1}'
    with pytest.raises(
        errors.UserError,
        match=(r"a\.jsonl: text_field='text' .*'body', 'headline', 'date'"),
    ):
        read(path, lines)
    with pytest.raises(errors.UserError, match="title_field='titel'"):
        read(path, lines, text_field="body", title_field="titel")
    found = read(path, lines, text_field="body", title_field="headline")
    assert found[0].text == "y\nx"
    # A later range of a file cannot tell, nor does one record decide.
    assert kinds(read(path, lines, start=31)) == ["no_text"]
    assert kinds(read(path, lines + '\n{"text": "z"}'))[:2] == ["no_text"] * 2


CSV = (
    'id,title,text\r\n1,"Rain, and ""wind""","First line\r\n\r\nsecond'
    ' line"\r\n2,,plain\r\n\r\n3,short\r\n'
)


def test_csv_fields_may_hold_quotes_commas_and_line_breaks(tmp_path):
    found = read(f"{tmp_path}/a.csv", CSV)
    assert [item.split() for item in kinds(found)] == [
        'Rain, and "wind" First line second line'.split(),
        ["plain"],
        ["wrong_columns"],
    ]
    assert len({item.id for item in found}) == 3


def test_csv_has_any_delimiter_and_may_have_no_header(tmp_path):
    path = f"{tmp_path}/a.csv"
    found = read(
        path,
        "7\tHead\tStory\n",
        csv_delimiter="\\t",
        csv_columns="class,title,text",
    )
    assert found[0].text == "Head\nStory"
    found = read(path, b"\xef\xbb\xbftext;b\nStory;1\n", csv_delimiter=";")
    assert found[0].text.strip() == "Story"


def test_a_wrong_column_is_an_error_that_lists_the_columns(tmp_path):
    with pytest.raises(
        errors.UserError,
        match=(r"a\.csv: text_field='body' .*'id', 'title', 'text'"),
    ):
        read(f"{tmp_path}/a.csv", CSV, text_field="body")
    with pytest.raises(errors.UserError, match=r"text_field='text'.*'a', 'b'"):
        read(f"{tmp_path}/a.csv", "1,Story\n", csv_columns="a,b")


def test_csv_fields_of_any_size_nul_and_bad_bytes(tmp_path):
    long = "word " * 100_000  # Python's own limit is 131,072 characters.
    content = (
        f'text,other\n"{long}",1\nnul\0char,2\n'.encode()
        + b"caf\xe9,3\ngood,\xe9\n"
    )
    found = read(f"{tmp_path}/a.csv", content)
    assert [item.strip() for item in kinds(found)] == [
        long.strip(),
        f"nul{streams.NUL_SUBSTITUTE}char",
        "not_utf8",
        "good",
    ]
    position = content.index(b"\xe9")
    assert f"not UTF-8 at byte {position} (0xe9)" in found[2].detail


def test_a_quote_left_open_costs_no_more_than_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "MAX_DOCUMENT_BYTES", 50)
    content = 'text\na\n"open\n' + "line\n" * 20 + "b\n"
    found = kinds(read(f"{tmp_path}/a.csv", content))
    assert "not_csv" in found and found[0].strip() == "a"
    assert found[-1].strip() == "b"


def test_a_stray_quote_costs_one_row_in_any_language(tmp_path):
    rows = [
        "1,Le fleuve monte.",
        '2,"Река поднялась',
        "3,川が増水した。",
        "4,แม่น้ำสูงขึ้น",
        '5,"ارتفع النهر, ""حقا""',
        '6,"नदी, चढ़ी"',
        "7,Der Fluss steigt.",
    ]
    path = f"{tmp_path}/a.csv"
    found = read(path, "title,text\n" + "\n".join(rows))
    assert [item.strip()[:1] for item in kinds(found)] == list("1n34n67")
    assert [item.reason for item in found if hasattr(item, "reason")] == [
        "not_csv"
    ] * 2
    # It says which row, and how many lines the quote took in.
    assert f"{path}: a quote in line 3 does not end" in found[1].detail
    assert "takes in 3 more lines" in found[1].detail
    assert "--csv_quoting=none" in found[1].detail
    found = read(path, "title,text\n" + "\n".join(rows), csv_quoting="none")
    assert len(found) == 7 and found[1].text.endswith('"Река поднялась')


def test_a_quote_that_closes_at_the_end_of_a_later_row_hides_no_rows(tmp_path):
    rows = [f"{i}\tBu {i} numaralı haberdir, kısadır." for i in range(12)]
    rows[2] = '2\t"Geliyoruz'
    rows[9] = '9\tdediler: "geldik"'
    rows[10] = '10\tve bağırdılar "'
    found = read(
        f"{tmp_path}/a.csv",
        "title\ttext\n" + "\n".join(rows),
        csv_delimiter="\\t",
    )
    assert [i for i, kind in enumerate(kinds(found)) if kind == "not_csv"] == [
        2
    ]
    assert len(found) == 12 and "geldik" in found[9].text
    # A quote that takes in whole rows, and ends where a field may end.
    rows[9] = "9\tdediler."
    found = read(
        f"{tmp_path}/a.csv",
        "title\ttext\n" + "\n".join(rows),
        csv_delimiter="\\t",
    )
    assert kinds(found).count("not_csv") == 1 and len(found) == 12


def test_lines_of_verse_in_quotes_are_one_row(tmp_path):
    verses = "\n".join(f"Zeile {i}, mit Komma" for i in range(4))
    verses += "\nund eine ohne\n" + verses
    content = f'title,text\n1,"{verses}"\n2,kurz\n'
    found = read(f"{tmp_path}/a.csv", content)
    assert [item.text for item in found] == ["1\n" + verses, "2\nkurz"]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_row_with_other_columns_is_dropped_and_the_line_named(tmp_path, end):
    content = f"title,text\n1,Vrijeme je lijepo, kaže.\n2\n3,Dobro.,{end}"
    found = read(f"{tmp_path}/a.csv", content)
    assert kinds(found) == ["wrong_columns", "wrong_columns", "3\nDobro."]
    assert "a.csv: 3 and not 2 columns in line 2; " in found[0].detail
    assert "--csv_delimiter" in found[0].detail


def read_file(path, content, **options):
    files.write_bytes(path, content.encode())
    config = documents.SourceConfig(source=("csv",), input=(path,), **options)
    (unit,) = documents.plan(config, 1 << 20)
    return [item for item, _ in documents.read(unit[0], config)]


@pytest.mark.parametrize(
    "text",
    [
        'Elle dit : \\"le fleuve, la ville\\" et sortit',
        'Она сказала: \\"река, город\\" и ушла',
        '彼女は\\"川, 町\\"と言った',
    ],
)
def test_backslashes_before_quotes_are_an_error_that_names_csv_escape(
    tmp_path, text
):
    content = "title,text\n" + f'x,"{text}"\n' * 5
    path = f"{tmp_path}/a.csv"
    with pytest.raises(errors.UserError, match=r"line 2 .*--csv_escape='\\'"):
        read_file(path, content)
    found = read_file(path, content, csv_escape="\\")
    assert [item.text for item in found] == ["x\n" + text.replace("\\", "")] * 5


def test_surplus_columns_in_most_rows_are_an_error_with_the_remedy(tmp_path):
    content = "title,text\n" + "a,Wir sehen, was ist, und gehen.\n" * 5
    with pytest.raises(errors.UserError, match="4 and not 2 columns in line 2"):
        read_file(f"{tmp_path}/a.csv", content)


def test_escapes_of_databases_are_white_space_and_null(tmp_path):
    rows = [
        "title\ttext",
        r"\N" + "\t" + r"erste Zeile\nzweite\tSpalte, C:\\neu \"so\"",
        "b\tnach dem\\",
        "Umbruch",
        "N\t" + r"\N",
    ]
    found = read_file(
        f"{tmp_path}/a.csv",
        "\n".join(rows),
        csv_delimiter="\\t",
        csv_escape="\\",
        csv_quoting="none",
    )
    assert kinds(found) == [
        'erste Zeile\nzweite Spalte, C:\\neu "so"',
        "b\nnach dem\nUmbruch",
        "no_text",
    ]


def test_a_field_may_lie_inside_others(tmp_path):
    lines = [
        {"doc": {"text": "Innen.", "head": {"name": "Kopf"}}},
        {"doc": {"text": None}},
        {"doc": "x"},
        {"doc.text": "Der eigene Name."},
    ]
    content = "\n".join(map(json.dumps, lines))
    path = f"{tmp_path}/a.jsonl"
    options = {"text_field": "doc.text", "title_field": "doc.head.name"}
    assert [item.strip() for item in kinds(read(path, content, **options))] == [
        "Kopf\nInnen.",
        "no_text",
        "no_text",
        "Der eigene Name.",
    ]
    with pytest.raises(
        errors.UserError, match="'doc.text', 'doc.head.name', 'doc'"
    ):
        read(path, content)


def test_a_text_of_another_type_is_dropped_with_its_type(tmp_path):
    content = '{"text": ["a"]}\n{"text": {"a": 1}}\n{"text": true}\n'
    found = read(f"{tmp_path}/a.jsonl", content)
    assert kinds(found) == ["not_text"] * 3
    for item, name in zip(found, ("array", "object", "boolean"), strict=True):
        assert f"text_field='text' is of type {name}" in item.detail


@pytest.mark.parametrize("escape", ['"', "ab", ",", "\n"])
def test_an_impossible_escape_is_refused(escape):
    with pytest.raises(errors.UserError, match="csv_escape"):
        documents.SourceConfig(source=("csv",), input=("a",), csv_escape=escape)


def test_lines_that_end_with_a_carriage_return_alone_are_named(tmp_path):
    path = f"{tmp_path}/a.csv"
    with pytest.raises(errors.UserError, match="carriage return inside of li"):
        read(path, "title,text\r1,Déjà vu.\r2,Bon.\r")
    found = read(path, "\ntitle,text\n1,Déjà\rvu.\n2,Bon.\n")
    assert kinds(found) == ["not_csv", "2\nBon."]
