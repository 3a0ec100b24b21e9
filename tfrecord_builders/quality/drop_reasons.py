"""Reasons for which documents are dropped, in messages to the user."""

from collections.abc import Mapping

# Nearly all documents: a fault of an option or a file, not of documents.
_MAX_SHARE = 0.8
# These are no loss: pages and records without text of their own, and what a
# weight leaves out.
_EXPECTED = frozenset(
    (
        "disambiguation",
        "not_article",
        "not_fetched",
        "not_html",
        "not_sampled",
        "redirect",
        "unknown_record",
    )
)
_FILTER = "if they are good text, give --filters=none"
_REMEDIES = {
    "duplicate": "the same texts are there again and again",
    "few_letters": _FILTER,
    "garbled": "convert the text to UTF-8 from the encoding it was written in",
    "near_duplicate": "if they differ enough, give a higher "
    "--near_duplicate_threshold, or 0",
    "no_text": "check --source, --text_field and --title_field",
    "not_csv": "check --csv_delimiter, --csv_quoting and --csv_escape",
    "not_json": "check --source",
    "not_text": "check --text_field",
    "not_utf8": "convert the text with iconv -t UTF-8",
    "other_language": "check --language",
    "repeated_lines": _FILTER,
    "repeated_ngrams": _FILTER,
    "too_long": "if each line is a document, give --text_layout=line; else "
    "divide them",
    "too_short": "give a smaller --min_document_chars, or another "
    "--text_layout if documents are cut at the wrong places",
    "wrong_columns": "check --csv_delimiter, --csv_quoting and --csv_escape",
}


def count(num_read: int, dropped: Mapping[str, int]) -> str:
    """Such as "300 read, 296 repeated_ngrams, 1 too_short"."""
    most_first = sorted(dropped.items(), key=lambda item: -item[1])
    counts = [f"{n:,} {reason}" for reason, n in most_first if n]
    return f"{num_read:,} read, {', '.join(counts) or 'none dropped'}"


def find_loss(num_read: int, dropped: Mapping[str, int]) -> str:
    """Describes the loss of nearly all documents for one reason.

    Returns:
      The counts and the remedy; empty if there is no such loss.
    """
    if not dropped:
        return ""
    reason = max(dropped, key=lambda name: dropped[name])
    num_expected = sum(dropped.get(name, 0) for name in _EXPECTED)
    if reason in _EXPECTED or (
        dropped[reason] < _MAX_SHARE * (num_read - num_expected)
    ):
        return ""
    remedy = f"; {_REMEDIES[reason]}" if reason in _REMEDIES else ""
    return f"{count(num_read, dropped)}{remedy}"
