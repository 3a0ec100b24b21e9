"""Document parts: extracted documents on disk, in files of a bounded size.

The files of a part hold the same documents in the same order:

    <path>.text        their texts; the byte _DIVIDER, which no text contains,
                       is between them
    <path>.ids         their ids, as a list in JSON
    <path>.languages   the codes of their languages, as a list in JSON
    <path>.hashes      their digests
    <path>.signatures  the bands of their signatures, one band after another,
                       then their fingerprints; only if near duplicates are
                       dropped

N = documents, K = bands, B = bytes of a fingerprint.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bert_pretrain import files
from tfrecord_builders.quality import minhash
from tfrecord_builders.sources import documents

# Of one document: its bands, uint64 [K], and its fingerprint, uint8 [B].
Signature = tuple[np.ndarray, np.ndarray]
_DIVIDER = b"\x1e"  # the control character "record separator"


class Source(NamedTuple):
    """Consecutive documents of a part that come from one file."""

    path: str
    num_documents: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class DocumentPart:
    """A part on disk; all of it comes from one --input.

    Attributes:
      path: without the file name endings.
      number: index among all parts of the build.
      first_document: index of its first document among those of the build.
      num_bytes: size of the text.
      input: index of the --input.
      weight: how many times the documents occur in the training split.
    """

    path: str
    number: int
    first_document: int
    num_documents: int
    num_bytes: int
    input: int
    sources: tuple[Source, ...]
    weight: float = 1.0

    def read(self) -> Iterator[tuple[bytes, str, str]]:
        """Yields (digest, text, language) of each document."""
        digests = self.read_digests()
        texts = self._encoded_texts()
        languages = files.read_json(self.path + ".languages")
        for digest, text, language in zip(
            digests, texts, languages, strict=True
        ):
            yield digest.tobytes(), text.decode(), language

    def read_documents(
        self, numbers: Iterable[int]
    ) -> dict[int, tuple[str, str]]:
        """(id, text) of some documents, by their index in the part."""
        ids = files.read_json(self.path + ".ids")
        texts = self._encoded_texts()
        return {i: (ids[i], texts[i].decode()) for i in numbers}

    def read_digests(self) -> np.ndarray:
        """uint8 [N, DIGEST_BYTES]."""
        return minhash.as_digests(files.read_bytes(self.path + ".hashes"))

    def read_band(self, number: int) -> np.ndarray:
        """One band of all signatures: uint64 [N]."""
        num_bytes = 8 * self.num_documents
        content = self._read_signatures(number * num_bytes, num_bytes)
        return np.frombuffer(content, "<u8")

    def read_fingerprints(self, num_bands: int) -> np.ndarray:
        """The fingerprints of all signatures: uint8 [N, B].

        Args:
          num_bands: K, the number of bands that were written.
        """
        width = minhash.FINGERPRINT_BYTES
        content = self._read_signatures(
            8 * num_bands * self.num_documents, width * self.num_documents
        )
        return np.frombuffer(content, np.uint8).reshape(-1, width)

    def source_numbers(self) -> np.ndarray:
        """Index in `sources` of the file of each document: int [N]."""
        return np.repeat(
            np.arange(len(self.sources)),
            [source.num_documents for source in self.sources],
        )

    def _encoded_texts(self) -> list[bytes]:
        return files.read_bytes(self.path + ".text").split(_DIVIDER)

    def _read_signatures(self, start: int, num_bytes: int) -> bytes:
        return files.read_range(self.path + ".signatures", start, num_bytes)


def open_parts(
    folder: str, described: Sequence[dict[str, Any]]
) -> list[DocumentPart]:
    """The parts of a build.

    Args:
      folder: the one that they are in.
      described: each part as `Writer.parts` describes it, in their order.
    """
    firsts = np.cumsum([0] + [part["num_documents"] for part in described])
    return [
        DocumentPart(
            path=f"{folder}/{part['name']}",
            number=number,
            first_document=int(firsts[number]),
            num_documents=part["num_documents"],
            num_bytes=part["num_bytes"],
            input=part["input"],
            sources=tuple(Source(*source) for source in part["sources"]),
        )
        for number, part in enumerate(described)
    ]


class PartWriter:
    """Writes documents to parts of a bounded size.

    Attributes:
      parts: the parts so far, as the summary of a unit describes them.
    """

    def __init__(self, prefix: str) -> None:
        self.parts: list[dict[str, Any]] = []
        self._prefix = prefix
        self._input: int | None = None
        self._part_bytes = 0
        self._start_part()

    def start_input(self, number: int, part_bytes: int) -> None:
        """Sets the --input of the documents that follow.

        Args:
          part_bytes: text of each part, approximately.
        """
        if number != self._input:
            self.flush()
        self._input, self._part_bytes = number, part_bytes

    def add(
        self,
        document: documents.Document,
        path: str,
        digest: bytes,
        signature: Signature | None = None,
    ) -> None:
        """Adds a document.

        Args:
          path: the file that it comes from.
        """
        text = document.text.encode("utf-8")
        self._ids.append(document.id)
        self._languages.append(document.language)
        self._texts.append(text)
        self._num_bytes += len(text)
        self._digests.append(digest)
        if signature:
            self._signatures.append(signature)
        if self._sources and self._sources[-1].path == path:
            num_documents = self._sources.pop().num_documents
        else:
            num_documents = 0
        self._sources.append(Source(path, num_documents + 1))
        if self._num_bytes >= self._part_bytes:
            self.flush()

    def flush(self) -> None:
        """Writes the documents that are not on disk yet."""
        if not self._texts:
            return
        path = f"{self._prefix}-{len(self.parts):05d}"
        files.write_bytes(path + ".text", _DIVIDER.join(self._texts))
        files.write_text(path + ".ids", json.dumps(self._ids))
        files.write_text(path + ".languages", json.dumps(self._languages))
        files.write_bytes(path + ".hashes", b"".join(self._digests))
        if self._signatures:
            bands, fingerprints = zip(*self._signatures, strict=True)
            files.write_bytes(
                path + ".signatures",
                np.stack(bands, axis=1).astype("<u8").tobytes()
                + np.stack(fingerprints).tobytes(),
            )
        self.parts.append(
            {
                "name": path.rpartition("/")[2],
                "num_documents": len(self._texts),
                "num_bytes": self._num_bytes,
                "input": self._input,
                "sources": self._sources,
            }
        )
        self._start_part()

    def _start_part(self) -> None:
        self._ids: list[str] = []
        self._languages: list[str] = []
        self._texts: list[bytes] = []
        self._num_bytes = 0
        self._digests: list[bytes] = []
        self._signatures: list[Signature] = []
        self._sources: list[Source] = []
