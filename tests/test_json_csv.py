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
        "no_text",
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
        ["no_text"],
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
        "nulchar",
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
