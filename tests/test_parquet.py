"""Parquet: HuggingFace's layouts; each row is read once for any division."""

import io
import tracemalloc

import pyarrow
import pytest
from pyarrow import parquet

from bert_pretrain import errors, files
from tfrecord_builders.sources import documents, streams

STORIES = [f"Story {i}: " + "the rain fell. " * (i % 5 + 5) for i in range(200)]
WIKIPEDIA = {
    "id": [str(i) for i in range(200)],
    "url": [f"https://en.wikipedia.org/wiki/{i}" for i in range(200)],
    "title": [f"Title {i}" for i in range(200)],
    "text": STORIES,
}
CC_NEWS = {
    "title": [f"Title {i}" for i in range(200)],
    "text": STORIES,
    "domain": ["example.org"] * 200,
    "date": ["2019-01-01 00:00:00"] * 200,
    "description": ["..."] * 200,
    "url": ["https://example.org"] * 200,
    "image_url": [None] * 200,
}


def write(path, columns, row_group_size=30, **options):
    content = io.BytesIO()
    table = pyarrow.table(columns)
    parquet.write_table(
        table, content, row_group_size=row_group_size, **options
    )
    files.write_bytes(path, content.getvalue())


def read(path, unit_bytes=1 << 30, **options):
    config = documents.SourceConfig(
        source=("parquet",), input=(path,), **options
    )
    return [
        item
        for unit in documents.plan(config, unit_bytes)
        for span in unit
        for item, _ in documents.read(span, config)
    ]


@pytest.mark.parametrize("columns", [WIKIPEDIA, CC_NEWS])
@pytest.mark.parametrize("scheme", ["local", "ram"])
def test_huggingface_s_layouts_are_read(tmp_path, columns, scheme):
    folder = str(tmp_path) if scheme == "local" else "ram://parquet"
    write(f"{folder}/a.parquet", columns)
    found = read(f"{folder}/a.parquet")
    assert [item.text for item in found] == [
        f"Title {i}\n{story.strip()}" for i, story in enumerate(STORIES)
    ]
    assert len({item.id for item in found}) == 200


@pytest.mark.parametrize("compression", ["snappy", "zstd", "none"])
def test_each_row_is_read_once_for_any_division_of_the_file(
    tmp_path, compression
):
    path = f"{tmp_path}/a.parquet"
    write(path, WIKIPEDIA, row_group_size=7, compression=compression)
    whole = read(path)
    size = files.size(path)
    assert len(whole) == 200
    config = documents.SourceConfig(source=("parquet",), input=(path,))
    assert len(documents.plan(config, size // 5)) >= 5
    for unit_bytes in (1 << 20, size // 2, size // 5, size // 60, 100):
        assert read(path, unit_bytes) == whole


def test_only_a_few_rows_are_in_memory_at_a_time(tmp_path):
    path = f"{tmp_path}/a.parquet"
    # One row group of 160 MB.
    write(path, {"text": ["x" * 20_000 + str(i) for i in range(8000)]}, 8000)
    config = documents.SourceConfig(source=("parquet",), input=(path,))
    (span,) = documents.plan(config, 1 << 30)[0]
    pool = pyarrow.default_memory_pool()
    before = pool.bytes_allocated()
    tracemalloc.start()
    peak = 0
    for _ in documents.read(span, config):
        peak = max(peak, pool.bytes_allocated() - before)
    assert peak + tracemalloc.get_traced_memory()[1] < 48 << 20
    tracemalloc.stop()


def test_rows_without_text_are_dropped_with_their_reasons(tmp_path):
    path = f"{tmp_path}/a.parquet"
    bad = pyarrow.Array.from_buffers(
        pyarrow.string(),
        3,
        [
            None,
            pyarrow.py_buffer(b"\0\0\0\0\4\0\0\0\x08\0\0\0\x0c\0\0\0"),
            pyarrow.py_buffer(b"good\xe9\xe9\xe9\xe9fine"),
        ],
    )
    write(path, {"text": bad})
    found = read(path)
    assert [
        getattr(item, "reason", item.text if hasattr(item, "text") else 0)
        for item in found
    ] == ["good", "not_utf8", "fine"]
    write(path, {"text": ["good", None, "  "]})
    assert [isinstance(item, streams.Dropped) for item in read(path)] == [
        False,
        True,
        True,
    ]


def test_mistakes_name_the_file_and_the_remedy(tmp_path, monkeypatch):
    path = f"{tmp_path}/a.parquet"
    write(path, WIKIPEDIA)
    with pytest.raises(
        errors.UserError, match=r"a\.parquet: text_field='body' .*'id', 'url'"
    ):
        read(path, text_field="body")
    whole = files.read_bytes(path)
    for content in (whole[:-50], b"no parquet at all", b"", whole[100:]):
        files.write_bytes(path, content)
        with pytest.raises(errors.UserError, match=r"a\.parquet: "):
            read(path)
    monkeypatch.setattr(
        documents.importlib.util, "find_spec", lambda name: None
    )
    with pytest.raises(
        errors.UserError, match=r"needs pyarrow: pip install .*\[parquet\]"
    ):
        read(path)


@pytest.mark.parametrize(
    "values, name",
    [
        (pyarrow.array([b"Fluss"] * 3), "binary"),
        (pyarrow.array([1, 2, 3]), "int64"),
        (pyarrow.array([["Fluss"]] * 3), "list<.*string>"),
        (pyarrow.array([{"body": "Fluss"}] * 3), "struct<body: string>"),
        (pyarrow.array([True] * 3), "bool"),
    ],
)
def test_a_column_of_another_type_is_named_with_its_type(
    tmp_path, values, name
):
    path = f"{tmp_path}/a.parquet"
    write(path, {"text": values, "title": ["a"] * 3})
    with pytest.raises(
        errors.UserError,
        match=rf"a\.parquet: the column 'text' is of type {name}; only strings",
    ):
        read(path)
    with pytest.raises(errors.UserError, match="the column 'text' is of type"):
        read(path, text_field="title", title_field="text")


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.string(),
        pyarrow.large_string(),
        pyarrow.string_view(),
        pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
    ],
    ids=str,
)
def test_every_type_of_string_is_read(tmp_path, kind):
    path = f"{tmp_path}/a.parquet"
    texts = ["Река поднялась.", "แม่น้ำสูงขึ้น", None]
    if pyarrow.types.is_dictionary(kind):
        column = pyarrow.array(texts).dictionary_encode()
    else:
        column = pyarrow.array(texts, kind)
    write(path, {"text": column})
    found = read(path)
    assert [item.text for item in found[:2]] == texts[:2]
    assert found[2].reason == "no_text"


def test_a_column_may_lie_inside_a_struct_or_have_a_dot_in_its_name(tmp_path):
    path = f"{tmp_path}/a.parquet"
    inner = [
        {"text": "Innen.", "meta": {"name": "Kopf"}},
        {"text": "Ohne Kopf.", "meta": None},
        None,
    ]
    options = {"text_field": "doc.text", "title_field": "doc.meta.name"}
    write(path, {"id": [1, 2, 3], "doc": inner})
    found = read(path, **options)
    assert [item.text for item in found[:2]] == ["Kopf\nInnen.", "Ohne Kopf."]
    assert found[2].reason == "no_text"
    with pytest.raises(
        errors.UserError, match="'doc.meta.name'.*choose one of them"
    ):
        read(path)
    write(path, {"doc": inner, "doc.text": ["Außen."] * 3})
    assert [item.text for item in read(path, text_field="doc.text")] == [
        "Außen."
    ] * 3
