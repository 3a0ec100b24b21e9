"""Extracted documents keep what their readers and the options know of them."""

import pytest

from helpers import builds, prose
from tfrecord_builders.engines import work_units
from tfrecord_builders.sources import documents
from tfrecord_builders.stages import build_config, document_parts, extract

GERMAN = (
    "Die Brücke ist seit dem 3. Oktober gesperrt, und niemand weiß, wann sie "
    "wieder frei wird. Der Bürgermeister sagt, dass es noch lange dauert."
)


@pytest.fixture
def languages_of(tmp_path, monkeypatch):
    """The languages of documents after they were extracted."""

    def extracted(*given, **options):
        monkeypatch.setattr(
            extract.documents, "read", lambda *_: [(each, 0) for each in given]
        )
        monkeypatch.setattr(extract.template_redirects, "read", lambda _: {})
        builds.write_news(f"{tmp_path}/news-1.jsonl", 1)
        config = builds.config_of(str(tmp_path), **options).dataset
        stage = extract.stage(build_config.Work(config, str(tmp_path)))
        summary = stage.run(
            stage.units[0],
            f"{tmp_path}/part",
            work_units.UnitProgress(send=lambda report: None),
        )
        parts = document_parts.open_parts(str(tmp_path), summary["parts"])
        return [language for part in parts for *_, language in part.read()]

    return extracted


def test_a_document_has_the_language_that_its_reader_tells(languages_of):
    told = documents.Document("1", GERMAN, "nds")
    untold = documents.Document("2", GERMAN)
    english = documents.Document("3", prose.NEWS["en"])
    other = documents.Document("4", prose.NEWS["zh"])
    assert languages_of(told, untold, english, other) == [
        *("nds", "de", "en", "zh")
    ]


def test_else_the_one_that_is_asked_for(languages_of):
    short = documents.Document(
        "1", "Sitzungssaal im Rathaus Köln, 3. Stock, täglich geöffnet."
    )
    asked = {"language": ("de",), "min_document_chars": 10}
    assert languages_of(short, **asked) == ["de"]
    # Of several languages, the text says which one it is.
    asked["language"] = ("de", "en")
    german = documents.Document("1", GERMAN)
    english = documents.Document("2", prose.NEWS["en"])
    assert languages_of(german, english, **asked) == ["de", "en"]
