import bz2
import gzip
import json
import lzma
import pickle

import pytest
import zstandard

from bert_pretrain import errors, files
from tfrecord_builders.sources import documents, streams

STORIES = [
    f"Story {i}: " + f"the rain fell {i} times. " * (i % 4 + 5)
    for i in range(60)
]
JSON_LINES = "".join(json.dumps({"text": story}) + "\n" for story in STORIES)
COMPRESS = {
    "": bytes,
    ".bz2": bz2.compress,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


def configure(*paths, source="jsonl", **others):
    return documents.SourceConfig(source=(source,), input=paths, **others)


def read_all(config, unit_bytes=1 << 20):
    return [
        item
        for unit in documents.plan(config, unit_bytes)
        for span in unit
        for item, _ in documents.read(span, config)
    ]


def texts(items):
    return [item.text for item in items if isinstance(item, documents.Document)]


@pytest.mark.parametrize("scheme", ["local", "ram"])
@pytest.mark.parametrize("suffix", COMPRESS)
def test_every_compression_is_read_from_any_file_system(
    tmp_path, scheme, suffix
):
    folder = str(tmp_path) if scheme == "local" else "ram://documents"
    path = f"{folder}/news.jsonl{suffix}"
    half = len(JSON_LINES) // 2
    compress = COMPRESS[suffix]
    # Two streams in one file, as cat or a parallel compressor makes them.
    files.write_bytes(
        path,
        compress(JSON_LINES[:half].encode())
        + compress(JSON_LINES[half:].encode()),
    )
    config = configure(path)
    assert texts(read_all(config)) == [story.strip() for story in STORIES]


def test_decompression_holds_a_bounded_piece_at_a_time(tmp_path):
    for suffix in (".bz2", ".gz", ".xz", ".zst"):
        path = f"{tmp_path}/a{suffix}"
        files.write_bytes(path, COMPRESS[suffix](bytes(40 << 20)))
        stream = streams.Stream(streams.Span("text", path, 0, files.size(path)))
        sizes = [len(chunk) for chunk in stream.chunks()]
        assert sum(sizes) == 40 << 20
        assert max(sizes) <= streams._INFLATED_BYTES


@pytest.mark.parametrize("window_log", [27, 28, 31])
def test_zstandard_s_windows_are_read_if_a_worker_can_hold_them(
    tmp_path, window_log
):
    compressor = zstandard.ZstdCompressor().compressobj()
    frame = bytearray(compressor.compress(JSON_LINES.encode()))
    frame += compressor.flush()
    # RFC 8878, section 3.1.1.1: the fourth byte says that the fifth byte is the
    # size of the window.
    assert not frame[4] & 0x20
    frame[5] = (window_log - 10) << 3
    path = f"{tmp_path}/news.jsonl.zst"
    files.write_bytes(path, bytes(frame))
    if window_log == 27:
        assert len(texts(read_all(configure(path)))) == len(STORIES)
        return
    with pytest.raises(errors.UserError, match="news.*128 MB.*--long=31"):
        read_all(configure(path))


def test_xz_of_the_highest_level_is_read_and_of_a_huge_window_refused(tmp_path):
    path = f"{tmp_path}/news.jsonl.xz"
    for preset in (9, 9 | lzma.PRESET_EXTREME):
        files.write_bytes(
            path, lzma.compress(JSON_LINES.encode(), preset=preset)
        )
        assert len(texts(read_all(configure(path)))) == len(STORIES)
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 28}]
    files.write_bytes(path, lzma.compress(JSON_LINES.encode(), filters=filters))
    with pytest.raises(errors.UserError, match="news.*[Mm]emory"):
        read_all(configure(path))


