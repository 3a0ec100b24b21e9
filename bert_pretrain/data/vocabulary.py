"""A WordPiece vocabulary: the tokens of a vocab.txt, and which are special.

One token a line, its id the line's number from 0, as google-research/bert
writes it and every HuggingFace BERT tokenizer reads it.
"""

import dataclasses
import functools
import hashlib
import re

import numpy as np

from bert_pretrain import errors, files

PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
)
CONTINUATION = "##"
FILE_NAME = "vocab.txt"  # of the copy beside a set, a checkpoint, an export
_RESERVED = re.compile(r"\[unused\d+\]")


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The tokens in the order of their ids, and the casing they were made for.

    Raises:
      UserError: if a token stands twice, or a special one is missing.
    """

    tokens: tuple[str, ...]
    is_lower_case: bool

    def __post_init__(self):
        if missing := [t for t in SPECIAL_TOKENS if t not in self._ids]:
            raise errors.UserError(
                f"the vocabulary lacks {', '.join(missing)}; BERT needs "
                f"{' '.join(SPECIAL_TOKENS)}, each on a line of its own."
            )
        if len(self._ids) < len(self.tokens):
            twice = next(
                t for i, t in enumerate(self.tokens) if self._ids[t] != i
            )
            raise errors.UserError(
                f"the vocabulary holds {twice!r} twice; remove one line and "
                "build the records again, since ids after it change."
            )

    @functools.cached_property
    def _ids(self):
        return {token: i for i, token in enumerate(self.tokens)}

    def id(self, token):
        return self._ids[token]

    @property
    def size(self):
        return len(self.tokens)

    @property
    def text(self):
        """The content of the vocab.txt."""
        return "".join(token + "\n" for token in self.tokens)

    @functools.cached_property
    def sha256(self):
        """Hash of the tokens and their order, the same for any line ends."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()

    @functools.cached_property
    def is_special(self):
        """bool [V]: where no text stands: [CLS] and its like, [unused7]."""
        return np.array(
            [
                token in SPECIAL_TOKENS or bool(_RESERVED.fullmatch(token))
                for token in self.tokens
            ]
        )

    @functools.cached_property
    def is_continuation(self):
        """bool [V]: true where a token goes on with the word before it."""
        return np.array(
            [token.startswith(CONTINUATION) for token in self.tokens]
        )

    def write(self, path):
        files.write_text(path, self.text)


def read(path):
    """Reads a vocab.txt; its casing is told from its tokens.

    A vocabulary with no capital letter in it cannot have been made for text
    that keeps its capitals.

    Raises:
      UserError: if the file cannot be read, or is no BERT vocabulary.
    """
    # Split at line feeds alone: str.splitlines would also split at the
    # Unicode separators that real vocabularies hold as tokens.
    lines = files.read_text(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    tokens = tuple(line.rstrip("\r") for line in lines)
    if "" in tokens:
        raise errors.UserError(
            f"{path}: line {tokens.index('') + 1} is empty; remove it, since "
            "a line's number is its token's id."
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
            f"{expected_by} expects {expected_sha256[:12]}…: the same id "
            f"means another token; {remedy}."
        )
