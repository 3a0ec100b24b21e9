"""Which documents, and which of their lines, are text worth training on.

The measures and, where no other source is named, the thresholds are those of
Rae et al., "Scaling Language Models: Methods, Analysis & Insights from
Training Gopher" (2021), appendix A.1.1, but for two things. Shares are counted
in words (`word_hashes.Words`) rather than characters, so that they mean the
same in scripts without spaces. And where its thresholds are for web pages of
50 words and more, here documents that are shorter are judged by their letters
and lines.
"""

import dataclasses
import functools
import importlib.util
import re
from typing import Literal

import numpy as np

from bert_pretrain import errors, numba_jit, options
from tfrecord_builders.quality import word_hashes

# Letters and marks among the characters that are no white space. Gopher asks
# that 80 % of the words hold a letter; tables and listings of code fall below
# either, prose of any script is at 90 % and more.
MIN_LETTER_SHARE = 0.7
# Lines that an earlier one equals: among the lines, and their characters
# among all. Gopher, table A1.
MAX_REPEATED_LINES = 0.3
MAX_REPEATED_LINE_CHARS = 0.2
# Words in occurrences of the most frequent n-gram. Gopher, table A1.
MAX_TOP_NGRAM = {2: 0.2, 3: 0.18, 4: 0.16}
# Words in n-grams that stood earlier in the document. Gopher, table A1.
MAX_REPEATED_NGRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}
# Fewer words than Gopher admits at all are too few to count n-grams.
MIN_WORDS_FOR_NGRAMS = 50
# Lines above this length are no boilerplate, whatever they mention.
MAX_BOILERPLATE_CHARS = 200
# The language of a document is told from so much of its beginning.
LANGUAGE_CHARS = 1000

# For the manifest: which text is in a set follows from these, and another
# version may have others.
THRESHOLDS = {
    "min_letter_share": MIN_LETTER_SHARE,
    "max_repeated_lines": MAX_REPEATED_LINES,
    "max_repeated_line_chars": MAX_REPEATED_LINE_CHARS,
    "max_top_ngram": {str(n): share for n, share in MAX_TOP_NGRAM.items()},
    "max_repeated_ngrams": {
        str(n): share for n, share in MAX_REPEATED_NGRAMS.items()
    },
    "min_words_for_ngrams": MIN_WORDS_FOR_NGRAMS,
    "max_boilerplate_chars": MAX_BOILERPLATE_CHARS,
}

# Shares that no document exceeds one of the limits without. A repeated 5-gram
# adds at most five words to what is repeated, an n-gram of up to 10 words
# cannot be without its 5-grams, nor one of up to 4 without its 2-grams.
_SUSPECT_REPEATS = min(MAX_REPEATED_NGRAMS.values()) / 5
_SUSPECT_TOP = min(share / n for n, share in MAX_TOP_NGRAM.items())

