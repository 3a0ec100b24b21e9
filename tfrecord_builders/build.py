r"""Builds a dataset of masked TFRecords from raw text.

    python -m tfrecord_builders.build --source=wikipedia \\
        --input='dumps/*.xml.bz2' --vocab_file=vocab.txt --output_dir=records

If a build was interrupted, the same command continues it.
"""

import time
import typing

from bert_pretrain import command_line, errors, interruption
from tfrecord_builders.stages import build_config

if typing.TYPE_CHECKING:
    from bert_pretrain.data import manifests


# If most articles end with a section of an unknown title, the language's table
# lacks titles. A wiki in a language without a table has nearly none that it
# knows; the English sample has no other.
_HIGH_SHARE = 0.5
_NUM_ARTICLES_TO_JUDGE = 20


def main(config: build_config.BuildConfig) -> None:
    """Builds the dataset and prints a summary of it."""
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    from tfrecord_builders.building import pipeline

    started = time.monotonic()
    stage_seconds: dict[str, float] = {}
    manifest = pipeline.build(config, stage_seconds.__setitem__)
    if not stage_seconds:
        print(f"{config.output_dir} already holds this dataset; nothing to do.")
        return
    stages = ", ".join(f"{k} {v:.1f} s" for k, v in stage_seconds.items())
    print(
        f"\nBuilt {config.output_dir} in {time.monotonic() - started:.1f} s "
        f"({stages})."
    )
    _print_documents(manifest)
    _print_splits(manifest)


def _print_documents(manifest: "manifests.Manifest") -> None:
    counts = manifest.documents
    print(
        f"Documents: {counts['read']:,} read, {counts['kept']:,} kept"
        + "".join(
            f", {count:,} {reason.replace('_', ' ')}"
            for reason, count in counts["dropped"].items()
        )
        + "."
    )
    _print_sections(counts)
    if num_cut := manifest.rows["num_tokens_cut"]:
        print(
            f"Pairs: {num_cut:,} tokens cut from segments of other documents."
        )


def _print_sections(counts: dict[str, typing.Any]) -> None:
    """Says whether lists of works and links may be in the text of articles."""
    num_articles = counts["articles_with_sections"]
    num_unknown = counts["unknown_last_sections"]
    if not num_articles:
        return
    print(
        f"Sections: {num_unknown / num_articles:.0%} of {num_articles:,} "
        "articles with sections end with one of an unknown title."
    )
    if (
        num_articles >= _NUM_ARTICLES_TO_JUDGE
        and num_unknown > _HIGH_SHARE * num_articles
    ):
        titles = ", ".join(
            f"{title!r} ({count:,})"
            for title, count in counts["unknown_headings"].items()
        )
        errors.warn(
            f"{num_unknown:,} of {num_articles:,} articles end with a "
            "section that is not known as a list of works or links, so such "
            f"lists may be in the text. Most frequent titles: {titles}. Add "
            "those of lists to the language in "
            "tfrecord_builders/languages/end_sections.yaml, and build again "
            "into another folder."
        )


def _print_splits(manifest: "manifests.Manifest") -> None:
    print(
        f"{'split':8}{'documents':>11}{'examples':>11}{'tokens':>13}"
        f"{'padding':>9}{'shards':>8}{'MB':>9}"
    )
    for name, split in manifest.splits.items():
        num_bytes = sum(shard.num_bytes for shard in split.shards)
        print(
            f"{name:8}{split.num_documents:11,}{split.num_examples:11,}"
            f"{split.num_tokens:13,}{split.padding_fraction:9.1%}"
            f"{len(split.shards):8,}{num_bytes / 2**20:9.1f}"
        )
    if manifest.is_packed:
        padding = manifest.splits["train"].unpacked_padding_fraction
        print(f"With one document a row, {padding:.1%} would be padding.")


if __name__ == "__main__":
    interruption.survive_closed_console()
    command_line.run(main, build_config.BuildConfig)
