"""Sentences in CoNLL's columns: a word in each line, its tag in the last field.

Tags say where spans are, such as names: in IOB1 and IOB2 (BIO) by the prefixes
B and I, in BIOES and its kin also by prefixes for a span's last word and for
its only word. Tjong Kim Sang and Veenstra 1999 compare them; Tjong Kim Sang and
De Meulder 2003 describe the files.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bert_pretrain import errors, files
from bert_pretrain.tasks import examples

_OUTSIDE = "O"
# Word segmentation has prefixes without a type of span.
_TAG = re.compile(r"O|([BILUMESW])(-.+)?")
# Begin, inside, last word of a span; its only word.
_SCHEMES = ("BI", "BIES", "BILU", "BMES", "BMEW")
_DOCUMENT = "-DOCSTART-"
# CoNLL-U's, and not the word # with its tag.
_COMMENT = re.compile(r"# *([\w:.]+ = |newdoc|newpar|text)")


class Span(NamedTuple):
    """The words [start, end) of a sentence, and what they are."""

    start: int
    end: int
    kind: str


class _Line(NamedTuple):
    number: int
    fields: list[str]


def read(
    path: str,
    *,
    word_column: int = 0,
    tag_column: int = -1,
    needs_tags: bool = True,
) -> examples.TaggedSentences:
    """Reads the sentences of a file; empty lines part them.

    Tabs part the fields of a line that has tabs, otherwise spaces. Lines of
    -DOCSTART- and comments of CoNLL-U are left out.

    Args:
      path: a name that ends with .gz is that of a compressed file.
      word_column: counts from 0, or from -1 for the last one.
      tag_column: counts in the same way.
      needs_tags: whether tags are read.

    Raises:
      UserError: if lines have different numbers of fields, if a word is empty
        or a tag has no prefix of a scheme, or without any sentence.
    """
    sentences = list(_sentences(path, files.read_text(path)))
    if not sentences:
        raise errors.UserError(f"{path}: no sentences; add some.")
    wanted = [word_column, *([tag_column] if needs_tags else [])]
    _check_width(path, sentences, wanted)
    words = [[x.fields[word_column] for x in each] for each in sentences]
    tags = None
    if needs_tags:
        tags = [
            [x.fields[tag_column].strip() for x in each] for each in sentences
        ]
    found = examples.TaggedSentences(
        path=path,
        lines=[each[0].number for each in sentences],
        words=words,
        tags=tags,
    )
    _check_words(found)
    if needs_tags:
        _check_tags(found)
    return found


def tag_set(train: examples.TaggedSentences) -> examples.LabelSet:
    """The tags of training sentences: O, then the others, sorted.

    For each kind of span all tags of the file's scheme are among them: a small
    file may have no place of two words, while the next one has.

    Raises:
      UserError: if no word is in a span.
    """
    tags = set(itertools.chain(*(train.tags or ()))) - {_OUTSIDE}
    if not tags:
        raise errors.UserError(
            f"{train.path}: all tags are {_OUTSIDE!r}, so there is nothing to "
            "learn; check the column of the tags."
        )
    prefixes = {tag[0] for tag in tags}
    scheme = next(each for each in _SCHEMES if prefixes <= set(each))
    all_tags = {prefix + tag[1:] for prefix in scheme for tag in tags}
    return examples.LabelSet(train.path, (_OUTSIDE, *sorted(all_tags)))


def spans(tags: Sequence[str]) -> list[Span]:
    """The spans of a sentence, decoded as the script conlleval does.

    Every sequence of tags has a meaning, since a model may predict any. A span
    goes on where a tag for the inside or the end follows one of the same kind
    for the beginning or the inside; otherwise a new one begins.
    """
    found: list[Span] = []
    is_open = False  # Whether the last span may go on.
    for position, tag in enumerate(tags):
        prefix, _, kind = tag.partition("-")
        if prefix == _OUTSIDE:
            is_open = False
            continue
        if is_open and prefix in "IMEL" and kind == found[-1].kind:
            found[-1] = found[-1]._replace(end=position + 1)
        else:
            found.append(Span(position, position + 1, kind))
        is_open = prefix in "BIM"
    return found


def _sentences(path: str, text: str) -> Iterator[list[_Line]]:
    sentence: list[_Line] = []
    # `splitlines` would also split at characters that words may hold.
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        separator = "\t" if "\t" in line else " "
        fields = line.split(separator)
        if separator == " ":
            fields = [field for field in fields if field]
        if any(fields) and fields[0] != _DOCUMENT and not _COMMENT.match(line):
            sentence.append(_Line(number, fields))
        elif sentence:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _check_width(
    path: str, sentences: Sequence[list[_Line]], wanted: Sequence[int]
) -> None:
    """Refuses lines without a wanted column, or with others than the first."""
    width = len(sentences[0][0].fields)
    for line in itertools.chain(*sentences):
        if len(line.fields) != width:
            raise errors.UserError(
                f"{path}:{line.number}: {len(line.fields)} columns, but "
                f"{width} before; write a word in each line and an empty line "
                "after each sentence, with tabs if words hold spaces."
            )
    needed = max(c + 1 if c >= 0 else -c for c in wanted)
    if width < max(needed, len(wanted)):
        raise errors.UserError(
            f"{path}:{sentences[0][0].number}: {width} columns, which is too "
            f"few to read the columns {', '.join(map(str, wanted))}; write a "
            "word and its tag in each line."
        )


def _check_words(found: examples.TaggedSentences) -> None:
    for index, words in enumerate(found.words):
        if "" in words:
            raise errors.UserError(
                f"{found.name_of(index, words.index(''))}: the word is empty; "
                "write one, or remove the line."
            )


def _check_tags(found: examples.TaggedSentences) -> None:
    """Refuses tags that are no scheme, or of more than one."""
    prefixes: set[str] = set()
    good: set[str] = set()
    for index, tags in enumerate(found.tags or ()):
        for word, tag in enumerate(tags):
            if tag in good:
                continue
            place = found.name_of(index, word)
            if not (match := _TAG.fullmatch(tag)):
                raise errors.UserError(
                    f"{place}: the tag {tag!r} does not say where a span "
                    "begins; write O outside of spans, and B-PER for the first "
                    "word of a span of the kind PER, I-PER for the others."
                )
            good.add(tag)
            prefixes |= set(match[1] or "")
            if not any(prefixes <= set(each) for each in _SCHEMES):
                raise errors.UserError(
                    f"{place}: the tag {tag!r} does not go with those before, "
                    f"whose prefixes are {', '.join(sorted(prefixes))}; use "
                    "one scheme: B and I, or B, I, E, S."
                )
