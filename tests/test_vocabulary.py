"""vocab.txt: read, checked and written, and the kinds of its tokens."""

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


def test_the_hash_depends_on_order_and_tokens():
    hashes = {
        vocabulary.Vocabulary((*SPECIAL, *rest), True).sha256
        for rest in (("a", "b"), ("b", "a"), ("a",), ("ab",))
    }
    assert len(hashes) == 4


@pytest.mark.parametrize(
    "rest, is_lower_case",
    [
        (("the", "##s", "中", "[unused1]"), True),
        (("the", "The"), False),
        (("é", "É"), False),
    ],
)
def test_casing_is_detected_from_the_tokens(tmp_path, rest, is_lower_case):
    vocab = _read(tmp_path, "\n".join((*SPECIAL, *rest)))
    assert vocab.is_lower_case == is_lower_case


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
        ("\n".join((*SPECIAL, "a", "b", "a")), "'a' twice"),
        ("\n".join((*SPECIAL, "a", "", "b")), "line 7 is empty"),
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
