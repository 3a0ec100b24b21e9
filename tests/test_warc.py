"""WARC: the pages of a web archive, written here by warcio itself."""

import gzip
import io
import zlib

import pytest
import trafilatura
import zstandard
from warcio import statusandheaders, warcwriter

from bert_pretrain import errors, files
from tfrecord_builders.sources import documents, streams, warc

# warcio's writer leaves temporary files open.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning"
)

PARAGRAPHS = [
    f"In part {i} the mayor said that the bridges on the north coast would be "
    "mended before the winter, and that nobody had been hurt."
    for i in range(4)
]


def page(paragraphs=PARAGRAPHS):
    body = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    return (
        "<html><head><title>News</title><script>var x = 1;</script></head>"
        "<body><nav><a href='/'>Home</a><a href='/sport'>Sport</a></nav>"
        f"<article><h1>Rain in the north</h1>{body}</article>"
        "<footer>© 2020 The Daily News</footer></body></html>"
    ).encode()


def archive(records, is_gzip):
    """The bytes of a WARC file from (type, address, status, type, content)."""
    content = io.BytesIO()
    writer = warcwriter.WARCWriter(content, gzip=is_gzip)
    writer.write_record(
        writer.create_warcinfo_record("a.warc", {"software": "x"})
    )
    for kind, address, status, content_type, payload in records:
        headers = None
        if kind == "response":
            headers = statusandheaders.StatusAndHeaders(
                status, [("Content-Type", content_type)], protocol="HTTP/1.0"
            )
        writer.write_record(
            writer.create_warc_record(
                address,
                kind,
                payload=io.BytesIO(payload),
                http_headers=headers,
                warc_content_type="text/plain" if kind != "response" else "",
            )
        )
    return content.getvalue()


RECORDS = [
    ("response", "http://a/1", "200 OK", "text/html; charset=utf-8", page()),
    ("response", "http://a/2", "404 Not Found", "text/html", page()),
    ("response", "http://a/3", "200 OK", "image/png", b"\x89PNG"),
    ("request", "http://a/1", "", "", b"GET / HTTP/1.0\r\n\r\n"),
    ("response", "http://a/4", "200 OK", "text/html", b"<html></html>"),
    ("response", "http://a/5", "200 OK", "Text/HTML", page(PARAGRAPHS[2:])),
    ("conversion", "http://a/6", "", "", b"Plain text of a WET file."),
]


def read(path):
    config = documents.SourceConfig(source=("warc",), input=(path,))
    return [
        item
        for unit in documents.plan(config, 100)
        for span in unit
        for item, _ in documents.read(span, config)
    ]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_the_main_text_of_each_page_is_a_document(tmp_path, suffix):
    path = f"{tmp_path}/a.warc{suffix}"
    content = archive(RECORDS, is_gzip=suffix == ".gz")
    if suffix == ".zst":
        content = zstandard.compress(content)
    files.write_bytes(path, content)
    found = read(path)
    assert [(item.id, getattr(item, "reason", None)) for item in found] == [
        ("http://a/1", None),
        ("http://a/2", "not_fetched"),
        ("http://a/3", "not_html"),
        ("http://a/4", "no_text"),
        ("http://a/5", None),
        ("http://a/6", None),
    ]
    for paragraph in PARAGRAPHS:
        assert paragraph in found[0].text
    assert "Sport" not in found[0].text and "var x" not in found[0].text
    assert found[5].text == "Plain text of a WET file."


def test_a_record_without_an_address_or_content_does_not_stop_the_others(
    tmp_path,
):
    path = f"{tmp_path}/a.warc"
    empty = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: 0\r\n\r\n"
    content = archive(RECORDS, is_gzip=False).replace(
        b"WARC-Target-URI: http://a/5\r\n", b""
    )
    files.write_bytes(path, content + empty + b"\r\n\r\n" + content)
    found = read(path)
    reasons = [getattr(item, "reason", None) for item in found]
    once = [None, "not_fetched", "not_html", "no_text", None, None]
    assert reasons == [*once, "not_fetched", *once]
    assert found[4].id == "?" and PARAGRAPHS[2] in found[4].text


def test_a_page_that_breaks_the_parser_does_not_stop_the_others(
    tmp_path, monkeypatch
):
    extract = trafilatura.extract

    def break_on_one(page, **options):
        if PARAGRAPHS[0].encode() in page:
            # An error that the parser does not expect.
            raise AttributeError("'NoneType' object has no attribute 'iter'")
        return extract(page, **options)

    monkeypatch.setattr(trafilatura, "extract", break_on_one)
    path = f"{tmp_path}/a.warc"
    files.write_bytes(path, archive(RECORDS, is_gzip=False))
    found = read(path)
    assert (found[0].id, found[0].reason) == ("http://a/1", "unparsable")
    assert "AttributeError: 'NoneType'" in found[0].detail
    assert PARAGRAPHS[2] in found[4].text and len(found) == 6


