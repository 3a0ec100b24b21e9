"""Options that say which documents are kept."""

import dataclasses
import importlib.util
from collections.abc import Sequence
from typing import Literal

from bert_pretrain import errors, options

_MIN_THRESHOLD, _MAX_THRESHOLD = 0.65, 0.99


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeduplicationConfig(options.Options):
    """Which documents are duplicates of an earlier one."""

    near_duplicate_threshold: float = options.option(
        "Drop a document if its Jaccard similarity to an earlier document is "
        "at least this value. The similarity is that of the sets of 5-word "
        "shingles, estimated by MinHash. 0: drop only exact duplicates.",
        0.8,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        threshold = self.near_duplicate_threshold
        if threshold and not _MIN_THRESHOLD <= threshold <= _MAX_THRESHOLD:
            raise errors.UserError(
                f"near_duplicate_threshold={threshold} must be 0 or lie in "
                f"[{_MIN_THRESHOLD}, {_MAX_THRESHOLD}]."
            )


# Minimum share of letters and marks among the visible characters. Gopher wants
# a letter in 80 % of the words. Tables and code listings fail both tests;
# prose has 90 % or more in any script.
MIN_LETTER_SHARE = 0.7


@dataclasses.dataclass(frozen=True, kw_only=True)
class FiltersConfig(options.Options):
    """Which documents are good enough."""

    filters: Literal["default", "none"] = options.option(
        "none: keep all documents. default: drop documents that are too "
        "short, in another language, less than "
        f"{MIN_LETTER_SHARE:.0%} letters, or that repeat their own lines or "
        "n-grams (Gopher's rules), and remove lines of boilerplate.",
        "default",
    )
    min_document_chars: int = options.option(
        "Drop shorter documents. An ideograph counts as four characters, a "
        "Korean syllable as three and a Japanese one as two. Not used with "
        "filters=none.",
        100,
        at_least=1,
    )
    language: tuple[str, ...] = options.option(
        "Keep only documents in this language, an ISO 639-1 code: en, de, zh. "
        "May be repeated. Needs py3langid.",
        (),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.language and self.filters == "none":
            raise errors.UserError(
                f"language={','.join(self.language)} is a filter, but "
                "filters=none switches all filters off; remove one of the two "
                "options."
            )
        if self.language:
            _check_languages(self.language)


def _check_languages(languages: Sequence[str]) -> None:
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