@pytest.mark.parametrize("suffix", [".bz2", ".gz", ".xz", ".zst"])
def test_a_cut_or_corrupt_file_is_named(tmp_path, suffix):
    path = f"{tmp_path}/a.jsonl{suffix}"
    whole = COMPRESS[suffix](JSON_LINES.encode())
    for content in (
        whole[:-5],
        whole[: len(whole) // 2],
        b"not compressed",
        whole[:40] + bytes(40) + whole[80:],
    ):
        files.write_bytes(path, content)
        with pytest.raises(
            errors.UserError, match="truncated or corrupt"
        ) as caught:
            read_all(configure(path))
        assert path in str(caught.value)


@pytest.mark.parametrize("unit_bytes", [50, 333, 1000, 4096, 1 << 20])
def test_the_plan_changes_no_document(tmp_path, unit_bytes):
    for i in range(3):
        files.write_text(f"{tmp_path}/{i}.jsonl", JSON_LINES)
    config = configure(f"{tmp_path}/*.jsonl")
    units = documents.plan(config, unit_bytes)
    assert read_all(config, unit_bytes) == read_all(config, 1 << 30)
    assert sum(span.num_bytes for unit in units for span in unit) == (
        3 * len(JSON_LINES)
    )
    assert all(
        sum(span.num_bytes for span in unit) <= unit_bytes for unit in units
    )


def test_units_are_plain_data_and_the_same_each_time(tmp_path):
    for i in range(5):
        files.write_text(f"{tmp_path}/{i}.txt", "x" * 10 * i)
    config = configure(f"{tmp_path}/*.txt", source="text")
    units = documents.plan(config, 45)
    assert documents.plan(config, 45) == units
    assert pickle.loads(pickle.dumps(units)) == units
    assert json.loads(json.dumps(units)) == [
        [list(span) for span in unit] for unit in units
    ]
    # Small files share a unit.
    assert [len(unit) for unit in units] == [3, 1, 1]


def test_a_file_is_identified_by_its_size_and_its_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "_END_BYTES", 16)
    path = f"{tmp_path}/a.jsonl"
    config = configure(path)

    def identify(content):
        files.write_bytes(path, content)
        return documents.identify(documents.plan(config, 50))

    content = JSON_LINES.encode()
    identity = identify(content)
    assert list(identity) == [path]
    assert identity[path]["num_bytes"] == len(content)
    assert identify(content) == identity
    for changed in (
        content[1:],
        b"[" + content[1:],
        content[:-1] + b" ",
        content[:-16] + b"x" + content[-15:],
    ):
        assert identify(changed) != identity
    assert identify(b"") == identify(b"") != identity
    files.write_bytes(path, content)
    read_range, num_read = files.read_range, 0

    def count(*arguments):
        nonlocal num_read
        found = read_range(*arguments)
        num_read += len(found)
        return found

    monkeypatch.setattr(files, "read_range", count)
    assert documents.identify(documents.plan(config, 50)) == identity
    assert num_read == 32


def test_only_files_that_can_be_read_from_the_middle_are_divided(tmp_path):
    def num_spans(name, source, content, **others):
        path = f"{tmp_path}/{name}"
        files.write_bytes(path, content)
        return sum(
            map(
                len,
                documents.plan(configure(path, source=source, **others), 100),
            )
        )

    content = JSON_LINES.encode()
    assert num_spans("a.jsonl", "jsonl", content) > 1
    assert num_spans("a.txt", "text", content) > 1
    assert num_spans("a.xml", "wikipedia", content) > 1
    assert num_spans("a.txt", "text", content, text_layout="file") == 1
    assert num_spans("a.csv", "csv", content) == 1
    stream = bz2.compress(content)
    assert num_spans("a.jsonl.bz2", "jsonl", stream + stream) == 1
    assert num_spans("a.xml.bz2", "wikipedia", stream) == 1
    assert num_spans("a.xml.bz2", "wikipedia", stream + stream) > 1
    assert num_spans("a.xml.gz", "wikipedia", gzip.compress(content)) == 1


def test_there_is_one_source_for_all_inputs_or_one_for_each(tmp_path):
    news, text = f"{tmp_path}/news", f"{tmp_path}/text"
    files.write_text(news, JSON_LINES)
    files.write_text(text, STORIES[0])
    config = documents.SourceConfig(
        source=("text", "jsonl"), input=(text, news)
    )
    assert texts(read_all(config)) == [
        story.strip() for story in (STORIES[0], *STORIES)
    ]
    # The same file twice is read once.
    assert len(read_all(configure(news, news, f"{tmp_path}/n*"))) == 60
    with pytest.raises(errors.UserError, match="2 values of source .* 3 of"):
        documents.SourceConfig(source=("text", "csv"), input=("a", "b", "c"))


@pytest.mark.parametrize(
    "asked, told",
    [
        ({"weight": (2.0, 0.5)}, "weight=2, .*weight=0.5"),
        ({"max_mb": (0.0, 3.0)}, r"max_mb=0\).*max_mb=3\)"),
        ({"source": ("jsonl", "text")}, "source=jsonl.*source=text"),
    ],
)
def test_a_file_of_two_inputs_with_different_options_is_refused(
    tmp_path, asked, told
):
    files.write_text(f"{tmp_path}/a.jsonl", JSON_LINES)
    files.write_text(f"{tmp_path}/b.jsonl", JSON_LINES)
    values = {"input": (f"{tmp_path}/b.jsonl", f"{tmp_path}/*.jsonl")}
    values |= {"source": ("jsonl",), **asked}
    with pytest.raises(errors.UserError, match=told) as caught:
        documents.plan(documents.SourceConfig(**values), 100)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path}/b.jsonl is in input=")
    assert all(repr(pattern) in said for pattern in values["input"])
    # With the same options for both inputs the file is read once.
    same = {name: (value[0],) * 2 for name, value in asked.items()}
    config = documents.SourceConfig(**values | same)
    assert len(read_all(config)) == 2 * len(STORIES)


