import itertools
import random

import pytest

from bert_pretrain import files
from tfrecord_builders.sources import documents, plain_text, streams

POEM = (
    "\n  \nfirst line\r\nsecond line\n\nanother block\n \n\n"
    "the last block\nwithout an end"
)


def read(path, content, layout, start=0, end=None):
    if isinstance(content, str):
        content = content.encode("utf-8")
    if content is not None:
        files.write_bytes(path, content)
    span = streams.Span(
        "text", path, start, files.size(path) if end is None else end
    )
    config = documents.SourceConfig(
        source=("text",), input=(path,), text_layout=layout
    )
    return list(plain_text.read(streams.Stream(span), config))


@pytest.mark.parametrize(
    "layout, texts",
    [
        ("file", [POEM]),
        (
            "line",
            [
                "first line",
                "second line",
                "another block",
                "the last block",
                "without an end",
            ],
        ),
        (
            "blocks",
            [
                "first line\nsecond line",
                "another block",
                "the last block\nwithout an end",
            ],
        ),
    ],
)
def test_a_document_is_a_file_a_line_or_a_block(tmp_path, layout, texts):
    found = read(f"{tmp_path}/a.txt", POEM, layout)
    assert [item.text for item in found] == texts
    assert len({item.id for item in found}) == len(texts)


def test_a_file_that_is_too_large_is_read_up_to_the_limit(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(streams, "MAX_DOCUMENT_BYTES", 1 << 20)
    path, span_bytes = f"{tmp_path}/a.txt", 8 << 20
    files.write_bytes(path, b"word " * (span_bytes // 5))
    stream = streams.Stream(streams.Span("text", path, 0, span_bytes))
    config = documents.SourceConfig(
        source=("text",), input=(path,), text_layout="file"
    )
    (item,) = plain_text.read(stream, config)
    assert item.reason == "too_long"
    assert stream.consumed < 3 << 20


@pytest.mark.parametrize("layout", ["file", "line", "blocks"])
def test_empty_files_give_no_documents(tmp_path, layout):
    assert read(f"{tmp_path}/a.txt", " \n\n", layout) == []
    assert read(f"{tmp_path}/a.txt", "", layout) == []


@pytest.mark.parametrize("layout", ["line", "blocks"])
@pytest.mark.parametrize(
    "content",
    [
        POEM,
        "a\nb\nc",
        "\n\na\n\n\nb\nc\n\n",
        "a\n\nb\r\n\r\nc\r\n",
        "one",
        "x" * 50 + "\n\n" + "y" * 50,
        "\n",
        "a\n\n\n\n\n\nb",
    ],
)
def test_ranges_give_each_document_once(tmp_path, layout, content):
    path = f"{tmp_path}/a.txt"
    whole = read(path, content, layout)
    size = len(content)
    for num_ranges in range(1, size + 1):
        bounds = [size * i // num_ranges for i in range(num_ranges + 1)]
        parts = [
            item
            for i in range(num_ranges)
            for item in read(path, None, layout, bounds[i], bounds[i + 1])
        ]
        assert parts == whole, num_ranges


def test_the_byte_order_mark_is_not_text(tmp_path):
    for layout in ("line", "blocks"):
        (item,) = read(f"{tmp_path}/a.txt", b"\xef\xbb\xbfword", layout)
        assert item.text == "word"


def test_a_document_that_is_not_utf8_is_dropped_and_the_byte_is_named(tmp_path):
    path = f"{tmp_path}/a.txt"
    found = read(path, b"good\n\nbad \xe9t\xe9\n\ngood again", "blocks")
    assert [type(item) for item in found] == [
        streams.Document,
        streams.Dropped,
        streams.Document,
    ]
    assert found[1].reason == "not_utf8"
    assert f"{path}: not UTF-8 at byte 10 (0xe9)" in found[1].detail


@pytest.mark.parametrize("layout", ["line", "blocks"])
def test_a_document_that_is_too_large_is_skipped_and_not_kept_in_memory(
    tmp_path, layout, monkeypatch
):
    monkeypatch.setattr(streams, "MAX_DOCUMENT_BYTES", 100)
    monkeypatch.setattr(streams, "_READ_BYTES", 16)
    content = "small\n\n" + "x" * 5000 + "\n\nalso small"
    found = read(f"{tmp_path}/a.txt", content, layout)
    assert [
        item[0] if isinstance(item, streams.Dropped) else item.text
        for item in found
    ] == ["small", "too_long", "also small"]


def test_blocks_are_the_same_for_any_reads_and_divisions(tmp_path, monkeypatch):
    rng = random.Random(0)
    path = f"{tmp_path}/a.txt"
    for _ in range(300):
        content = "".join(rng.choices("ab \n\n\n\t\r", k=rng.randint(1, 40)))
        content = content.replace("\r", "\r\n")
        # Blank lines divide blocks; a slow and simple algorithm.
        blocks = [
            "\n".join(lines)
            for is_blank, lines in itertools.groupby(
                content.replace("\r\n", "\n").split("\n"),
                lambda line: not line.strip(),
            )
            if not is_blank
        ]
        monkeypatch.setattr(streams, "_READ_BYTES", rng.randint(1, 50))
        cut = rng.randint(1, len(content))
        files.write_bytes(path, content.encode())
        found = read(path, None, "blocks", 0, cut)
        found += read(path, None, "blocks", cut, len(content))
        assert [item.text.rstrip() for item in found] == [
            block.rstrip() for block in blocks
        ], (content, cut)


@pytest.mark.parametrize(
    "layout, remedy",
    [
        ("blocks", "give --text_layout=line"),
        ("file", "--text_layout=blocks or --text_layout=line"),
        ("line", "divide it by line breaks"),
    ],
)
def test_a_document_that_is_too_long_says_what_to_do(
    tmp_path, layout, remedy, monkeypatch
):
    monkeypatch.setattr(streams, "MAX_DOCUMENT_BYTES", 100)
    content = "слово " * 40 + ("" if layout == "line" else "\nслово" * 40)
    (item,) = read(f"{tmp_path}/a.txt", content, layout)
    assert item.reason == "too_long" and remedy in item.detail
    assert f"{tmp_path}/a.txt:0: longer than" in item.detail


@pytest.mark.parametrize("layout", ["line", "blocks", "file"])
def test_a_file_cut_inside_a_character_loses_only_its_last_document(
    tmp_path, layout
):
    content = "ஆறு உயர்ந்தது\n\nபாலம் மூடப்பட்டது".encode()[:-1]
    found = read(f"{tmp_path}/a.txt", content, layout)
    assert found[-1].reason == "not_utf8"
    assert len(found) == (1 if layout == "file" else 2)
