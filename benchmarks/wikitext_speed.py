"""Compares our wikitext extraction with mwparserfromhell's strip_code.

    python benchmarks/wikitext_speed.py
    python benchmarks/wikitext_speed.py --input=enwiki-part.xml.bz2

Both get the markup of the same articles, which are those that the builder
keeps of a dump, and both run in this process. The benchmark counts CPU
seconds. The functions take turns in each round; the benchmark prints medians.
It compares their texts article by article:

    words   share of the words in one text that the other text has too, with
            repetitions; also for strip_code on markup without tables, notes
            and so on, which our extraction removes on purpose
    marks   remaining pieces of markup in each MB of text
"""

import collections
import dataclasses
import re
import statistics
import tempfile
import time
from unittest import mock

import mwparserfromhell

from bert_pretrain import command_line, options
from tfrecord_builders.sources import documents, sample
from tfrecord_builders.wikitext import article, blocks, headings, links

_MARKS = "{{", "}}", "[[", "|", "<ref", "thumb|"
_WORD = re.compile(r"\w+")
_NUM_SHOWN = 15


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(options.Options):
    input: str = options.option("A dump; default: the embedded sample.", "")
    megabytes: float = options.option(
        "Wikitext to read at most.", 20.0, above=0
    )
    rounds: int = options.option("Number of rounds.", 5, at_least=1)


def main(config: BenchmarkConfig) -> None:
    articles = _read(config)
    num_bytes = sum(len(markup.encode()) for markup, _ in articles)
    print(f"{len(articles):,} articles, {num_bytes / 1e6:.1f} MB of wikitext")
    extract = {"strip_code": _strip_code, "ours": article.to_text}
    seconds: dict[str, list[float]] = {name: [] for name in extract}
    for number in range(config.rounds):
        for name, function in extract.items():
            started = time.process_time()
            for markup, syntax in articles:
                function(markup, syntax)
            seconds[name].append(time.process_time() - started)
            print(f"  round {number + 1}: {name} {seconds[name][-1]:.2f} s")
    rates = {
        name: num_bytes / 1e6 / statistics.median(taken)
        for name, taken in seconds.items()
    }
    for name, rate in rates.items():
        print(f"{name}: {rate:.2f} MB/s")
    ratios = [
        theirs / ours for theirs, ours in zip(*seconds.values(), strict=True)
    ]
    print(
        f"ratio: {rates['ours'] / rates['strip_code']:.1f} "
        f"({min(ratios):.1f} to {max(ratios):.1f})"
    )
    texts = {
        name: [function(markup, syntax) for markup, syntax in articles]
        for name, function in extract.items()
    }
    _show_words("strip_code", texts["strip_code"], texts["ours"])
    _show_words("ours", texts["ours"], texts["strip_code"])
    prose = [
        _strip_code(_cut(markup, syntax), None) for markup, syntax in articles
    ]
    _show_words("strip_code, only prose", prose, texts["ours"])
    _show_marks(texts)


def _read(config):
    """(markup, syntax) of each article, as `article.to_text` gets them."""
    articles, num_bytes = [], 0

    def take(markup, syntax, *_):
        nonlocal num_bytes
        articles.append((markup, syntax))
        num_bytes += len(markup.encode())
        return markup

    with tempfile.TemporaryDirectory() as folder:
        path = config.input
        if not path:
            sample.fetch(folder)
            path = f"{folder}/enwiki-sample.xml.bz2"
        source = documents.SourceConfig(source=("wikipedia",), input=(path,))
        with mock.patch.object(article, "to_text", take):
            for unit in documents.plan(source, 1 << 30):
                for span in unit:
                    for _ in documents.read(span, source):
                        if num_bytes > config.megabytes * 1e6:
                            return articles
    return articles


def _strip_code(markup, syntax):
    del syntax
    return mwparserfromhell.parse(markup).strip_code()


def _cut(markup, syntax):
    """Removes the markup that our extraction removes on purpose.

    The comparison does not cover this markup: end sections, headings, notes,
    galleries, formulas, tables, and images with their captions.
    """
    text = blocks.cut_comments(markup)
    text = headings.cut_end_sections(text, syntax.language)
    text = blocks.cut_elements(text)
    text = blocks.cut_tables(text)
    return links.cut_unseen_links(text, syntax)


def _show_words(name, texts, others):
    """Prints the share of words in some texts that the other texts have."""
    total = 0
    missing: collections.Counter[str] = collections.Counter()
    for text, other in zip(texts, others, strict=True):
        words = collections.Counter(_WORD.findall(text))
        total += words.total()
        missing += words - collections.Counter(_WORD.findall(other))
    frequent = ", ".join(
        f"{word} {count:,}" for word, count in missing.most_common(_NUM_SHOWN)
    )
    print(
        f"{name}: {total:,} words; the other has "
        f"{1 - missing.total() / total:.1%} of them; most frequent missing "
        f"words: {frequent}"
    )


def _show_marks(texts):
    print(f"{'marks a MB of text':20}" + "".join(f"{m:>9}" for m in _MARKS))
    for name, extracted in texts.items():
        megabytes = sum(len(text.encode()) for text in extracted) / 1e6
        counts = [
            sum(text.count(mark) for text in extracted) for mark in _MARKS
        ]
        print(
            f"{name:20}"
            + "".join(f"{count / megabytes:9.1f}" for count in counts)
        )


if __name__ == "__main__":
    command_line.run(main, BenchmarkConfig)
