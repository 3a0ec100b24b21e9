"""vocab.txt: read, checked and written, and the kinds of its tokens."""

import json

import pytest

from bert_pretrain import errors
from bert_pretrain.data import vocabulary

SPECIAL = vocabulary.SPECIAL_TOKENS


def _read(tmp_path, content):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content.encode())
    return vocabulary.read(str(path))


def test_tokens_keep_their_lines(tmp_path):
    # U+0085 and U+2028 are tokens of real vocabularies; they do not end lines.
    tokens = (*SPECIAL, "the", "##s", "\x85", "\u2028", "中", "##é")
    vocab = _read(tmp_path, "\n".join(tokens) + "\n")
    assert vocab.tokens == tokens
    assert vocab.size == len(tokens)
    assert [vocab.id(token) for token in tokens] == list(range(len(tokens)))


def test_written_vocabulary_is_read_back(tmp_path):
    vocab = vocabulary.Vocabulary((*SPECIAL, "Ä", "##b", "中"), False)
    vocab.write(str(tmp_path / "new" / "vocab.txt"))
    assert vocabulary.read(str(tmp_path / "new" / "vocab.txt")) == vocab


def test_line_ends_do_not_change_the_vocabulary(tmp_path):
    lines = [*SPECIAL, "the"]
    forms = [
        _read(tmp_path, text)
        for text in (
            "\n".join(lines) + "\n",
            "\n".join(lines),
            "\r\n".join(lines) + "\r\n",
        )
    ]
    assert forms[0] == forms[1] == forms[2]
    assert len({vocab.sha256 for vocab in forms}) == 1


def test_a_byte_order_mark_is_no_part_of_the_first_token(tmp_path):
    assert _read(tmp_path, "\ufeff" + "\n".join((*SPECIAL, "a"))).id("a") == 5


def test_the_longest_tokens_are_read(tmp_path):
    tokens = ("x" * 256, "##" + "x" * 256, "ü" * 128, "ก" * 85)
    assert _read(tmp_path, "\n".join((*SPECIAL, *tokens))).size == 9


def test_the_hash_depends_on_order_and_tokens():
    hashes = {
        vocabulary.Vocabulary((*SPECIAL, *rest), True).sha256
        for rest in (("a", "b"), ("b", "a"), ("a",), ("ab",))
    }
    assert len(hashes) == 4


@pytest.mark.parametrize(
    "rest, is_lower_case, strips_accents",
    [
        (("the", "##s", "中", "[unused1]"), True, True),
        (("the", "The"), False, False),
        (("é", "É"), False, False),
        (("für", "die", "##e"), True, False),
        # Letters without a case: nothing is known, so nothing is removed.
        (("食べて", "中"), False, False),
        (("म", "##न"), False, False),
    ],
)
def test_casing_is_guessed_only_from_the_tokens_and_said(
    tmp_path, rest, is_lower_case, strips_accents, capsys
):
    vocab = _read(tmp_path, "\n".join((*SPECIAL, *rest)))
    assert vocab.is_lower_case == is_lower_case
    assert vocab.strips_accents == strips_accents
    warning = capsys.readouterr().err
    assert f"its tokens look like: {vocab.casing_in_words}" in warning
    assert "vocab.casing.json" in warning


@pytest.mark.parametrize(
    "name, values, expected",
    [
        (
            "vocab.casing.json",
            {"lower_case": True, "strip_accents": False},
            (True, False),
        ),
        ("tokenizer_config.json", {"do_lower_case": False}, (False, False)),
        (
            "tokenizer_config.json",
            {"do_lower_case": True, "strip_accents": None},
            (True, True),
        ),
        (
            "tokenizer_config.json",
            {"do_lower_case": True, "strip_accents": False},
            (True, False),
        ),
    ],
)
def test_casing_is_what_the_file_beside_the_vocabulary_says(
    tmp_path, name, values, expected, capsys
):
    (tmp_path / name).write_text(json.dumps(values))
    tokens = "\n".join((*SPECIAL, "the", "cat"))
    vocab = _read(tmp_path, tokens)
    assert (vocab.is_lower_case, vocab.strips_accents) == expected
    assert not capsys.readouterr().err
    # A flag is stronger.
    path = str(tmp_path / "vocab.txt")
    other = vocabulary.read(path, lower_case=not expected[0])
    assert other.is_lower_case != expected[0]
    assert other.strips_accents == expected[1]


def test_a_casing_that_is_none_is_refused(tmp_path):
    (tmp_path / "vocab.casing.json").write_text('{"lower_case": "yes"}')
    with pytest.raises(errors.UserError, match="must be true or false"):
        _read(tmp_path, "\n".join((*SPECIAL, "the")))


def test_special_tokens_and_continuations_are_marked():
    vocab = vocabulary.Vocabulary(
        (
            "[PAD]",
            "[unused0]",
            "[UNK]",
            "[CLS]",
            "[SEP]",
            "[MASK]",
            "the",
            "##s",
            "[",
            "#",
            "##",
            "[unused]",
        ),
        True,
    )
    assert vocab.is_special.tolist() == [True] * 6 + [False] * 6
    assert [vocab.tokens[i] for i in vocab.is_continuation.nonzero()[0]] == [
        "##s",
        "##",
    ]


@pytest.mark.parametrize(
    "content, message",
    [
        ("[PAD]\n[UNK]\n[CLS]\n[SEP]\n", r"lacks \[MASK\]"),
        (
            "\n".join((*SPECIAL, "a", "b", "a")),
            "'a' twice, in the lines 6 and 8",
        ),
        ("\n".join((*SPECIAL, "a", "", "b")), "line 7 .* is empty"),
        # Such as words with their counts.
        (
            "\n".join((*SPECIAL, "the\t12", "b\t7")),
            r"line 6 .* 'the\\t12', but",
        ),
        ("\n".join((*SPECIAL, "a", "b ")), "line 7 .* 'b ', but"),
        ("\n".join((*SPECIAL, "a", "b\0")), "line 7 .* holds a NUL"),
        ("\n".join((*SPECIAL, "a", "x" * 257)), "line 7 .* of 257 bytes"),
        ("\n".join((*SPECIAL, "##" + "ü" * 129)), "line 6 .* of 260 bytes"),
        ("\n".join(SPECIAL), "special tokens only"),
        ("", "lacks"),
    ],
)
def test_a_file_that_is_not_a_vocabulary_is_refused_and_named(
    tmp_path, content, message
):
    with pytest.raises(errors.UserError, match=message) as refusal:
        _read(tmp_path, content)
    assert "vocab.txt" in str(refusal.value)


def test_a_file_that_is_missing_or_not_utf8_is_named(tmp_path):
    (tmp_path / "vocab.txt").write_bytes(b"[PAD]\n\xff\n")
    with pytest.raises(errors.UserError, match="vocab.txt: not UTF-8"):
        vocabulary.read(str(tmp_path / "vocab.txt"))
    with pytest.raises(errors.UserError, match="none.txt"):
        vocabulary.read(str(tmp_path / "none.txt"))


def test_vocabularies_that_differ_are_refused_with_both_hashes():
    a, b = "a" * 64, "b" * 64
    vocabulary.check_same("here", a, a, "the model", "give another")
    with pytest.raises(errors.UserError) as refusal:
        vocabulary.check_same("here", a, b, "the model", "give another")
    for fact in ("here", "a" * 12, "the model", "b" * 12, "give another"):
        assert fact in str(refusal.value)
