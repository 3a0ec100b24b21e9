"""The visible word of a template that no table names.

A wiki has thousands of templates, and each wiki has its own. Most of those that
stand inside a sentence show one of their arguments. The kinds of the arguments
tell which one, in every language: words, numbers, codes of languages, settings.
No text is better than a wrong number.
"""

import re
from collections.abc import Mapping, Sequence

from tfrecord_builders.wikitext import dates

# A guess stands between these until `keep_inside_sentences` has seen its line.
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"
_GUESS = re.compile(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}")
# Where a template was that shows nothing, and one whose number is not known.
_NOTHING, _NO_NUMBER = "\ue0f4", "\ue0f5"
_GONE = re.compile(f"[{_NOTHING}{_NO_NUMBER}]")
_MARKS = re.compile(f"[{_OPEN}{_CLOSE}{_NOTHING}{_NO_NUMBER}]")
_OF_NUMBER = re.compile(r"[^|]*\|\s*\d")
# "(born )": what the word in brackets was about is gone.
_EMPTIED = re.compile(
    r" ?\([^\W\d_][^\W\d_]*\.?(?:[ \u00a0][^\W\d_]+)?[ \u00a0]"
    rf"{_NO_NUMBER}\s*\)"
)
# Quotes around nothing would become apostrophes.
_QUOTED = re.compile(rf"('{{2,5}}){_NOTHING}+\1")
# A template with more named arguments is a table of facts or a reference.
_MAX_NAMED = 3
_MAX_CHARS = 1000
# The codes of ISO 639 that name an article's or a word's language: all of two
# letters, and those of three letters that have a wiki or are often cited.
_LANGUAGE_CODES = frozenset(
    """
aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co
cr cs cu cv cy da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn
gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj
kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr
ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn
ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti
tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
ace ady akk als ang arc arz ast ava arn bar bcl chr ckb cop crh csb dsb egy ext
frm fro frp frr fur gag gan gmh goh got grc gsw hak haw hil hsb ilo kab krc krl
ksh lad lld lij lmo lrc ltg lzh lzz mhr mnc mul mwl myv mzn nah nan nap nci nds
non nov nrm olo ota otk pag pam pap pcd pms pnb pnt rue sah scn sco sga sgs smn
sms stq sux syc syr szl tpi tyv udm und vec vep vls vol vro war wuu xal xmf xno
yue zea zxx
""".split()
)
_CODE = re.compile(r"([a-z]{2,3})(?:[-_][A-Za-z]{2,8})*\Z")
_NUMBER = re.compile(
    r"[-+−–±~≈<>]?\s*\d[\d\s.,'’ \u00a0\u202f/⁄:+–−-]*(?:[%‰°]|º|ª)?\Z"
)
_WHOLE = re.compile(r"\d{1,4}\Z")
_ROMAN = re.compile(r"[IVXLCDM]+\Z")
# Arguments that are not shown: addresses, files, sizes, colours, styles, codes
# of regions (DE-NW) and of records (Q42).
_SETTING = re.compile(
    r"(?:(?i:https?:|//|www\.).*|"
    r".*\.(?i:jpe?g|png|gif|svg|tiff?|webp|og[agv]|webm|wav|mp3|mp4|pdf|djvu|"
    r"midi?|flac|opus)|"
    r"[\d.]+(?:px|em|ex|rem|pt)|\d*x\d+px|"
    r"#[0-9a-fA-F]{3,8}|[a-z]+(?:-[a-z]+)*\s*:\s*[^\s;]+;?|"
    r"[A-Z]{2,3}(?:-[A-Z0-9]{1,6})+|[QP]\d+|/[^/]*/|\[[^\[\]]*\])\Z"
)
# Words of style sheets and switches, which are settings beside other words.
_STYLE_WORDS = frozenset(
    """
left right center centre middle top bottom none both inline block small smaller
large larger x-small x-large xx-small xx-large medium big bold bolder lighter
normal italic oblique underline nowrap black white red green blue yellow orange
purple gray grey brown pink navy maroon teal silver olive cyan magenta gold lime
darkred darkgreen darkblue lightblue lightgreen lightgrey lightgray auto yes no
on off true false default collapsed expanded
""".split()
)
# Numbers of records, which count nothing.
_IDENTIFIER = re.compile(r"\d{8,}\Z|0\d+\Z|\d+-\d+-[\d-]+X?\Z")
_REGION = re.compile(r"[A-Z]{2,3}\Z")
_MAX_SYMBOL = 5  # Of a unit's symbol, in characters.
_UNIT = re.compile(r"[^\W\d_][^\d\n]{0,23}\Z|[%‰°′″$€£¥₽₴₺₩₹][^\d\n]{0,8}\Z")
_VERSE = re.compile(r"\d+[:,]\s?\d+(?:[-–]\d+)?\Z")
# Sounds: marks of stress and length, and letters that no alphabet uses.
_PHONETIC = re.compile("[ˈˌːɹʁɾʀɫɬɐɑɒɜɤɯʊʌʏɪʃʒʑɕʂʐθðχβɣʔʕˤ]")
_DIGIT = re.compile(r"\d")
_LETTER = re.compile(r"[^\W\d_]")
_WORD = re.compile(r"\w")
_LIST = re.compile(r"[*#][ \t]+\S|([*#])[^\n]*\n\s*\1")
_PARAMETER = re.compile(r"\|\s*[\w -]+=")
_MARKUP = re.compile(r"\[\[(?:[^\[\]|]*\|)?|\]\]|'{2,}|<[^<>]*>")


