"""Damaged files end in documents, counted losses, or one line; never otherwise.

Each file holds documents with a mark that occurs nowhere else. A mutation
changes some bytes of the file. Then reading it must end in time, in a UserError
or in items, and no document may be lost in silence. That is noticed in three
ways, because containers differ:

  by place    Items of lines, blocks and rows are named by their position. So
              for each mark in the mutated bytes, the item that begins at or
              before it must be a document with this mark, or be dropped.
  by number   Pages are named by their own names. At most as many marks may be
              missing as items are dropped. Markup may have hidden the text of
              a page that is still there, so a page of the right name counts.
  by checksum A library that is not ours unpacks the mutated file. If it fails,
              reading must end in a UserError; else the first two ways apply to
              what it gives. The pages of Parquet have checksums themselves.

`FUZZ_ROUNDS=10000 pytest tests/test_reader_fuzz.py` tries that many of each.
"""

import bisect
import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import random
import re
import signal

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from bert_pretrain import errors, files
from tfrecord_builders.quality import garbling
from tfrecord_builders.sources import documents

ROUNDS = int(os.environ.get("FUZZ_ROUNDS", "50"))
SECONDS = 20  # for one file of a few KB
SENTENCES = [
    "The river was high and the bridges were closed until the morning.",
    "Река поднялась, и мосты были закрыты до самого утра.",
    "河水上涨，桥梁一直关闭到早上。",
    "แม่น้ำสูงขึ้นและสะพานถูกปิดจนถึงเช้า",
    "ارتفع النهر وأغلقت الجسور حتى الصباح.",
    "Řeka stoupla, “mosty” byly zavřené až do rána – 3 dny.",
]
MARK = re.compile(rb"mark[0-9]{2}x")


def mark_of(i):
    return f"mark{i:02d}x"


def story(i):
    mark = mark_of(i)
    sentences = [
        f"{mark} {SENTENCES[(i + k) % len(SENTENCES)]}" for k in range(3)
    ]
    return " ".join(sentences)


STORIES = [story(i) for i in range(8)]


def wikipedia():
    pages = "".join(
        f"<page><title>T{i}</title><ns>0</ns><id>{i + 1}</id><revision>"
        f"<id>9{i}</id><model>wikitext</model><text>{text}</text></revision>"
        "</page>\n"
        for i, text in enumerate(STORIES)
    )
    header = "<siteinfo><dbname>xwiki</dbname></siteinfo>\n"
    return f"<mediawiki>{header}{pages}</mediawiki>\n".encode()


def jsonl():
    return "".join(
        json.dumps({"title": f"T{i}", "text": text}, ensure_ascii=i % 2 == 0)
        + "\n"
        for i, text in enumerate(STORIES)
    ).encode()


def cirrus():
    lines = []
    for i, text in enumerate(STORIES):
        page = {"namespace": 0, "wiki": "xwiki", "title": f"T{i}", "text": text}
        lines += [{"index": {"_id": str(i)}}, page]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def csv(delimiter):
    rows = [["title", "text"]]
    for i, text in enumerate(STORIES):
        text = text.replace(",", "") if i % 2 else f'"{text}"'
        rows.append(
            [f"T{i}", text.replace(". ", ".\n") if i % 4 == 0 else text]
        )
    return "".join(delimiter.join(row) + "\r\n" for row in rows).encode()


def web_archive(kind):
    records = []
    for i, text in enumerate(STORIES):
        payload = text.encode()
        if kind == "response":
            payload = response(f"<p>{text}</p><p>{text}</p>".encode(), i)
        head = (
            f"WARC/1.0\r\nWARC-Type: {kind}\r\n"
            f"WARC-Target-URI: http://a/{mark_of(i)}\r\n"
            f"Content-Length: {len(payload)}\r\n\r\n"
        )
        records.append(head.encode() + payload + b"\r\n\r\n")
    return records


def response(html, i):
    """A response of HTTP in one of three encodings."""
    header = b""
    if i % 3 == 1:
        header, html = b"Content-Encoding: gzip\r\n", gzip.compress(html)
    elif i % 3 == 2:
        header = b"Transfer-Encoding: chunked\r\n"
        html = b"%x\r\n%b\r\n0\r\n\r\n" % (len(html), html)
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
        + header
        + b"\r\n"
        + html
    )


