"""A WordPiece vocabulary: tokens of a vocab.txt, and the casing of its text.

A vocab.txt has one token on each line; the number of the line, counted from
0, is the token's id. google-research/bert writes this format, and every
HuggingFace BERT tokenizer reads it. Beside it, vocab.casing.json says whether
text is lower-cased, and whether accents are removed, before it is tokenized.
"""

import dataclasses
import functools
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from bert_pretrain import errors, file_errors, files

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
)
CONTINUATION = "##"
# The name of the copy in a dataset, a model directory or an export.
FILE_NAME = "vocab.txt"
_TOKENIZER_NAME = "tokenizer.json"
_TOKENIZER_CONFIG_NAME = "tokenizer_config.json"
_RESERVED = re.compile(r"\[unused\d+\]")
# The limit of TensorFlow Text, without CONTINUATION.
_MAX_TOKEN_BYTES = 256


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The tokens in the order of their ids, and the casing of their text.

    Raises:
      UserError: if a token occurs twice, or a special token is missing, or a
        token is none that a text can have.
    """

    tokens: tuple[str, ...]
    is_lower_case: bool
    # By default as in BERT, which removes accents if it lower-cases.
    strips_accents: bool = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.strips_accents is None:
            object.__setattr__(self, "strips_accents", self.is_lower_case)
        if missing := [t for t in SPECIAL_TOKENS if t not in self._ids]:
            raise errors.UserError(
                f"the vocabulary lacks {', '.join(missing)}; BERT needs "
                f"{' '.join(SPECIAL_TOKENS)}, one on each line."
            )
        self._refuse_impossible_tokens()
        if len(self._ids) < len(self.tokens):
            first, twice = next(
                (i, t) for i, t in enumerate(self.tokens) if self._ids[t] != i
            )
            raise errors.UserError(
                f"the vocabulary holds {twice!r} twice, in the lines "
                f"{first + 1} and {self._ids[twice] + 1}; remove one of the "
                "lines and build the records again, since the ids after that "
                "line change."
            )

    def _refuse_impossible_tokens(self) -> None:
        text = "\n".join(self.tokens)
        # A look at the whole takes a tenth of the time.
        if (
            all(self.tokens)
            and max(map(len, self.tokens)) * 4 <= _MAX_TOKEN_BYTES
            and not any(character in text for character in "\0 \t")
        ):
            return
        for i, token in enumerate(self.tokens):
            if fault := _fault_of(token):
                raise errors.UserError(
                    f"line {i + 1} of the vocabulary {fault}; if the other "
                    "lines are right, put a token such as [unused0] there, so "
                    "that the ids of the others stay."
                )

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.tokens)}

    def id(self, token: str) -> int:
        """The id of a token.

        Raises:
          KeyError: if the vocabulary lacks the token.
        """
        return self._ids[token]

    @property
    def size(self) -> int:
        """The number of tokens."""
        return len(self.tokens)

    @property
    def text(self) -> str:
        """The content of the vocab.txt."""
        return "".join(token + "\n" for token in self.tokens)

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the tokens in their order; line ends do not change it."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()

    @functools.cached_property
    def is_special(self) -> np.ndarray:
        """bool [V]: true for tokens that are not text, as [CLS], [unused7]."""
        return np.array(
            [
                token in SPECIAL_TOKENS or bool(_RESERVED.fullmatch(token))
                for token in self.tokens
            ]
        )

    @functools.cached_property
    def is_continuation(self) -> np.ndarray:
        """bool [V]: true for tokens that continue a word."""
        return np.array(
            [token.startswith(CONTINUATION) for token in self.tokens]
        )

    @property
    def casing_in_words(self) -> str:
        """Such as "lower case, accents removed"."""
        casing = "lower case" if self.is_lower_case else "cased"
        accents = "removed" if self.strips_accents else "kept"
        return f"{casing}, accents {accents}"

    def write(self, path: str) -> None:
        """Writes the vocab.txt and, before it, its casing."""
        casing = {
            "lower_case": self.is_lower_case,
            "strip_accents": self.strips_accents,
        }
        files.write_json(casing_path(path), casing)
        files.write_text(path, self.text)


def is_too_long(token: str) -> bool:
    """Whether a token has more bytes than TensorFlow Text can read."""
    # A character has at most four bytes.
    return (
        len(token) * 4 > _MAX_TOKEN_BYTES
        and len(token.removeprefix(CONTINUATION).encode()) > _MAX_TOKEN_BYTES
    )


def _fault_of(token: str) -> str:
    """What is wrong with a token that a text can never have; or nothing."""
    if not token:
        return "is empty"
    if "\0" in token:
        return f"is {token[:50]!r} and holds a NUL"
    if " " in token or "\t" in token:
        return f"is {token[:50]!r}, but a line is one token without white space"
    if is_too_long(token):
        return (
            f"is {token[:50]!r}… of {len(token.encode())} bytes, and "
            f"TensorFlow Text reads at most {_MAX_TOKEN_BYTES}"
        )
    return ""


def casing_path(path: str) -> str:
    """Path of the file with the casing of a vocab.txt."""
    return path.removesuffix(".txt") + ".casing.json"


def read(
    path: str, lower_case: bool | None = None, strip_accents: bool | None = None
) -> Vocabulary:
    """Reads a vocab.txt and its casing.

    The casing is in the file beside it or, in a HuggingFace checkpoint, in its
    tokenizer_config.json. If there is neither, it is guessed from the tokens,
    and a warning says what was guessed.

    Args:
      lower_case: whether text is lower-cased; None for what the file says.
      strip_accents: whether accents are removed; None for what the file says.

    Raises:
      UserError: if the file cannot be read, or is not a BERT vocabulary.
    """
    folder = path.rpartition("/")[0] or "."
    with file_errors.naming(path):
        if not tf.io.gfile.exists(path) and tf.io.gfile.exists(
            f"{folder}/{_TOKENIZER_NAME}"
        ):
            raise errors.UserError(
                f"{path} does not exist, but {_TOKENIZER_NAME} does; make it "
                "with transformers.AutoTokenizer.from_pretrained("
                f"{folder!r}).save_vocabulary({folder!r})."
            )
    # Not `str.splitlines`: it also splits at Unicode separators, and real
    # vocabularies have these as tokens.
    lines = files.read_text(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    tokens = tuple(line.rstrip("\r") for line in lines)
    is_given = None not in (lower_case, strip_accents)
    stated = None if is_given else _stated_casing(path)
    known = stated or _guess_casing(tokens)
    try:
        vocab = Vocabulary(
            tokens,
            known[0] if lower_case is None else lower_case,
            known[1] if strip_accents is None else strip_accents,
        )
    except errors.UserError as error:
        raise errors.UserError(f"{path}: {error}") from error
    if vocab.is_special.all():
        raise errors.UserError(
            f"{path}: the vocabulary has special tokens only, and none of text."
        )
    if not is_given and not stated:
        errors.warn(
            f"{path}: no {casing_path(path).rpartition('/')[2]} states its "
            f"casing; its tokens look like: {vocab.casing_in_words}. If that "
            "is wrong, give --lower_case and --strip_accents, or write the "
            "file: " + json.dumps({"lower_case": True, "strip_accents": False})
        )
    return vocab


def _stated_casing(path: str) -> tuple[bool, bool] | None:
    """(lower_case, strip_accents), if a file beside a vocab.txt says so."""
    folder, _, name = path.rpartition("/")
    candidates = [(casing_path(path), "lower_case")]
    if name == FILE_NAME:
        config_path = os.path.join(folder, _TOKENIZER_CONFIG_NAME)
        candidates.append((config_path, "do_lower_case"))
    for candidate, key in candidates:
        with file_errors.naming(candidate):
            if not tf.io.gfile.exists(candidate):
                continue
        values = files.read_json(candidate)
        lower_case = values.get(key) if isinstance(values, dict) else None
        if lower_case is None and key == "do_lower_case":
            continue  # The tokenizer of another class.
        # HuggingFace has null where accents follow the case.
        strip_accents = values.get("strip_accents")
        if strip_accents is None:
            strip_accents = lower_case
        if not isinstance(lower_case, bool) or not isinstance(
            strip_accents, bool
        ):
            raise errors.UserError(
                f"{candidate}: {key} and strip_accents must be true or false."
            )
        return lower_case, strip_accents
    return None


def _guess_casing(tokens: Iterable[str]) -> tuple[bool, bool]:
    """(lower_case, strip_accents) of the text that the tokens are from.

    Accents are removed only from text in lower case, and only if no token has
    one. Scripts in which no letter has a case keep all their marks.
    """
    texts = [
        token
        for token in tokens
        if token not in SPECIAL_TOKENS and not _RESERVED.fullmatch(token)
    ]
    has_case = any(text.lower() != text.upper() for text in texts)
    has_capitals = any(text != text.lower() for text in texts)
    has_accents = any(
        unicodedata.category(character) == "Mn"
        for text in texts
        if not text.isascii()
        for character in unicodedata.normalize("NFD", text)
    )
    is_lower_case = has_case and not has_capitals
    return is_lower_case, is_lower_case and not has_accents


def check_same(
    place: str, sha256: str, expected_sha256: str, expected_by: str, remedy: str
) -> None:
    """Checks that two vocabularies are the same, by their hashes.

    Args:
      place: the file or folder with the first vocabulary, for the message.
      sha256: hash of the first vocabulary.
      expected_sha256: hash of the second vocabulary.
      expected_by: what uses the second vocabulary, such as "the model".
      remedy: what the user can do about a difference.

    Raises:
      UserError: if the hashes differ.
    """
    if sha256 != expected_sha256:
        raise errors.UserError(
            f"{place}: the vocabulary has sha256 {sha256[:12]}…, but "
            f"{expected_by} expects {expected_sha256[:12]}…: the same id may "
            f"mean another token; {remedy}."
        )