def guess(
    name: str,
    positional: Sequence[str],
    named: Mapping[str, str],
    *,
    language: str,
    is_latin: bool,
) -> str:
    """Returns the visible text of a template, marked as a guess.

    Args:
      name: as it is written in the call.
      language: of the text; it decides how dates are written.
      is_latin: whether the text around the template is in Latin letters.
    """
    if len(named) > _MAX_NAMED or any(map(_is_address, named.values())):
        return ""
    values = list(positional)
    if not any(values):
        return "" if named or values else _mark(_shown_name(name))
    lists = [value for value in values if _LIST.match(value)]
    if lists:
        return "\n" + "\n".join(lists) + "\n"
    if sum(map(len, values)) > _MAX_CHARS:
        return ""
    return _mark(_choose(values, bool(named), language, is_latin))


def has_many_parameters(content: str) -> bool:
    """Whether a template has so many named arguments that it shows no word."""
    return len(_PARAMETER.findall(content)) > _MAX_NAMED


def is_language_code(value: str) -> bool:
    """Whether an argument is the code of a language: de, zh-hant."""
    code = _CODE.match(value)
    return code is not None and code[1] in _LANGUAGE_CODES


def nothing_of(content: str) -> str:
    """Returns the mark of a template that shows nothing."""
    return _NO_NUMBER if _OF_NUMBER.match(content) else _NOTHING


def unmark(text: str) -> str:
    """Removes the marks inside a template that is expanded."""
    return _MARKS.sub("", text)


def keep_inside_sentences(text: str) -> str:
    """Keeps the guesses that have text beside them, and removes the others.

    A template that is alone on its line is a table of facts, a navigation box
    or a note to the reader.
    """
    if _OPEN in text:
        text = "\n".join(
            _keep_in_line(line) if _OPEN in line else line
            for line in text.split("\n")
        )
    # `in` takes a tenth of the time of a pattern.
    if _NO_NUMBER in text:
        text = _EMPTIED.sub("", text).replace(_NO_NUMBER, "")
    if _NOTHING in text:
        if f"''{_NOTHING}" in text:
            text = _QUOTED.sub("", text)
        text = text.replace(_NOTHING, "")
    return text


def _mark(text: str) -> str:
    return f"{_OPEN}{' '.join(text.split())}{_CLOSE}" if text else ""


# What shows no text on a line: tags, files and categories.
_UNSEEN = re.compile(r"<[^<>]*>|\[\[[^\[\]|]*:[^\[\]]*\]\]")
# Alphabets that put a space before each word, and have capital letters.
_CASED = "A-Za-zÀ-ɏͰ-ϿЀ-ӿ"
# The place of a reference: after a word or its punctuation, without a space.
_AFTER_WORD = re.compile(rf"(?:[{_CASED}.,;:!?)»”\]]|[\w.,;:!?]\")\Z")
_AFTER_SENTENCE = re.compile(r"\w{4}[.!?][\"»”)]*\s+\Z")
_LINE_START = re.compile(r"[\s*#:;'\"]*\Z")
_NUM_BEFORE = 40  # Characters before a guess that are looked at.


def _keep_in_line(line: str) -> str:
    if not _WORD.search(_UNSEEN.sub("", _GUESS.sub("", line))):
        return _GUESS.sub(_NOTHING, line)
    kept: list[str] = []
    before = ""
    position = 0
    for found in _GUESS.finditer(line):
        text = line[position : found.start()]
        before = (before + text)[-_NUM_BEFORE:]
        position = found.end()
        is_kept = _is_kept(found[1], before, line, position)
        shown = found[1] if is_kept else _NOTHING
        kept += [text, shown]
        before += shown
    return "".join([*kept, line[position:]])


