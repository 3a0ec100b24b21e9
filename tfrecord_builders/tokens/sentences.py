"""Splits text into sentences.

One regular expression finds the places where a sentence may end. The words
before and after the place decide whether it ends there, by the rules of the
text's language (`languages/sentences.yaml`):

*   An abbreviation that is always followed by a name ("Mr.") ends no sentence.
*   An abbreviation that may be the last word ("U.S.", "Inc.", "p.m.") ends a
    sentence if the next word usually begins one ("The", "He"). So does a number
    where it may be an ordinal ("3. Oktober").
*   A line feed always ends a sentence.
*   The full stops of Chinese, Japanese, Hindi, Arabic and other scripts have no
    other use, so they always end a sentence.
*   Thai and Lao have no full stop, and Tibetan has the same mark after each
    phrase. There a sentence ends at the first pause, which is a space in Thai,
    after about as much text as an English sentence has.

A language that has no rules gets those of English.
"""

import functools
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tfrecord_builders import language_tables

# Rows consist of whole sentences, so a wrong decision here moves the border of
# a row by one sentence. A missing split does less harm than a wrong one, so
# rare cases are not split.

_CLOSERS = "\"')\\]}”’»›」』）】》〉〕］｣＂＇"
_OPENERS = "\"'(\\[{“‘«‹「『（【《〈¿¡„‚"
# Always end a sentence: ideographic, Devanagari, Arabic, Urdu, Armenian,
# Ethiopic, Khmer, Burmese, Mongolian, Syriac, Javanese, Balinese, Tai Tham,
# Ol Chiki, Meetei, Lisu, Vai, Bamum, Limbu and Tibetan full stops and question
# marks, from Unicode's Sentence_Terminal.
_SURE = "。！？｡।॥؟۔։።፧፨៕។။᠃᠉܀܁܂꧉᭟᪨᪩᱾᱿꯫꓿꘎꛳᥄᥅༎"
_CASED = ".!?…"
_SPACE = r"[^\S\n]"  # white space within a line


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


def _ranges(is_member: Callable[[str], bool]) -> str:
    """The members of a character class in the first plane, as ranges."""
    ranges: list[str] = []
    last = -2
    for code in filter(lambda i: is_member(chr(i)), range(0x10000)):
        if code == last + 1:
            ranges.pop()
        else:
            first = code
        ranges.append(f"\\u{first:04x}-\\u{code:04x}")
        last = code
    return "".join(ranges)


# Georgian has small letters only, so they begin sentences too.
_LOWER = _ranges(
    lambda c: unicodedata.category(c) == "Ll" and not "ა" <= c <= "ჿ"
)
_WORD = (
    f"[{_ranges(lambda c: c.isalnum() or _is_mark(c))}\U00010000-\U0010ffff]+"
)
_CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"

# Before and after a full stop that may be part of an abbreviation.
_LONGEST_ABBREVIATION = 12  # characters
_LAST_PIECE = re.compile(f"{_WORD}(?:[.&]{_WORD})*$")
_NEXT_WORD = re.compile(f"[{_OPENERS}]{{0,5}}({_WORD})(?={_SPACE}|[,'’])")
_DIGIT = re.compile(r"[#$£€]?\d")
_ROMAN = re.compile(r"[IVXLCDM]{2,}")
_I = re.compile(r"I\b")

_ENGLISH = "en"
# English prose has about as many characters in a sentence.
_MIN_CHARS_BEFORE_PAUSE = 100


class _Rules(NamedTuple):
    """The rules of a language: see `languages/sentences.yaml`."""

    candidate: re.Pattern[str]
    pause: re.Pattern[str] | None
    starters: frozenset[str]
    names: frozenset[str]
    numbers: frozenset[str]
    last: frozenset[str]
    abbreviations: frozenset[str]  # all of them, also with a capital letter
    ordinal_digits: int
    initial_letters: int
    is_english: bool


def split(text: str, language: str = "") -> list[str]:
    """Splits text into sentences without white space around them.

    Only white space is lost.

    Args:
      language: the code of its language; empty if it is not known.
    """
    rules = _rules(language)
    sentences: list[str] = []
    start = 0
    for match in rules.candidate.finditer(text):
        at, end = match.span()
        if text[at] == "." and not _is_end(text, start, at, end, rules):
            continue
        sentences += text[start:end].split("\n")
        start = end
    sentences += text[start:].split("\n")
    if rules.pause:
        sentences = [
            part
            for sentence in sentences
            for part in _at_pauses(sentence, rules.pause)
        ]
    return [
        stripped for sentence in sentences if (stripped := sentence.strip())
    ]


def _is_end(text: str, start: int, at: int, end: int, rules: _Rules) -> bool:
    """Whether the full stop at `at` ends a sentence.

    Args:
      start: where the sentence begins, unless a line feed comes after.
      end: where the next sentence would begin.
    """
    start = max(start, text.rfind("\n", start, at) + 1)
    space = text.rfind(" ", max(start, at - _LONGEST_ABBREVIATION), at)
    if space < 0:
        if at - start > _LONGEST_ABBREVIATION:
            return True
        space = start - 1
    word = text[space + 1 : at]
    after = text[at + 1]
    if after in _CASED or text[at - 2 : at] == ". ":
        # "Well... I see" is one sentence; any other capital begins a new one.
        return not _I.match(text, end)
    return _is_end_after(word, space + 1 == start, text, end, rules)