def table():
    content = io.BytesIO()
    columns = {"title": [f"T{i}" for i in range(8)], "text": STORIES}
    parquet.write_table(
        pyarrow.table(columns),
        content,
        row_group_size=3,
        compression="none",
        write_statistics=False,
        write_page_checksum=True,
    )
    return content.getvalue()


def unzstd(content):
    reader = zstandard.ZstdDecompressor().stream_reader(
        content, read_across_frames=True
    )
    pieces = []
    while piece := reader.read(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


COMPRESSORS = {
    ".bz2": (bz2.compress, bz2.decompress),
    ".gz": (gzip.compress, gzip.decompress),
    ".xz": (lzma.compress, lzma.decompress),
    ".zst": (
        zstandard.ZstdCompressor(write_checksum=True).compress,
        unzstd,
    ),
}
LINES = "\n".join(STORIES).encode()
BLOCKS = "\n\n".join(STORIES).encode()
# Name: (source, its content, options, how lost documents are noticed).
CASES = {
    "a.xml": ("wikipedia", wikipedia(), {}, "number"),
    "a.jsonl": ("jsonl", jsonl(), {}, "place"),
    "cirrus.json": ("cirrus", cirrus(), {}, "number"),
    "a.csv": ("csv", csv(","), {}, "place"),
    "a.tsv": (
        "csv",
        csv("\t").replace(b".\n", b". ").replace(b'"', b""),
        {"csv_delimiter": "\\t", "csv_quoting": "none"},
        "place",
    ),
    "line.txt": ("text", LINES, {"text_layout": "line"}, "place"),
    "blocks.txt": ("text", BLOCKS, {"text_layout": "blocks"}, "place"),
    "file.txt": ("text", BLOCKS, {"text_layout": "file"}, "place"),
    "a.parquet": ("parquet", table(), {}, "number"),
    "a.warc": ("warc", b"".join(web_archive("response")), {}, "number"),
    "a.wet": ("warc", b"".join(web_archive("conversion")), {}, "number"),
    "a.wet.gz": (
        "warc",
        b"".join(map(gzip.compress, web_archive("conversion"))),
        {},
        "checksum",
    ),
}
for suffix, (compress, _) in COMPRESSORS.items():
    CASES[f"a.jsonl{suffix}"] = ("jsonl", compress(jsonl()), {}, "checksum")
    CASES[f"a.xml{suffix}"] = (
        "wikipedia",
        compress(wikipedia()),
        {},
        "checksum",
    )
ENDS = {"wikipedia": b"</page>", "warc": b"WARC/1.0", "cirrus": b"\n"}
NOTICED = {"wikipedia": "number", "warc": "number", "jsonl": "place"}


class TooSlowError(BaseException):
    """No Exception, which a reader might catch."""


@contextlib.contextmanager
def time_limit():
    def stop(number, frame):
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


NOISE = [
    *(b"\0", b"\0" * 40, b'"', b"\\", b",", b"\t", b"\n", b"\n\n", b"\r"),
    *(b"{", b"}", b"[", b"<", b">", b"\xff", b"\xe9", b"\xef\xbf\xbd"),
    *(b"\xed\xa0\x80", b"\x1a", b"9", b"-"),
]
ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1251", "cp932")


def mutated(rng, content):
    """The content with one to three faults, and their names."""
    names = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        start = rng.randrange(len(content) + 1)
        end = min(len(content), start + rng.choice([1, 3, 30, 300, 3000]))
        name = rng.choice(list(MUTATIONS))
        content = MUTATIONS[name](rng, content, start, end)
        names.append(f"{name} {start}:{end}")
        if not content:
            break
    return content, names


def flip(rng, content, start, end):
    if start == len(content):
        return content
    byte = bytes([content[start] ^ (1 << rng.randrange(8))])
    return content[:start] + byte + content[start + 1 :]


def encode(rng, content, start, end):
    if rng.random() < 0.3:
        start, end = 0, len(content)
    piece = content[start:end].decode("utf-8", "replace")
    piece = piece.encode(rng.choice(ENCODINGS), "replace")
    return content[:start] + piece + content[end:]


MUTATIONS = {
    "flip": flip,
    "cut": lambda rng, content, start, end: content[:start],
    "behead": lambda rng, content, start, end: content[start:],
    "remove": lambda rng, content, start, end: content[:start] + content[end:],
    "repeat": lambda rng, content, start, end: content[:end] + content[start:],
    "move": lambda rng, content, start, end: (
        content[end:] + content[start:end] + content[:start]
    ),
    "zero": lambda rng, content, start, end: (
        content[:start] + bytes(end - start) + content[end:]
    ),
    "insert": lambda rng, content, start, end: (
        content[:start] + rng.choice(NOISE) + content[start:]
    ),
    "encode": encode,
}


def unpacked(path, content):
    """What another library reads in the file; None if it finds a fault."""
    try:
        return COMPRESSORS[os.path.splitext(path)[1]][1](content)
    except (EOFError, OSError, ValueError, zstandard.ZstdError, MemoryError):
        return None
    except Exception as error:
        if type(error).__name__ in ("error", "LZMAError", "BadGzipFile"):
            return None
        raise


def read(path, source, options, unit_bytes):
    config = documents.SourceConfig(source=(source,), input=(path,), **options)
    return [
        item
        for unit in documents.plan(config, unit_bytes)
        for span in unit
        for item, _ in documents.read(span, config)
    ]


def is_document(item):
    return isinstance(item, documents.Document)


def assert_none_lost_by_place(path, content, items):
    places = [int(item.id.removeprefix(f"{path}:")) for item in items]
    assert places == sorted(places)
    header = content.partition(b"\n")[0].replace(b"\t", b",")
    if path.endswith("v") and not header.startswith(b"title,text"):
        return  # A column of another name is not read.
    for found in MARK.finditer(content):
        i = bisect.bisect_right(places, found.start()) - 1
        if i < 0:
            # In the header of CSV, which names columns.
            assert path.endswith("v") and b"\n" not in content[: found.start()]
        elif is_document(items[i]):
            assert found[0].decode() in items[i].text, found


def assert_none_lost_by_number(source, content, items):
    texts = "\n".join(
        f"{item.id} {item.text}" for item in items if is_document(item)
    )
    # A page or record may hold what was two of them.
    lost = [
        piece
        for piece in re.split(ENDS.get(source, b"(?=mark)"), content)
        if any(
            mark not in texts for mark in map(bytes.decode, MARK.findall(piece))
        )
    ]
    dropped = [item for item in items if not is_document(item)]
    assert len(lost) <= len(dropped), lost


def check(path, case, content, unit_bytes):
    source, _, options, noticed = case
    try:
        with time_limit():
            items = read(path, source, options, unit_bytes)
    except errors.UserError as error:
        assert str(error).strip() and "\n" not in str(error)
        return
    assert not any(
        garbling.is_garbled(item.text) for item in items if is_document(item)
    )
    if noticed == "checksum":
        content = unpacked(path, content)
        assert content is not None, "another library finds a fault"
        noticed = NOTICED[source]
    if noticed == "place":
        assert_none_lost_by_place(path, content, items)
    else:
        assert_none_lost_by_number(source, content, items)


@pytest.mark.parametrize("name", CASES)
def test_no_damage_ends_in_a_traceback_a_hang_or_silent_loss(tmp_path, name):
    case, path = CASES[name], f"{tmp_path}/{name}"
    rng = random.Random(name)
    for number in range(ROUNDS):
        content, names = mutated(rng, case[1])
        unit_bytes = rng.choice([1 << 20, 1 << 20, 700])
        files.write_bytes(path, content)
        try:
            check(path, case, content, unit_bytes)
        except (Exception, TooSlowError) as error:
            kept = os.environ.get("FUZZ_KEEP")
            if kept:
                files.write_bytes(f"{kept}/{number}-{name}", content)
            raise AssertionError(f"{number}: {names}, {unit_bytes}") from error


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32-be"])
@pytest.mark.parametrize(
    "name", [n for n in CASES if n.endswith((".jsonl", "v", ".txt", ".xml"))]
)
def test_a_file_of_another_unicode_is_refused(tmp_path, name, encoding):
    source, content, options, _ = CASES[name]
    path = f"{tmp_path}/{name}"
    files.write_bytes(path, content.decode().encode(encoding))
    with pytest.raises(errors.UserError, match=f"{path}: UTF-(16|32)"):
        read(path, source, options, 1 << 20)


@pytest.mark.parametrize("name", CASES)
def test_an_undamaged_file_gives_all_documents(tmp_path, name):
    source, content, options, _ = CASES[name]
    path = f"{tmp_path}/{name}"
    files.write_bytes(path, content)
    texts = "\n".join(item.text for item in read(path, source, options, 700))
    assert all(mark_of(i) in texts for i in range(8))
