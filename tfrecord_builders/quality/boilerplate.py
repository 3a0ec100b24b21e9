"""Boilerplate: lines of web pages that are not part of the text.

Cookie notices, copyright notices, buttons, links to a site's own pages.
"""

import functools
import re

import numpy as np

from bert_pretrain import numba_jit

# Longer lines are never boilerplate, because they are mostly real text.
MAX_CHARS = 200

# Every line of boilerplate contains one of these strings in lower case. A hint
# that begins with a line feed must stand at the start of the line.
_HINTS = (
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
# Matches a whole line in lower case.
_BOILERPLATE = re.compile(
    "|".join(
        [
            # Notices about cookies, scripts and ad blockers.
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
            # Copyright.
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
            # Links to pages that every site has.
            rf"(?:{_PAGE}(?:[\s|·,•/&-]|and)*)+{_MARK}",
        ]
    )
)


def remove(text: str) -> tuple[str, int]:
    """Removes the lines of boilerplate.

    Returns:
      The remaining text, and the number of lines removed.
    """
    encoded = np.frombuffer(f"\n{text}\n".encode(), np.uint8)
    suspects = _find_lines(encoded, *_hints()).tolist()
    if not suspects:  # Matching each line is a hundred times slower.
        return text, 0
    lines = text.split("\n")
    removed = {i for i in suspects if _is_boilerplate(lines[i])}
    kept = [line for i, line in enumerate(lines) if i not in removed]
    return "\n".join(kept), len(removed)


@functools.cache
def _hints() -> tuple[np.ndarray, ...]:
    """`_HINTS` in UTF-8, indexed by their first bytes.

    H = hints.

    Returns:
      hints: uint8, all hints in sorted order, one after another.
      bounds: int64 [H + 1], the start of each hint, and the end of the last.
      first: int64 [257], for each byte the first hint that begins with this
        byte or a larger one.
      begins: bool [256, 256], whether a hint begins with these two bytes.
      lower_case: uint8 [256], the lower case of each byte.
    """
    encoded = sorted(hint.encode() for hint in _HINTS)
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
    """Finds the lines that contain a hint.

    Args:
      text: uint8, the lines in UTF-8, with a line feed before the first line
        and after each line.
      hints, bounds, first, begins, lower_case: see `_hints`.

    Returns:
      Line numbers, int64, ascending.
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
            # `begins` may have matched the first two bytes of another hint.
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


def _is_boilerplate(line: str) -> bool:
    return len(line) <= MAX_CHARS and bool(_BOILERPLATE.fullmatch(line.lower()))