def test_a_page_that_is_too_large_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(warc, "_MAX_PAGE_BYTES", 600)
    path = f"{tmp_path}/a.warc"
    files.write_bytes(path, archive(RECORDS, is_gzip=False))
    found = read(path)
    assert [item.reason for item in found if item.id == "http://a/1"] == [
        "too_long"
    ]
    assert isinstance(found[-1], streams.Document)


def test_mistakes_name_the_file_and_the_remedy(tmp_path, monkeypatch):
    path = f"{tmp_path}/a.warc.gz"
    whole = archive(RECORDS, is_gzip=True)
    for content in (gzip.compress(b"no archive\n" * 20), whole[:-7], b"x" * 99):
        files.write_bytes(path, content)
        with pytest.raises(errors.UserError, match=r"a\.warc\.gz: "):
            read(path)
    monkeypatch.setattr(
        documents.importlib.util, "find_spec", lambda name: None
    )
    with pytest.raises(
        errors.UserError,
        match=r"needs warcio and trafilatura and .*: pip install .*\[warc\]",
    ):
        read(path)


SENTENCES = {
    "windows-1254": "Şiddetli yağış yüzünden köprüler kapandı, dedi başkan. ",
    "iso-8859-2": "Příliš žluťoučký kůň pěl ďábelské ódy nad řekou. ",
    "windows-1250": "Az árvíz miatt lezárták a hidakat, közölte a főváros. ",
    "koi8-r": "Из-за паводка мосты закрыты, сообщил мэр города. ",
    "windows-1251": "Због поплаве су мостови затворени, рекао је начелник. ",
    "iso-8859-7": "Οι γέφυρες έκλεισαν λόγω της πλημμύρας, είπε ο δήμαρχος. ",
    "windows-1255": "הגשרים נסגרו בגלל השיטפון, אמר ראש העיר. ",
    "windows-1256": "أغلقت الجسور بسبب الفيضان، كما قال رئيس البلدية. ",
    "windows-874": "สะพานถูกปิดเพราะน้ำท่วม นายกเทศมนตรีกล่าว ",
    "windows-1257": "Tilti slēgti plūdu dēļ, paziņoja pilsētas mērs. ",
    "shift_jis": "洪水のため橋が閉鎖されたと市長が述べた。",
    "euc-jp": "洪水のため橋が閉鎖されたと市長が述べた。",
    "iso-2022-jp": "洪水のため橋が閉鎖されたと市長が述べた。",
    "euc-kr": "홍수로 다리가 폐쇄되었다고 시장이 말했다. ",
    "gb18030": "市长说，由于洪水，桥梁已经关闭。",
    "big5": "市長說，由於洪水，橋樑已經關閉。",
    "latin1": "Die „Brücken“ sind gesperrt – sagt der Bürgermeister. ",
}
# Labels of the web that mean another encoding to Python.
CODECS = {"latin1": "windows-1252", "windows-874": "cp874"}


def foreign_page(sentence, head=""):
    body = f"<p>{sentence * 8}</p>" * 3
    return f"<html><head>{head}</head><body><article>{body}</article></html>"


def read_page(path, content, content_type="text/html", headers=()):
    """Reads an archive of one response."""
    lines = [f"Content-Type: {content_type}", *headers]
    response = "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()
    files.write_bytes(path, record("response", response + content))
    (item,) = read(path)
    return item


def record(kind, content, address="http://a/1", length=None):
    length = len(content) if length is None else length
    return (
        (
            f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {address}\r\n"
            f"Content-Length: {length}\r\n\r\n"
        ).encode()
        + content
        + b"\r\n\r\n"
    )


@pytest.mark.parametrize("label", SENTENCES)
@pytest.mark.parametrize("place", ["header", "meta", "http-equiv"])
def test_a_page_is_decoded_by_the_charset_that_is_declared(
    tmp_path, label, place
):
    sentence = SENTENCES[label]
    heads = {
        "header": "",
        "meta": f"<meta charset='{label}'>",
        "http-equiv": "<meta http-equiv=Content-Type content='text/html; "
        f"charset={label}'>",
    }
    content_type = "text/html"
    if place == "header":
        content_type = f'text/html; charset="{label.upper()}"'
    html = foreign_page(sentence, heads[place])
    item = read_page(
        f"{tmp_path}/a.warc",
        html.encode(CODECS.get(label, label)),
        content_type,
    )
    assert sentence.strip() in item.text
    assert not item.notes