def _is_kept(shown: str, before: str, line: str, end: int) -> bool:
    """Whether a guess is text of the sentence, by what stands around it."""
    before = _GONE.sub("", before.replace("''", ""))
    plain = _MARKUP.sub("", shown)
    following = line[end : end + _NUM_BEFORE].replace("''", "")
    following = _GONE.sub("", following)
    next_word = following.lstrip(" \u00a0[")
    if _AFTER_WORD.search(before) and not plain.startswith(("-", "’", "'")):
        return False
    # Two guesses side by side are notes, and two numbers would be one.
    if following.startswith(_OPEN) or (
        before[-1:].isdigit() and plain[:1].isdigit()
    ):
        return False
    is_capital = next_word[:1].isupper()
    if _AFTER_SENTENCE.search(before) and (is_capital or not next_word):
        return plain[-1:] in ".!?"  # A sentence, and no note between two.
    if _LINE_START.match(before):
        # A note to the reader before the text, or a flag before a name.
        return not is_capital and plain not in line[end:]
    # The text goes on without a space, with a new sentence.
    if plain[-1:].isalpha() and following[:1].isupper():
        return False
    return not next_word.startswith(plain)


def _is_address(value: str) -> bool:
    return "://" in value


def _kind(value: str) -> str:
    """One of "", "number", "code", "setting", "word"."""
    plain = _MARKUP.sub("", value).strip()
    if not plain:
        return ""
    if _NUMBER.match(plain):
        return "number"
    if is_language_code(plain):
        return "code"
    if _SETTING.match(plain) or "://" in plain:
        return "setting"
    return "word" if _LETTER.search(plain) else "setting"


def _choose(
    values: list[str], has_named: bool, language: str, is_latin: bool
) -> str:
    if any(map(_PHONETIC.search, values)):
        return ""
    while not _kind(values[0]):
        values = values[1:]
        if not values:
            return ""
    kinds = _kinds(values)
    values = values[: len(kinds)]
    first = kinds[0]
    if len(kinds) == 1:
        is_hidden = (
            first == "setting"
            or _IDENTIFIER.match(values[0])
            or values[0].lower() in _STYLE_WORDS
        )
        return "" if is_hidden else values[0]
    if first == "number":
        return _of_number(values, kinds, language)
    if first == "word":
        return _of_word(values, kinds, has_named, is_latin)
    if first == "setting" and ("number" in kinds or _is_media(values[0])):
        return ""
    return _of_language(values[1:], kinds[1:], is_latin)


def _kinds(values: list[str]) -> list[str]:
    """The kinds of the values, up to the last one that is not empty."""
    kinds = [_kind(value) for value in values]
    is_style = [value.lower() in _STYLE_WORDS for value in values]
    if kinds.count("word") > sum(is_style):
        kinds = [
            "setting" if style else kind
            for style, kind in zip(is_style, kinds, strict=True)
        ]
    while kinds and not kinds[-1]:
        kinds.pop()
    return kinds


def _of_number(values: list[str], kinds: list[str], language: str) -> str:
    """A date, a quantity, a time, or a number with its key for sorting."""
    num_numbers = _num_leading(kinds, "number")
    if num_numbers == 1:
        # A code of a language is a unit here: {{…|5|kg}}.
        if kinds[1] in ("word", "code"):
            return _of_quantity(values, kinds)
        return values[0]
    if num_numbers > 3:
        return ""  # Two dates, or coordinates.
    if date := dates.find(values[:num_numbers]):
        return dates.show(language, *date)
    if len(kinds) == 2:
        return _of_two_numbers(*values)
    return ""


def _of_quantity(values: list[str], kinds: list[str]) -> str:
    number, unit = values[:2]
    if kinds[2:3] == ["number"]:
        is_day = _WHOLE.match(number) and 1 <= int(number) <= 31
        if is_day and _is_year(values[2]):
            return f"{number} {unit} {values[2]}"
    if _DIGIT.search(unit):  # The number is the key for sorting.
        return unit
    if not _UNIT.match(unit):
        return number
    if kinds[2:3] == ["number"]:
        # An exponent, which the unit is wrong without.
        return f"{number} {unit}<sup>{values[2]}</sup>"
    is_whole = len(kinds) == 2 or len(unit) <= _MAX_SYMBOL
    return f"{number} {unit}" if is_whole else number


def _of_two_numbers(first: str, second: str) -> str:
    if not (_WHOLE.match(first) and _WHOLE.match(second)):
        return ""
    if len(first) == len(second) == 4:
        return f"{first}–{second}"
    if int(first) < 24 and len(second) == 2 and int(second) < 60:
        return f"{first}:{second}"
    return ""


