"""Splits text into sentences.

One regular expression finds the places where a sentence may end. The words
before and after the place decide whether it ends there:

*   An abbreviation that is always followed by a name ("Mr.") ends no sentence.
*   An abbreviation that may be the last word ("U.S.", "Inc.", "p.m.") ends a
    sentence if the next word usually begins one ("The", "He").
*   A line feed always ends a sentence.
*   The full stops of Chinese, Japanese, Hindi, Arabic and other scripts have no
    other use, so they always end a sentence.
"""

import re

# Rows consist of whole sentences, so a wrong decision here moves the border of
# a row by one sentence. A missing split does less harm than a wrong one, so
# rare cases are not split.

_CLOSERS = "\"')\\]}”’»›」』）】》〉〕］｣＂＇"
_OPENERS = "\"'(\\[{“‘«‹「『（【《〈¿¡„‚"
# Always end a sentence: ideographic, Devanagari, Arabic, Urdu, Armenian,
# Ethiopic, Khmer and Burmese full stops and question marks.
_SURE = "。！？｡।॥؟۔։።៕။"
_CASED = ".!?…"
_LOWER = "a-zß-öø-ÿ\u03ac-\u03ce\u0430-\u045f"
_SPACE = r"[^\S\n]"  # white space within a line
_CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"

# Repetitions are bounded, so that time is linear even for malicious text.
_CANDIDATE = re.compile(
    f"[{_CASED}{_SURE}]"
    f"(?:(?<=[{_SURE}])"
    f"(?:[{_SURE}{_CASED}]{{0,20}}(?![{_SURE}{_CASED}{_CLOSERS}])"
    # The sentence may continue after a closing quote: 「…。」と言う.
    f"|[{_SURE}{_CASED}{_CLOSERS}]{{1,20}}(?!と|って|[，、；：,;:]))\\s*"
    f"|[{_CASED}{_CLOSERS}]{{0,20}}"
    # White space, then no small letter; but "iPhone" may begin a sentence.
    f"(?:{_SPACE}+(?=[{_OPENERS}]{{0,5}}(?:[^\\s{_LOWER},;:]|[a-z][A-Z]))"
    # Text with spaces around its tokens: "end . "
    f"|(?<={_SPACE}[.!?]){_SPACE}+(?![\n.,;:])"
    f"|(?<=[!?])(?=[{_OPENERS}]{{0,5}}[{_CJK}])"
    f"|(?<=……)[{_CLOSERS}]{{0,5}}(?![{_CLOSERS}，。、；：,])))"
)

# Before and after a full stop that may be part of an abbreviation.
_LONGEST_ABBREVIATION = 12  # characters
_LAST_PIECE = re.compile(r"[^\W_]+(?:[.&][^\W_]+)*$")
_NEXT_WORD = re.compile(f"[{_OPENERS}]{{0,5}}([^\\W_]+)(?={_SPACE}|[,'’])")
_DIGIT = re.compile(r"[#$£€]?\d")
_I = re.compile(r"I\b")

_BEFORE_A_NAME = frozenset(
    "Mr Mrs Ms Mx Dr Drs Prof Gen Sen Sens Rep Reps Gov Govs Lt Col Capt Cpt "
    "Cpl Sgt Maj Brig Adm Cmdr Cdr Comdr Pvt Rev Revd Fr Hon Pres Supt Det "
    "Insp Amb Atty Msgr Messrs Mme Mmes Mlle Mt Ft vs v viz cf e.g i.e "
    "E.g I.e eg ie approx ca esp incl var subsp ed eds MR MRS MS "
    "DR PROF GEN SEN REP GOV VS dr mr mrs ms prof Dept Assn Asst "
    "Assoc".split()
)
_BEFORE_A_NUMBER = frozenset(
    "No Nos NO no nos Vol Vols vol vols Fig Figs fig figs p pp Ch ch "
    "Sec sec Art art Eq eq Tab Op op Ver ver para Para Ex c b d r q m".split()
)
_MAYBE_LAST = frozenset(
    "Inc Corp Co Cos Ltd Plc LLC Bros Jr Sr Esq etc al Ave Blvd Rd St Sts Ln "
    "Hwy Pl Sq Bldg Univ Dist Ext Tel INC CORP CO LTD JR SR ST "
    "Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec "
    "Mon Tue Tues Wed Thu Thur Thurs Fri Sat Sun "
    "Ala Ariz Ark Calif Cal Colo Conn Del Fla Ga Ill Ind Kan Kans Ky La Mass "
    "Md Mich Minn Miss Mo Mont Neb Nebr Nev Okla Ont Ore Penn Pa Que Tenn Tex "
    "Va Vt Wash Wis Wyo B.C "
    "hr hrs min mins sec secs mph ft lb lbs oz kg km cm mm sq dept est".split()
)
_STARTERS = frozenset(
    "The A An He She It They We You I This That These Those There Here His "
    "Her Its Their Our My But And So Yet If When While After Before Since "
    "Although Though Because As At By For From In On With Without Under Now "
    "Then Also However Meanwhile Still What Who Why How Where Some Many Most "
    "Both Once Earlier Later Despite During According Among Another Asked "
    "Not Nor One Two Three Until Unlike Instead Such Even Only Just "
    "Today Yesterday".split()
)


def split(text: str) -> list[str]:
    """Splits text into sentences without white space around them.

    Only white space is lost.
    """
    sentences: list[str] = []
    start = 0
    for match in _CANDIDATE.finditer(text):
        at, end = match.span()
        if text[at] == "." and not _is_end(text, start, at, end):
            continue
        sentences += text[start:end].split("\n")
        start = end
    sentences += text[start:].split("\n")
    return [
        stripped for sentence in sentences if (stripped := sentence.strip())
    ]


def _is_end(text: str, start: int, at: int, end: int) -> bool:
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
    match = _LAST_PIECE.search(word)
    if match is None:
        return True
    piece = match[0]
    if piece in _BEFORE_A_NAME:
        return False
    if piece in _BEFORE_A_NUMBER:
        return not _DIGIT.match(text, end)
    if piece.isdigit():
        # A list item, "1. The first", but not "He scored 23. The others".
        return space + 1 > start or len(piece) > 3
    if (
        piece in _MAYBE_LAST
        or len(piece) == 1
        and piece.isupper()
        or piece.rfind(".") >= len(piece) - 3
        and "." in piece
        and piece[-1].isalpha()
    ):
        following = _NEXT_WORD.match(text, end)
        return following is not None and following[1] in _STARTERS
    return True