@pytest.mark.parametrize(
    "content_type, head, encoding",
    [
        # The HTTP header goes before the page, a mark before both.
        ("text/html; charset=cp1251", "<meta charset=koi8-r>", "cp1251"),
        ("text/html; charset=koi8-r", "", "utf-16"),
        ("text/html; charset=utf-16le", "", "utf-16-le"),
        # Declarations that do not fit the bytes are not believed.
        ("text/html; charset=utf-8", "<meta charset=cp1251>", "cp1251"),
        ("text/html; charset=iso-8859-1", "", "utf-8"),
        ("text/html; charset=utf-16", "<meta charset=koi8-r>", "koi8-r"),
        ("text/html", "<meta charset=utf-16>", "utf-8"),
        # A name that nobody knows says nothing.
        ("text/html; charset=none", "<meta charset=koi8-r>", "koi8-r"),
        (
            "application/xhtml+xml",
            "",
            "cp1251",
        ),
    ],
)
def test_declarations_are_ranked_as_browsers_rank_them(
    tmp_path, content_type, head, encoding
):
    html = foreign_page(SENTENCES["koi8-r"], head)
    if content_type.startswith("application"):
        html = f'<?xml version="1.0" encoding="windows-1251"?>\n{html}'
    item = read_page(f"{tmp_path}/a.warc", html.encode(encoding), content_type)
    assert SENTENCES["koi8-r"].strip() in item.text
    assert not item.notes


def test_charsets_that_nobody_declares_are_guessed_and_counted(tmp_path):
    path = f"{tmp_path}/a.warc"
    html = foreign_page(SENTENCES["windows-1251"]).encode("cp1251")
    for content_type in ("text/html", "text/html; charset=nonsense"):
        item = read_page(path, html, content_type)
        assert SENTENCES["windows-1251"].strip() in item.text
        assert dict(item.notes) == {"charsets_guessed": 1}
    # A few wrong bytes do not change the encoding.
    html = foreign_page(SENTENCES["koi8-r"]).encode()
    item = read_page(path, html[:300] + b"\xd0" + html[300:])
    assert SENTENCES["koi8-r"].strip() in item.text
    assert dict(item.notes) == {"texts_with_undecodable_bytes": 1}


def test_text_of_wet_that_is_mostly_undecodable_is_garbled(tmp_path):
    path = f"{tmp_path}/a.warc"
    text = SENTENCES["windows-1251"]
    files.write_bytes(
        path,
        record("conversion", text.encode("cp1251"))
        + record("conversion", text.encode("utf-16"))
        + record("conversion", text.encode() + b"\xd0")
        + record("conversion", text.encode()),
    )
    found = read(path)
    assert [getattr(item, "reason", None) for item in found] == [
        *("garbled", "garbled", None, None)
    ]
    assert dict(found[2].notes) == {"texts_with_undecodable_bytes": 1}


def chunked(content, size=1000):
    pieces = [content[i : i + size] for i in range(0, len(content), size)]
    return b"".join(
        b"%x; x=y\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""]
    )


def raw_deflate(content):
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(content) + compressor.flush()


def brotli_compress(content):
    return pytest.importorskip("brotli").compress(content)


ENCODINGS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "br": brotli_compress,
    "zstd": zstandard.compress,
    "deflate, gzip": lambda content: gzip.compress(zlib.compress(content)),
    "identity": bytes,
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_encodings_of_http_are_undone(tmp_path, name, monkeypatch):
    path = f"{tmp_path}/a.warc"
    html = foreign_page(SENTENCES["iso-8859-2"]).encode("iso-8859-2")
    encoded = ENCODINGS[name](html)
    options = {
        "content_type": "text/html; charset=iso-8859-2",
        "headers": [f"Content-Encoding: {name}"],
    }
    chunks = {**options, "headers": [*options["headers"], CHUNKED]}
    for item in (
        read_page(path, encoded, **options),
        read_page(path, chunked(encoded, 100), **chunks),
        # Crawlers store decoded content beside the original headers.
        read_page(path, html, **options),
        read_page(path, html, **chunks),
    ):
        assert SENTENCES["iso-8859-2"].strip() in item.text
    if name == "identity":
        return
    for item in (
        read_page(path, encoded[:-9], **options),
        read_page(path, encoded[:9] + b"x" + encoded[12:], **options),
        read_page(path, chunked(encoded, 100)[:-30], **chunks),
        read_page(path, chunked(encoded, 100)[:50] + encoded, **chunks),
    ):
        assert item.reason in ("not_decoded", "no_text", "garbled"), item
    assert read_page(path, encoded[:-9], **options).reason == "not_decoded"
    # A small file of a few KB may be a page of gigabytes.
    monkeypatch.setattr(warc, "_MAX_PAGE_BYTES", 1 << 16)
    encoded = ENCODINGS[name](bytes(1 << 22))
    assert len(encoded) < 1 << 16
    assert read_page(path, encoded, **options).reason == "too_long"