def _is_end_after(
    word: str, is_first: bool, text: str, end: int, rules: _Rules
) -> bool:
    """Whether a sentence ends after a word and a full stop.

    Args:
      is_first: whether the word begins the sentence.
      end: where the next sentence would begin.
    """
    match = _LAST_PIECE.search(word)
    if match is None:
        return True
    piece = match[0]
    if (
        len(piece) > 3
        and piece not in rules.abbreviations
        and piece.isalpha()
        and not piece.isupper()
    ):
        return True  # Nearly all sentences end with such a word.
    # "Vgl." is "vgl." at the start, and "Nr." is "nr." anywhere. But English
    # has "Ed" and others as names.
    small = piece if rules.is_english else piece[0].lower() + piece[1:]
    if piece in rules.names or (is_first and small in rules.names):
        return False
    if piece in rules.numbers or small in rules.numbers:
        if _DIGIT.match(text, end):
            return False
    # A list item, "1. The first", but not "He scored 23. The others".
    if is_first and piece.isdigit() and len(piece) <= 3:
        return False
    if piece in rules.last or _is_initial(word, piece, rules):
        following = _NEXT_WORD.match(text, end)
        return following is not None and following[1] in rules.starters
    return True


def _is_initial(word: str, piece: str, rules: _Rules) -> bool:
    """Whether a piece at the end of a word is "J", "U.S" or an ordinal."""
    if piece.isdigit() or piece.replace(".", "").isdigit():
        # Not "3,5" or "2:1".
        is_decimal = word[: -len(piece)].endswith((",", ":"))
        num_digits = len(piece.rpartition(".")[2])
        return num_digits <= rules.ordinal_digits and not is_decimal
    if "." in piece and piece[-1].isalpha():
        return piece.rfind(".") >= len(piece) - 3
    if rules.is_english:
        return len(piece) == 1 and piece.isupper()
    if rules.ordinal_digits and _ROMAN.fullmatch(piece):
        return True
    num_letters = sum(map(str.isalpha, piece))
    return num_letters <= rules.initial_letters and not any(
        map(str.isdigit, piece)
    )


def _at_pauses(text: str, pause: re.Pattern[str]) -> Iterator[str]:
    """Divides a text at pauses, but not into parts that are too short."""
    start = 0
    for match in pause.finditer(text):
        if match.end() - start >= _MIN_CHARS_BEFORE_PAUSE:
            yield text[start : match.end()]
            start = match.end()
    yield text[start:]


@functools.cache
def _rules(language: str) -> _Rules:
    table = language_tables.read("sentences")
    if language not in table:
        return _rules(_ENGLISH)
    entry = table[language]
    if "as" in entry:
        return _rules(entry["as"])

    def words(key: str) -> frozenset[str]:
        return frozenset(entry.get(key, "").split())

    pause = None
    if "pause" in entry:
        letters = entry["letters"]
        pause = re.compile(f"(?<=[{letters}]){entry['pause']}(?=[{letters}])")
    names, numbers, last = words("names"), words("numbers"), words("last")
    abbreviations = names | numbers | last
    return _Rules(
        candidate=_candidate(entry.get("marks", "")),
        pause=pause,
        starters=words("starters"),
        names=names,
        numbers=numbers,
        last=last,
        abbreviations=abbreviations.union(
            word[0].upper() + word[1:] for word in abbreviations
        ),
        ordinal_digits=entry.get("ordinals", 0),
        initial_letters=entry.get("initials", 1),
        is_english=language == _ENGLISH,
    )


@functools.cache
def _candidate(marks: str) -> re.Pattern[str]:
    """Finds where a sentence may end: after a mark, up to the next sentence.

    Args:
      marks: characters that end a sentence in one language only.
    """
    marks = _CASED + marks
    # Repetitions are bounded, so that time is linear even for malicious text.
    return re.compile(
        f"[{marks}{_SURE}]"
        f"(?:(?<=[{_SURE}])(?!ល។)"  # "។ល។" is "etc." in Khmer.
        f"(?:[{_SURE}{marks}]{{0,20}}(?![{_SURE}{marks}{_CLOSERS}])"
        # The sentence may continue after a closing quote: 「…。」と言う.
        f"|[{_SURE}{marks}{_CLOSERS}]{{1,20}}(?!と|って|[，、；：,;:]))\\s*"
        f"|[{marks}{_CLOSERS}]{{0,20}}"
        # White space, then no small letter; but "iPhone" may begin a sentence.
        f"(?:{_SPACE}+(?=[{_OPENERS}]{{0,5}}(?:[^\\s{_LOWER},;:]|[a-z][A-Z]))"
        # Text with spaces around its tokens: "end . "
        f"|(?<={_SPACE}[.!?]){_SPACE}+(?![\n.,;:])"
        f"|(?<=[!?])(?=[{_OPENERS}]{{0,5}}[{_CJK}])"
        f"|(?<=……)[{_CLOSERS}]{{0,5}}(?![{_CLOSERS}，。、；：,])))"
    )