def test_positions_grow_to_the_size_of_the_span(tmp_path):
    path = f"{tmp_path}/a.jsonl"
    files.write_text(path, JSON_LINES * 300)
    config = configure(path)
    for unit in documents.plan(config, 1 << 20):
        for span in unit:
            positions = [
                position for _, position in documents.read(span, config)
            ]
            assert positions == sorted(positions)
            assert 0 < positions[0] <= positions[-1] == span.num_bytes


def test_documents_are_clean_and_empty_ones_dropped(tmp_path):
    path = f"{tmp_path}/a.txt"
    files.write_text(path, "cafe\u0301 \t au\u00a0lait\u200b\n\n\u200b")
    kept, dropped = read_all(configure(path, source="text"))
    assert kept.text == "caf\u00e9 au lait"
    assert dropped.reason == "no_text"
    assert dropped.id.startswith(path)


def test_a_file_that_is_mostly_not_utf8_is_an_error(tmp_path):
    path = f"{tmp_path}/a.txt"
    latin, good = "café crème\n".encode("latin-1"), b"plain\n"
    config = configure(path, source="text", text_layout="line")
    files.write_bytes(path, good + 3 * latin + good)
    with pytest.raises(
        errors.UserError, match=(r"a\.txt: not UTF-8 at byte 9 \(0xe9\).*iconv")
    ):
        read_all(config)
    files.write_bytes(path, 2 * latin + 3 * good)
    found = read_all(config)
    assert [item.reason for item in found[:2]] == ["not_utf8"] * 2
    assert texts(found) == ["plain"] * 3
    # A file of one bad document may be one of many files, so it is no error.
    files.write_bytes(path, latin)
    (item,) = read_all(config)
    assert item.reason == "not_utf8" and path in item.detail


def test_a_file_that_is_not_json_lines_is_an_error(tmp_path):
    path = f"{tmp_path}/a.jsonl"
    files.write_text(
        path, json.dumps([{"text": story} for story in STORIES], indent=1)
    )
    with pytest.raises(errors.UserError, match="a.jsonl: no JSON at byte 0"):
        read_all(configure(path))


def test_files_that_cannot_be_read_are_reported_before_reading_starts(tmp_path):
    with pytest.raises(errors.UserError, match="matches no file"):
        documents.plan(configure(f"{tmp_path}/none*"), 100)
    files.write_text(f"{tmp_path}/a.zip", "x")
    with pytest.raises(
        errors.UserError, match=r"a\.zip: .* \.zip cannot be read"
    ):
        documents.plan(configure(f"{tmp_path}/a.zip"), 100)


@pytest.mark.parametrize(
    "option, value",
    [
        ("csv_delimiter", ""),
        ("csv_delimiter", "ab"),
        ("csv_delimiter", '"'),
        ("text_field", ""),
        ("weight", (0.0,)),
        ("weight", (1.0, 2.0)),
        ("max_mb", (-1.0,)),
        ("input", ()),
    ],
)
def test_impossible_options_are_refused(option, value):
    options = {"source": ("csv",), "input": ("a",), option: value}
    with pytest.raises(errors.UserError, match=option):
        documents.SourceConfig(**options)


TEXTS = {
    "polish": "Rzeka wezbrała.\nMosty są zamknięte.\n",
    "greek": "Το ποτάμι ανέβηκε.\nΟι γέφυρες έκλεισαν.\n",
    "korean": "강물이 불어났다.\n다리가 닫혔다.\n",
    "hindi": "नदी चढ़ गई।\nपुल बंद हैं।\n",
    "burmese": "မြစ်ရေ တက်သည်။\nတံတား ပိတ်သည်။\n",
    "emoji": "Ja 😀 nein 🫠.\nGut 👩🏽👧.\n",
}


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize(
    "encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_utf_16_and_utf_32_are_one_error_with_the_remedy(
    tmp_path, language, encoding, mark
):
    path = f"{tmp_path}/a.txt"
    content = mark + "text;other\n" + TEXTS[language]
    files.write_bytes(path, content.encode(encoding))
    name = (
        encoding.upper()[:6] if mark else encoding.upper().replace("-", "", 2)
    )
    name = name if mark else f"{name[:3]}-{name[3:]}"
    for source, options in (
        ("text", {"text_layout": "line"}),
        ("text", {"text_layout": "file"}),
        ("text", {"text_layout": "blocks"}),
        ("csv", {"csv_delimiter": ";"}),
        ("jsonl", {}),
        ("wikipedia", {}),
    ):
        with pytest.raises(
            errors.UserError,
            match=rf"a\.txt: {name} and not UTF-8.*iconv -f {name} -t UTF-8",
        ):
            read_all(configure(path, source=source, **options))


