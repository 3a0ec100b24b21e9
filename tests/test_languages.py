"""The same prose, in twelve languages and scripts, keeps all of its text."""

import pathlib
import re
import sys

import pytest

from tfrecord_builders import report
from tfrecord_builders.reporting import language_shares
from tfrecord_builders.sources import documents

SCRIPT = pathlib.Path(__file__).parent.parent / "benchmarks" / "languages.py"
sys.path.insert(0, str(SCRIPT.parent))
import languages  # noqa: E402

# Each of the two articles has three paragraphs of four sentences.
NUM_ARTICLES, NUM_PARAGRAPHS, NUM_SENTENCES = 2, 6, 24
# The bridge's length, the year and the loaves of one night: all but the second
# are in templates. Some wikis group the digits of a number.
NUMBERS = ("214", "1990", r"10\D?000")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with a dump in each language and one dataset of them all."""
    folder = str(tmp_path_factory.mktemp("languages"))
    for language in languages.LANGUAGES:
        languages.write_dump(
            f"{folder}/{language}.xml", language, languages.read_prose(language)
        )
    return folder, languages.build(folder, vocab_size=8000)


def text_of(folder, language):
    source = documents.SourceConfig(
        source=("wikipedia",), input=(f"{folder}/{language}.xml",)
    )
    return "\n".join(languages.read_texts(source))


@pytest.mark.parametrize("language", languages.LANGUAGES)
def test_keeps_the_text_of_every_language(built, language):
    _, manifest = built
    counts = manifest.languages[language]
    assert (counts["read"], counts["kept"]) == (NUM_ARTICLES, NUM_ARTICLES)
    assert counts["paragraphs"] == NUM_PARAGRAPHS
    if language != "th":  # Thai ends no sentence with a mark.
        assert counts["sentences"] == NUM_SENTENCES
    assert counts["marks"] == 0
    # A character that occurs once may be left out of the vocabulary.
    assert counts["unknown"] <= 0.005 * counts["tokens"]
    # A word that falls into single letters has more tokens.
    assert counts["tokens"] < 3 * counts["words"] or language == "th"


@pytest.mark.parametrize("language", languages.LANGUAGES)
def test_keeps_the_words_and_numbers_of_templates(built, language):
    folder, _ = built
    text = text_of(folder, language)
    for number in NUMBERS:
        assert re.search(number, text), number


def test_the_report_shows_each_language(built):
    folder, manifest = built
    path = f"{folder}/report.html"
    report.main(
        report.ReportConfig(data_dir=f"{folder}/records", output_file=path)
    )
    page = pathlib.Path(path).read_text()
    shown = page.split("Languages</h2>")[1].split("</section>")[0]
    for language, counts in manifest.languages.items():
        cells = [language, *language_shares.describe(counts)]
        assert "".join(f"<td>{cell}</td>" for cell in cells) in shown
    # All articles end with a list of links or references.
    assert "0.0% of 24 articles with sections" in page
