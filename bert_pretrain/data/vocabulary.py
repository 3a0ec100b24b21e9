"""A WordPiece vocabulary: the tokens of a vocab.txt, and which are special.

A vocab.txt has one token on each line; the number of the line, counted from
0, is the token's id. google-research/bert writes this format, and every
HuggingFace BERT tokenizer reads it.
"""

import dataclasses
import functools
import hashlib
import re

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
_RESERVED = re.compile(r"\[unused\d+\]")


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The tokens in the order of their ids, and the casing of their text.

    Raises:
      UserError: if a token occurs twice, or a special token is missing.
    """

    tokens: tuple[str, ...]
    is_lower_case: bool

    def __post_init__(self) -> None:
        if missing := [t for t in SPECIAL_TOKENS if t not in self._ids]:
            raise errors.UserError(
                f"the vocabulary lacks {', '.join(missing)}; BERT needs "
                f"{' '.join(SPECIAL_TOKENS)}, one on each line."
            )
        if len(self._ids) < len(self.tokens):
            twice = next(
                t for i, t in enumerate(self.tokens) if self._ids[t] != i
            )
            raise errors.UserError(
                f"the vocabulary holds {twice!r} twice; remove one of the "
                "lines and build the records again, since the ids after that "
                "line change."
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

    def write(self, path: str) -> None:
        """Writes the vocab.txt."""
        files.write_text(path, self.text)


def read(path: str) -> Vocabulary:
    """Reads a vocab.txt and infers its casing from its tokens.

    A vocabulary without capital letters is for lower-cased text.

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
    if "" in tokens:
        raise errors.UserError(
            f"{path}: line {tokens.index('') + 1} is empty; remove this "
            "line, since the number of a line is the id of its token."
        )
    is_lower_case = not any(
        token != token.lower()
        for token in tokens
        if token not in SPECIAL_TOKENS and not _RESERVED.fullmatch(token)
    )
    try:
        return Vocabulary(tokens, is_lower_case)
    except errors.UserError as error:
        raise errors.UserError(f"{path}: {error}") from error


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