CHUNKED = "Transfer-Encoding: chunked"


def test_a_record_that_is_not_whole_is_named(tmp_path):
    path = f"{tmp_path}/a.warc"
    good = record("conversion", "Река поднялась.".encode(), "http://a/good")

    def bad(length):
        return record("conversion", b"text " * 9, "http://a/bad", length)

    for content, problem in (
        (good + bad(46) + good, None),  # It takes in its blank line.
        (good + bad(70) + good, "'.*' after the record of http://a/bad"),
        (good + bad(40) + good, "'text' after the record of http://a/bad"),
        (good + bad(9999) + good, "ends .* bytes before .* http://a/bad at"),
        (
            good + bad("x9") + good,
            "http://a/bad at byte .* Content-Length 'x9'",
        ),
        (good + bad(-1) + good, "http://a/bad at byte .* Content-Length '-1'"),
        (good + bad("") + good, "http://a/bad at byte .* has no length"),
        (good + bad(45)[:-20], "ends 16 bytes before .* http://a/bad"),
        (good + bad(45)[:-80], "http://a/bad|has no length|not a"),
        (
            good + b"garbage\r\n" + good,
            "'garbage' after the record of http://a/g",
        ),
        (b"garbage\r\n" + good, "'garbage' at the beginning of the file"),
    ):
        files.write_bytes(path, content)
        if problem is None:
            assert len(read(path)) == 3
            continue
        with pytest.raises(errors.UserError, match=rf"a\.warc: .*{problem}"):
            read(path)
    # The length is right, and only the blank lines after it are missing.
    files.write_bytes(path, (good + bad(45))[:-4])
    assert len(read(path)) == 2


def test_gzip_need_not_follow_the_records(tmp_path):
    path = f"{tmp_path}/a.warc.gz"
    content = b"".join(record("conversion", b"text %d" % i) for i in range(9))
    files.write_bytes(
        path, gzip.compress(content[:500]) + gzip.compress(content[500:])
    )
    assert len(read(path)) == 9
    files.write_bytes(path, gzip.compress(content)[:-20])
    with pytest.raises(errors.UserError, match="truncated or corrupt"):
        read(path)


def test_pages_of_resources_are_read_and_unknown_records_counted(tmp_path):
    path = f"{tmp_path}/a.warc"
    html = foreign_page(SENTENCES["koi8-r"]).encode("koi8-r")
    resource = record("resource", html).replace(
        b"Content-Length",
        b"Content-Type: text/html; charset=koi8-r\r\nContent-Length",
    )
    content = resource + record("resource", html) + record("continuation", b"x")
    files.write_bytes(path, content + record("metadata", b"x"))
    found = read(path)
    assert SENTENCES["koi8-r"].strip() in found[0].text
    assert [item.reason for item in found[1:]] == ["not_html", "unknown_record"]


def test_arc_files_are_read(tmp_path):
    path = f"{tmp_path}/a.arc"
    html = foreign_page(SENTENCES["euc-jp"]).encode("euc-jp")
    response = (
        b"HTTP/1.0 200 OK\r\nContent-Type: text/html; charset=euc-jp\r\n\r\n"
    )
    response += html
    version = (
        b"1 0 X\nURL IP-address Archive-date Content-type Archive-length\n"
    )
    header = b"filedesc://a.arc 0.0.0.0 20080430204825 text/plain %d\n%b\n"
    page = b"http://a/%d 1.2.3.4 20080430204826 text/html %d\n%b\n"
    content = header % (len(version), version)
    for i in range(2):
        content += page % (i, len(response), response)
    files.write_bytes(path, content)
    found = read(path)
    assert [item.id for item in found] == ["http://a/0", "http://a/1"]
    assert all(SENTENCES["euc-jp"] in item.text for item in found)
    files.write_bytes(path, content[:-100])
    with pytest.raises(
        errors.UserError, match="ends 99 bytes .* http://a/1 at"
    ):
        read(path)
