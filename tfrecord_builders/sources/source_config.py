"""Options that say which documents are read, and how."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from bert_pretrain import errors, options

DEFAULT_TITLE_FIELD = "title"
_MAX_WEIGHT = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceConfig(options.Options):
    """Files of documents, their format, and their weights."""

    source: tuple[
        Literal[
            "wikipedia", "cirrus", "jsonl", "csv", "text", "parquet", "warc"
        ],
        ...,
    ] = options.option(
        "Format of the input: a MediaWiki XML dump, a CirrusSearch dump, JSON "
        "lines, CSV, plain text, Parquet or web archives. Give one for all, or "
        "repeat it to give one for each --input."
    )
    input: tuple[str, ...] = options.option(
        "Files, or patterns of them, local or gs://. Files that end in .bz2, "
        ".gz, .xz or .zst are decompressed. May be repeated."
    )
    text_field: str = options.option(
        "JSON field, or column of CSV or Parquet, that holds the text. "
        "doc.text: the field text inside the field doc.",
        "text",
    )
    title_field: str = options.option(
        "JSON field, or column of CSV or Parquet, that holds the title. The "
        "title becomes the first line of the text. Empty: no title.",
        DEFAULT_TITLE_FIELD,
    )
    csv_delimiter: str = options.option(
        "Character between the columns of CSV; \\t for tabs.", ","
    )
    csv_quoting: Literal["minimal", "none"] = options.option(
        "minimal: fields of CSV may be in double quotes. none: quotes are "
        "ordinary characters, as in most files with tabs.",
        "minimal",
    )
    csv_escape: str = options.option(
        "Character that takes the meaning from the next one in CSV, for "
        "example a backslash, as Spark and MySQL write before quotes. Empty: "
        "none; quotes inside quotes are doubled.",
        "",
    )
    csv_columns: str = options.option(
        "Names of the columns of CSV files without a header line, separated "
        "by commas. Empty: the first line of each file names the columns.",
        "",
    )
    text_layout: Literal["blocks", "line", "file"] = options.option(
        "One document of plain text is: a block between blank lines, a line, "
        "or a file.",
        "blocks",
    )
    template_redirects: bool = options.option(
        "Search each Wikipedia dump for other names of templates before it is "
        "read. It takes as long as to decompress the dump: for .bz2 an eighth "
        "of the build's time, without compression a hundredth.",
        True,
    )
    weight: tuple[float, ...] = options.option(
        "Number of copies of each training document of an input in the "
        "dataset. 2: each document twice. 0.5: half of the documents, chosen "
        "by hash. 1.5: all documents once and half of them twice. Held-out "
        "documents occur once, with any weight. Give one for all, or one for "
        "each --input. Default: 1.",
        (),
        above=0,
        at_most=_MAX_WEIGHT,
    )
    max_mb: tuple[float, ...] = options.option(
        "Maximum MB of training text from all files of an input together, "
        "approximately. The weight of the input is lowered to reach it. 0: "
        "no maximum. Give one for all, or one for each --input.",
        (),
        at_least=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.input:
            raise errors.UserError("input is empty; name files to read.")
        _check_count("source", self.source, self.input)
        if self.weight:
            _check_count("weight", self.weight, self.input)
        if self.max_mb:
            _check_count("max_mb", self.max_mb, self.input)
        delimiter = self.csv_delimiter.replace("\\t", "\t")
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise errors.UserError(
                f"csv_delimiter={self.csv_delimiter!r} must be a single "
                "character, but not a quote or a line break."
            )
        if self.csv_escape and (
            len(self.csv_escape) > 1 or self.csv_escape in f'"\r\n {delimiter}'
        ):
            raise errors.UserError(
                f"csv_escape={self.csv_escape!r} must be empty or a single "
                "character, but not a quote, a space, a line break or the "
                "delimiter."
            )
        if not self.text_field:
            raise errors.UserError("text_field is empty; name a field.")


def _check_count(
    name: str, values: Sequence[str | float], inputs: Sequence[str]
) -> None:
    if len(values) not in (1, len(inputs)):
        raise errors.UserError(
            f"{len(values)} values of {name} do not fit {len(inputs)} of "
            "input; give one for all, or one for each in the same order."
        )
