"""Splitting text into sentences.

One compiled regular expression finds the places where a sentence may end; a
look at the words on both sides decides. An abbreviation that only ever comes
before a name ("Mr.") ends nothing; one that may stand at an end ("U.S.",
"Inc.", "p.m.") ends a sentence when a word follows that rarely goes on with
it ("The", "He"). A line feed always ends a sentence. Chinese, Japanese, Hindi,
Arabic and other scripts have full stops that mean nothing else.
"""

import re

# Rows are sentences: what is decided wrongly here moves a row's border by one
# sentence, so rare cases are left to the cheaper mistake, which is no split.

_CLOSERS = "\"')\\]}”’»›」』）】》〉〕］｣＂＇"
_OPENERS = "\"'(\\[{“‘«‹「『（【《〈¿¡„‚"
# Ends a sentence wherever it stands: ideographic, Devanagari, Arabic, Urdu,
# Armenian, Ethiopic, Khmer and Burmese full stops and question marks.
_SURE = "。！？｡।॥؟۔։።៕။"
_CASED = ".!?…"
_LOWER = "a-zß-öø-ÿ\u03ac-\u03ce\u0430-\u045f"
_SPACE = r"[^\S\n]"  # white space within a line
_CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"

# The repetitions are bounded so that time is linear in hostile text too.
_CANDIDATE = re.compile(
    f"[{_CASED}{_SURE}]"
    f"(?:(?<=[{_SURE}])"
    f"(?:[{_SURE}{_CASED}]{{0,20}}(?![{_SURE}{_CASED}{_CLOSERS}])"
    # After a closing quote the sentence around it may go on: 「…。」と言う.
    f"|[{_SURE}{_CASED}{_CLOSERS}]{{1,20}}(?!と|って|[，、；：,;:]))\\s*"
    f"|[{_CASED}{_CLOSERS}]{{0,20}}"
    # White space, then anything but a small letter; iPhone is no small letter.
    f"(?:{_SPACE}+(?=[{_OPENERS}]{{0,5}}(?:[^\\s{_LOWER},;:]|[a-z][A-Z]))"
    # Text that was tokenized before: "end . "
    f"|(?<={_SPACE}[.!?]){_SPACE}+(?![\n.,;:])"
    f"|(?<=[!?])(?=[{_OPENERS}]{{0,5}}[{_CJK}])"
    f"|(?<=……)[{_CLOSERS}]{{0,5}}(?![{_CLOSERS}，。、；：,])))"
)

# What may stand before and after a full stop that ends no sentence.
_LONGEST = 12
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


def split(text):
    """Splits `text` into sentences without white space around them.

    Joined, they hold every character of the text that is no white space.
    """
    sentences, start = [], 0
    for match in _CANDIDATE.finditer(text):
        at, end = match.span()
        if text[at] == "." and not _is_end(text, start, at, end):
            continue
        sentences += text[start:end].split("\n")
        start = end
    sentences += text[start:].split("\n")
    return [tidy for sentence in sentences if (tidy := sentence.strip())]


def _is_end(text, start, at, end):
    """Does the full stop at `at` end a sentence?

    The sentence began at `start`, or at a line feed since; the next one would
    begin at `end`.
    """
    start = max(start, text.rfind("\n", start, at) + 1)
    space = text.rfind(" ", max(start, at - _LONGEST), at)
    if space < 0:
        if at - start > _LONGEST:
            return True
        space = start - 1
    word = text[space + 1 : at]
    after = text[at + 1]
    if after in _CASED or text[at - 2 : at] == ". ":
        # "Well... I see" goes on; other capitals after an ellipsis do not.
        return not _I.match(text, end)
    piece = _LAST_PIECE.search(word)
    if piece is None:
        return True
    piece = piece[0]
    if piece in _BEFORE_A_NAME:
        return False
    if piece in _BEFORE_A_NUMBER:
        return not _DIGIT.match(text, end)
    if piece.isdigit():
        # "1. The first of a list", but "He scored 23. The others".
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