@pytest.mark.parametrize("language", TEXTS)
def test_text_in_utf_8_is_never_taken_for_utf_16(tmp_path, language):
    path = f"{tmp_path}/a.txt"
    config = configure(path, source="text", text_layout="line")
    # A mark, and NULs that a damaged disk or a program left.
    for content in ("\ufeff" + TEXTS[language], TEXTS[language] * 9 + "a\0\0"):
        files.write_text(path, content)
        found = texts(read_all(config))
        assert found[:2] == TEXTS[language].splitlines()
    # Letters of ASCII in pairs are ideographs, and NUL takes part in them.
    files.write_text(path, "Wort" * 20 + "\0eins")
    assert texts(read_all(config)) == ["Wort" * 20 + "eins"]


def test_garbled_documents_are_counted_and_no_text(tmp_path):
    path = f"{tmp_path}/a.jsonl"
    garbled = "Река поднялась".encode("utf-16-le").decode()
    lines = [garbled, "Gut.", "a\0b Gut und lang.", "Gut \ufffd und lang."]
    files.write_text(path, "\n".join(json.dumps({"text": t}) for t in lines))
    found = read_all(configure(path))
    assert found[0].reason == "garbled" and found[0].id == f"{path}:0"
    assert f"{path}: the text of {path}:0 is garbled" in found[0].detail
    assert texts(found) == ["Gut.", "ab Gut und lang.", "Gut \ufffd und lang."]
    # What is kept in spite of some damage is counted too.
    assert [dict(item.notes) for item in found[1:]] == [
        {},
        {"texts_with_nul": 1},
        {"texts_with_undecodable_bytes": 1},
    ]
    # If most of the file is so, it is an error.
    files.write_text(path, (json.dumps({"text": garbled}) + "\n") * 3)
    with pytest.raises(errors.UserError, match=r"a\.jsonl: .*garbled.*UTF-8"):
        read_all(configure(path))


@pytest.mark.parametrize("suffix", [".bz2", ".gz", ".xz", ".zst"])
def test_an_empty_file_is_not_compressed_data(tmp_path, suffix):
    good, bad = f"{tmp_path}/a.jsonl", f"{tmp_path}/b.jsonl{suffix}"
    files.write_text(good, JSON_LINES)
    for content in (b"", b"\0" * 600):
        files.write_bytes(bad, content)
        with pytest.raises(errors.UserError, match=r"b\.jsonl\..*corrupt"):
            read_all(configure(good, bad))
    # Data that is compressed to nothing is nothing.
    files.write_bytes(bad, COMPRESS[suffix](b""))
    assert len(texts(read_all(configure(good, bad)))) == len(STORIES)


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
@pytest.mark.parametrize("num_zeros", [4, 5000])
def test_padding_between_members_hides_no_member(
    tmp_path, suffix, num_zeros, monkeypatch
):
    monkeypatch.setattr(streams, "_READ_BYTES", 1000)
    path = f"{tmp_path}/a.jsonl{suffix}"
    member = COMPRESS[suffix](JSON_LINES.encode())
    files.write_bytes(path, member + bytes(num_zeros) + member)
    assert len(texts(read_all(configure(path)))) == 2 * len(STORIES)


@pytest.mark.parametrize("suffix", [".bz2", ".gz", ".xz", ".zst"])
def test_garbage_after_compressed_data_is_an_error(tmp_path, suffix):
    path = f"{tmp_path}/a.jsonl{suffix}"
    files.write_bytes(path, COMPRESS[suffix](JSON_LINES.encode()) + b"garbage")
    with pytest.raises(errors.UserError, match="truncated or corrupt"):
        read_all(configure(path))


@pytest.mark.parametrize("suffix", [".bz2", ".gz", ".xz", ".zst"])
def test_compressed_data_without_its_suffix_is_named(tmp_path, suffix):
    path = f"{tmp_path}/a.jsonl"
    files.write_bytes(path, COMPRESS[suffix](JSON_LINES.encode()))
    with pytest.raises(
        errors.UserError, match=rf"compressed.*add \{suffix} to"
    ):
        read_all(configure(path))