# One of these stands in every line of boilerplate, in lower case; of those
# with a line feed the line begins with the rest.
_BOILERPLATE_HINTS = (
    " cookies",
    "javascript",
    "newsletter",
    "rights reserved",
    "rechte vorbehalten",
    "tous droits",
    "derechos reservados",
    "diritti riservati",
    "direitos reservados",
    "版权所有",
    "版權所有",
    "未经授权",
    "無断転載",
    *(
        f"\n{start}"
        for start in (
            "cookie",
            "by browsing",
            "by clicking",
            "by closing",
            "by continuing",
            "by using",
            "accept",
            "allow",
            "manage",
            "reject",
            "©",
            "(c)",
            "copyright",
            "no part of this",
            "this material",
            "share",
            "tweet",
            "post",
            "pin",
            "mail",
            "email",
            "e-mail",
            "like",
            "follow",
            "find us",
            "join us",
            "click here",
            "read more",
            "continue reading",
            "show more",
            "load more",
            "learn more",
            "see more",
            "view comment",
            "leave a ",
            "back to top",
            "skip to ",
            "advertis",
            "story continues",
            "sponsored content",
            "login",
            "log in",
            "signin",
            "signup",
            "sign in",
            "sign up",
            "register",
            "subscribe",
            "print",
            "privacy",
            "terms ",
            "datenschutz",
            "impressum",
            "contact us",
            "about us",
            "プライバシー",
        )
    ),
)
_SITES = (
    r"(?:facebook|twitter|x|linkedin|pinterest|reddit|whatsapp|instagram|"
    r"google ?\+?|youtube|telegram|tumblr|e-?mail|social media)"
)
_MARK = r"[\s:.!|>»→…·–-]*"
_PAGE = (
    r"(?:(?:privacy|cookie) (?:policy|notice|statement)|terms (?:of (?:use|"
    r"service)|(?:and|&) conditions)|datenschutz(?:erklärung)?|impressum|"
    r"contact us|about us|プライバシーポリシー)"
)
# Whole lines, from their first character on, in lower case.
_BOILERPLATE = re.compile(
    "|".join(
        [
            # Notices of cookies, scripts and blockers.
            r"(?:we|this (?:web)?site|our (?:web)?site|(?:the )?[\w. ]{1,40}) "
            r"uses? cookies(?:[,.;:]| (?:and|for|in order|on|so|that|to|"
            r"which)\b|$).*",
            r"by (?:continuing|using|browsing|clicking|closing)\b.{0,80}"
            r"\byou (?:accept|acknowledge|agree|are agreeing|consent)\b.*",
            r"(?:accept|manage|reject|allow)(?: all)? cookies?\b.{0,40}",
            r"cookies? (?:policy|settings|notice|preferences|consent)"
            rf"(?: .{{0,40}})?{_MARK}",
            r"(?:please )?(?:enable|turn on|activate) javascript\b.*",
            r".{0,60}\bjavascript (?:is|must be|seems to be|to be) "
            r"(?:disabled|enabled|required|turned)\b.*",
            # Rights.
            r".{0,120}\ball rights reserved\b.{0,120}",
            r"(?:copyright )?(?:©|\(c\)) ?(?:copyright )?\d{4}\b.{0,40}",
            r"copyright (?:©|\(c\)|\d{4}).{0,40}",
            r"(?:this material|no part of this).{0,40} may not be (?:published|"
            r"reproduced|copied).*",
            r".{0,80}\b(?:alle rechte vorbehalten|tous droits réservés|todos "
            r"los derechos reservados|tutti i diritti riservati|todos os "
            r"direitos reservados)\b.{0,60}",
            r".{0,60}(?:版权所有|版權所有|未经授权|無断転載).{0,60}",
            # Buttons.
            rf"(?:share|tweet|post|pin|e?-?mail|like|follow)(?: (?:this|it|us|"
            rf"via|on|to|with|by|story|article|post|page|video|link))*"
            rf"(?: {_SITES}(?:[ ,/|&]*(?:and |or )?{_SITES})*)?{_MARK}",
            rf"(?:share|follow us|like us|find us|join us)\b.{{0,20}}\bon "
            rf"{_SITES}(?:[ ,/|&]*(?:and |or )?{_SITES})*{_MARK}",
            rf"(?:click here|read more|continue reading|show more|load more|"
            rf"learn more|see more|view comments?|leave a (?:reply|comment)|"
            rf"back to top|skip to (?:main )?(?:content|navigation)|"
            rf"advertise?ments?|story continues below|sponsored content|"
            rf"log ?in|sign ?(?:in|up)|register|subscribe(?: now)?|"
            rf"print(?: this)?(?: page| article)?){_MARK}",
            r"(?:click here|log ?in|sign ?(?:in|up)|subscribe)(?: now)? "
            r"(?:to|for) (?:read|view|see|comment|post|leave|get|receive|"
            r"our|the|a|more|unlimited)\b.{0,100}",
            r"(?:sign up|subscribe|register)\b.{0,60}\bnewsletters?\b.{0,60}",
            r"(?:get|receive) .{0,60}\bnewsletters?\b.{0,60}",
            # Pages that every site has.
            rf"(?:{_PAGE}(?:[\s|·,•/&-]|and)*)+{_MARK}",
        ]
    )
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FiltersConfig(options.Options):
    """Which documents are good enough."""

    filters: Literal["default", "none"] = options.option(
        "none: documents are kept whatever their quality. default: those are "
        "dropped that are too short, in another language, less than "
        f"{MIN_LETTER_SHARE:.0%} letters, or repeat their own lines or "
        "n-grams (Gopher's rules), and lines of boilerplate are removed.",
        "default",
    )
    min_document_chars: int = options.option(
        "Shorter documents are dropped, but not with filters=none.",
        100,
        at_least=1,
    )
    language: tuple[str, ...] = options.option(
        "Keep documents in this language only, as ISO 639-1 has it: en, de, "
        "zh. May be repeated; needs py3langid.",
        (),
    )

    def __post_init__(self):
        super().__post_init__()
        if self.language and self.filters == "none":
            raise errors.UserError(
                f"language={','.join(self.language)} is a filter, and "
                "filters=none switches them off; leave out one of the two."
            )
        if self.language:
            _check_languages(self.language)


def remove_boilerplate(text):
    """Takes out the lines of cookie notices, rights, buttons and the like.

    Returns:
      (the text that is left, the number of lines removed).
    """
    encoded = np.frombuffer(f"\n{text}\n".encode(), np.uint8)
    suspects = _find_lines(encoded, *_hints()).tolist()
    if not suspects:  # A hundred times cheaper than to match each line.
        return text, 0
    lines = text.split("\n")
    removed = {i for i in suspects if _is_boilerplate(lines[i])}
    kept = [line for i, line in enumerate(lines) if i not in removed]
    return "\n".join(kept), len(removed)


def judge(texts, its_words, config):
    """For each text the reason to drop it, or None.

    Args:
      its_words: `word_hashes.Words` of the texts.
    """
    is_few_letters = (
        its_words.num_letters_N < MIN_LETTER_SHARE * its_words.num_visible_N
    )
    repeats_ngrams = _repeat_ngrams(its_words)
    return [
        "too_short"
        if len(text) < config.min_document_chars
        else "few_letters"
        if is_few_letters[i]
        else "repeated_lines"
        if _repeats_lines(text)
        else "repeated_ngrams"
        if i in repeats_ngrams
        else "other_language"
        if config.language and _language(text) not in config.language
        else None
        for i, text in enumerate(texts)
    ]


@functools.cache
def _hints():
    """_BOILERPLATE_HINTS in UTF-8, to find them by their first byte.

    Returns:
      (uint8: all of them, sorted; int64: where each begins, and the end;
      int64 [257]: for each byte the first hint that does not begin below it;
      bool [256, 256]: the first two bytes of any; uint8 [256]: the lower case
      of each byte).
    """
    encoded = sorted(hint.encode() for hint in _BOILERPLATE_HINTS)
    bounds = np.cumsum([0, *map(len, encoded)])
    first = np.searchsorted([hint[0] for hint in encoded], np.arange(257))
    begins = np.zeros((256, 256), bool)
    for hint in encoded:
        begins[hint[0], hint[1]] = True
    return (
        np.frombuffer(b"".join(encoded), np.uint8),
        bounds,
        first,
        begins,
        np.frombuffer(bytes(range(256)).lower(), np.uint8),
    )


@numba_jit.compiled
def _find_lines(text, hints, bounds, first, begins, lower_case):
    """The numbers of the lines that hold one of the `_hints`, ascending.

    Args:
      text: a line feed, and lines with a line feed behind each.
    """
    found, size = np.empty(16, np.int64), 0
    line = -1
    for at in range(len(text) - 1):
        line += text[at] == ord("\n")
        byte = lower_case[text[at]]
        if not begins[byte, lower_case[text[at + 1]]]:
            continue
        for hint in range(first[byte], first[byte + 1]):
            length = bounds[hint + 1] - bounds[hint]
            same = 2
            while (
                same < length
                and at + same < len(text)
                and lower_case[text[at + same]] == hints[bounds[hint] + same]
            ):
                same += 1
            # The first two bytes may be another hint's.
            if (
                same < length
                or hints[bounds[hint] + 1] != lower_case[text[at + 1]]
            ):
                continue
            if size and found[size - 1] == line:
                break
            if size == len(found):
                found = np.append(found, found)
            found[size] = line
            size += 1
            break
    return found[:size]


def _is_boilerplate(line):
    return len(line) <= MAX_BOILERPLATE_CHARS and bool(
        _BOILERPLATE.fullmatch(line.lower())
    )


def _repeats_lines(text):
    lines = text.split("\n")
    different = set(lines)
    num_repeated = len(lines) - len(different)
    if not num_repeated:
        return False
    num_chars = sum(map(len, lines))
    num_repeated_chars = num_chars - sum(map(len, different))
    return (
        num_repeated > MAX_REPEATED_LINES * len(lines)
        or num_repeated_chars > MAX_REPEATED_LINE_CHARS * num_chars
    )


def _repeat_ngrams(its_words):
    """The numbers of the texts that repeat their own n-grams."""
    hashes_W, num_words_N = its_words.hashes_W, its_words.num_words_N
    pairs_W = word_hashes.ngrams(hashes_W, num_words_N, 2)
    top_counts_N, _ = _count(pairs_W, num_words_N)
    _, num_repeats_N = _count(its_words.shingles_W, num_words_N)
    is_long_N = num_words_N >= MIN_WORDS_FOR_NGRAMS
    ends = np.cumsum(num_words_N)

    def suspects(is_suspect_N, exceeds):
        return {
            i
            for i in np.flatnonzero(is_long_N & is_suspect_N).tolist()
            if exceeds(hashes_W[ends[i] - num_words_N[i] : ends[i]])
        }

    return suspects(
        top_counts_N >= _SUSPECT_TOP * num_words_N, _has_frequent
    ) | suspects(num_repeats_N >= _SUSPECT_REPEATS * num_words_N, _has_repeats)


@numba_jit.compiled
def _count(ngrams_W, num_words_N):
    """(how often each text has its top n-gram, occurrences after the first).

    int64 [N], twice.
    """
    top_counts_N, num_repeats_N = np.zeros((2, len(num_words_N)), np.int64)
    start = 0
    for text, num_words in enumerate(num_words_N):
        num_slots = 1
        while num_slots < 2 * num_words:
            num_slots *= 2
        last = np.uint64(num_slots - 1)
        counts = np.zeros(num_slots, np.int64)
        keys = np.empty(num_slots, np.uint64)
        for key in ngrams_W[start : start + num_words]:
            slot = key & last
            while counts[slot] and keys[slot] != key:
                slot = (slot + np.uint64(1)) & last
            keys[slot] = key
            num_repeats_N[text] += counts[slot] > 0
            counts[slot] += 1
            top_counts_N[text] = max(top_counts_N[text], counts[slot])
        start += num_words
    return top_counts_N, num_repeats_N


def _has_frequent(hashes_W):
    """Whether one text has an n-gram above its limit of MAX_TOP_NGRAM."""
    num_words = len(hashes_W)
    for n, limit in MAX_TOP_NGRAM.items():
        ngrams_W = word_hashes.ngrams(hashes_W, [num_words], n)
        count = np.unique(ngrams_W, return_counts=True)[1].max()
        if count > 1 and n * count > limit * num_words:
            return True
    return False


def _has_repeats(hashes_W):
    """Whether one text's n-grams exceed a limit of MAX_REPEATED_NGRAMS."""
    num_words = len(hashes_W)
    for n, limit in MAX_REPEATED_NGRAMS.items():
        ngrams_W = word_hashes.ngrams(hashes_W, [num_words], n)
        is_repeat = np.ones(num_words, bool)
        is_repeat[np.unique(ngrams_W, return_index=True)[1]] = False
        # The words within a repeat; repeats may overlap.
        is_covered = np.convolve(is_repeat, np.ones(n))[:num_words] > 0
        num_covered = np.count_nonzero(is_covered)
        if num_covered > limit * num_words:
            return True
        if num_covered <= min(MAX_REPEATED_NGRAMS.values()) * num_words:
            return False  # Longer n-grams cover less.
    return False


def _check_languages(languages):
    if not importlib.util.find_spec("py3langid"):
        raise errors.UserError(
            f"language={','.join(languages)} needs py3langid: pip install -c "
            "constraints.txt -e '.[language]'."
        )
    import py3langid

    known = sorted({name for name, _ in py3langid.rank("")})
    for name in languages:
        if name not in known:
            raise errors.UserError(
                f"language={name!r} is not one of {', '.join(known)}."
            )


def _language(text):
    import py3langid

    return py3langid.classify(text[:LANGUAGE_CHARS])[0]