def _of_language(values: list[str], kinds: list[str], is_latin: bool) -> str:
    """The text after the code of its language, or after a setting."""
    words = [
        value
        for value, kind in zip(values, kinds, strict=True)
        if kind == "word"
    ]
    if words:
        return words[_local(words, is_latin)]
    # {{…|de|la}}: the first code is the language, the other one is a word.
    if kinds and kinds[0] == "code":
        return values[0]
    return ""


def _of_word(
    values: list[str], kinds: list[str], has_named: bool, is_latin: bool
) -> str:
    first, second = values[:2]
    num_words = _num_leading(kinds, "word")
    if kinds[1] == "number":
        if _VERSE.match(second):
            return f"{first} {second}"
        if len(kinds) == 2 and _is_year(second) and not has_named:
            # A month and its year; with a capital it may be an author, whose
            # name is shown with the year too.
            return f"{first} {second}"
    if kinds[1] == "number" and _REGION.match(first):
        return ""
    if num_words < len(kinds) and kinds[num_words] == "number":
        year = values[num_words]
        if _is_year(year) and (has_named or first[:1].isupper()):
            return ""  # An author and a year: a reference.
    # A page, the word to show or nothing, the language and its page.
    if kinds[2:3] == ["code"] and kinds[1] in ("word", ""):
        is_label = len(kinds) > 3 or second[:3] == first[:3]
        return second if second and is_label else first
    if kinds[1] == "word" and _is_sort_key(first, second):
        return second
    words = values[:num_words]
    return words[_local(words, is_latin)]


def _is_sort_key(key: str, shown: str) -> bool:
    if len(key) == 1 and key.isascii():
        return len(shown) > 2 and "." not in shown[:2]
    words = re.findall(r"\w+", key.lower())
    return (
        len(words) > 1
        and "," in key
        and sorted(words) == sorted(re.findall(r"\w+", shown.lower()))
    )


def _local(words: list[str], is_latin: bool) -> int:
    """Index of the first word, or of the first one in the script of the text.

    Names of pages in other languages, and words of style, are in Latin letters.
    """
    if is_latin or not _is_ascii(words[0]):
        return 0
    for i, word in enumerate(words):
        if not _is_ascii(word):
            return i
    return 0


def _is_ascii(word: str) -> bool:
    return _MARKUP.sub("", word).isascii()


def _is_media(value: str) -> bool:
    return "." in value[-5:]


def _is_year(value: str) -> bool:
    return len(value) == 4 and value.isdecimal()


def _num_leading(kinds: list[str], kind: str) -> int:
    return next((i for i, k in enumerate(kinds) if k != kind), len(kinds))


_ORDINAL = re.compile(r"\d{1,4}[.ºª°]?[^\W\d_]{0,3}\Z")
_CENTURY = re.compile(
    r"(?:[^\W\d_]+\.? )?[IVX]{2,6}(?:er?|[èeé]me|[ºª°.])?"
    r"(?:[ -][^\W\d_][\w.-]*){0,4}\Z|"
    r"[IVX](?:er?|[èeé]me|[ºª°.])?(?:[ -][^\W\d_][\w.-]*){1,4}\Z|"
    r"[^\W\d_]+\.? [IVX]\Z|"
    r"\d{1,2}\.?(?:[ -][^\W\d_]+|世[紀纪]|세기)\Z"
)
_ELEMENTS = (
    "He Li Be Ne Na Mg Al Si Cl Ar Ca Sc Ti Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
    "Br Kr Rb Sr Zr Nb Mo Ag Cd Sn Sb Te Xe Cs Ba Pt Au Hg Pb Bi U H B C N O F "
    "P S K V Y W I"
)
_FORMULA = re.compile(rf"(?:(?:{'|'.join(_ELEMENTS.split())})\d*)+\Z")
_MOLECULES = frozenset("O2 H2 N2 F2 Cl2 Br2 I2 O3".split())
_SYMBOL = re.compile(r"[^\w\s\x00-\x7f]{1,3}\Z")


def _shown_name(name: str) -> str:
    """The name, if it is what a template without arguments shows.

    An ordinal (1er), a century (XIXe siècle), a formula (CO2), a sign (×).
    """
    name = name.strip()
    if (
        _ORDINAL.match(name)
        or _CENTURY.match(name)
        or _SYMBOL.match(name)
        or name in _MOLECULES
    ):
        return name
    is_compound = len(re.findall(r"[A-Z]", name)) > 1
    if is_compound and re.search(r"\d", name) and _FORMULA.match(name):
        return name
    return ""
