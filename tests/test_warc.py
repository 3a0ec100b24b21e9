"""WARC: the pages of a web archive, written here by warcio itself."""

import gzip
import io

import pytest
import trafilatura
import zstandard
from warcio import statusandheaders, warcwriter

from bert_pretrain import errors, files
from tfrecord_builders.sources import documents, streams

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
    from tfrecord_builders.sources import warc

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
        match=r"needs warcio and trafilatura: pip install .*\[warc\]",
    ):
        read(path)
