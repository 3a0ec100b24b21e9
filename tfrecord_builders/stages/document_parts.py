"""Parts: extracted documents on disk, in files of a bounded size.

A part is files that hold the same documents in the same order:

    <path>.text        their texts, which are free of control characters,
                       divided by one
    <path>.ids         their ids, as a list in JSON
    <path>.hashes      their digests
    <path>.signatures  the bands of their signatures, band after band, and
                       then the fingerprints; only where these are wanted

N = documents, K = bands, B = bytes of a fingerprint.
"""

import dataclasses
import json
from typing import NamedTuple

import numpy as np

from bert_pretrain import files
from tfrecord_builders.quality import minhash

_DIVIDER = b"\x1e"  # Unicode's "record separator"


class Source(NamedTuple):
    """Documents of a part that follow one another and come from one file."""

    path: str
    num_documents: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class DocumentPart:
    path: str  # without the endings
    number: int  # among all parts of a build
    first_document: int  # its number among all documents of a build
    num_documents: int
    num_bytes: int  # of text
    input: int  # the number of the --input that all of it comes from
    sources: tuple[Source, ...]
    weight: float = 1.0  # how many times it is trained on

    def read(self):
        """Yields (digest, text) of each document."""
        digests = self.read_digests()
        texts = self._encoded_texts()
        for digest, text in zip(digests, texts, strict=True):
            yield digest.tobytes(), text.decode()

    def read_documents(self, numbers):
        """(id, text) of some documents, by their numbers."""
        ids = files.read_json(self.path + ".ids")
        texts = self._encoded_texts()
        return {i: (ids[i], texts[i].decode()) for i in numbers}

    def read_digests(self):
        """uint8 [N, DIGEST_BYTES]."""
        return minhash.as_digests(files.read_bytes(self.path + ".hashes"))

    def read_band(self, number):
        """uint64 [N]: one band of all signatures."""
        num_bytes = 8 * self.num_documents
        content = self._read_signatures(number * num_bytes, num_bytes)
        return np.frombuffer(content, "<u8")

    def read_fingerprints(self, num_bands):
        """uint8 [N, B]."""
        width = minhash.FINGERPRINT_BYTES
        content = self._read_signatures(
            8 * num_bands * self.num_documents, width * self.num_documents
        )
        return np.frombuffer(content, np.uint8).reshape(-1, width)

    def source_numbers(self):
        """int [N]: the place in `sources` that each document belongs to."""
        return np.repeat(
            np.arange(len(self.sources)),
            [source.num_documents for source in self.sources],
        )

    def _encoded_texts(self):
        return files.read_bytes(self.path + ".text").split(_DIVIDER)

    def _read_signatures(self, start, num_bytes):
        return files.read_range(self.path + ".signatures", start, num_bytes)


class PartWriter:
    """Writes documents to parts of about `part_bytes` of text each."""

    def __init__(self, prefix):
        self._prefix = prefix
        self._input, self._part_bytes = None, 0
        self._start_part()
        self.parts = []  # what `Part` holds, but for what is counted through

    def start_input(self, number, part_bytes):
        """Says which --input the documents that follow come from."""
        if number != self._input:
            self.flush()
        self._input, self._part_bytes = number, part_bytes

    def add(self, document, path, digest, signature=None):
        """Adds a document.

        Args:
          path: the file that it comes from.
          signature: `minhash.Signatures` of this one document.
        """
        text = document.text.encode("utf-8")
        self._ids.append(document.id)
        self._texts.append(text)
        self._num_bytes += len(text)
        self._digests.append(digest)
        if signature:
            self._signatures.append(signature)
        if not self._sources or self._sources[-1][0] != path:
            self._sources.append([path, 0])
        self._sources[-1][1] += 1
        if self._num_bytes >= self._part_bytes:
            self.flush()

    def flush(self):
        if not self._texts:
            return
        path = f"{self._prefix}-{len(self.parts):05d}"
        files.write_bytes(path + ".text", _DIVIDER.join(self._texts))
        files.write_text(path + ".ids", json.dumps(self._ids))
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

    def _start_part(self):
        self._ids, self._texts, self._num_bytes = [], [], 0
        self._digests = []
        self._signatures, self._sources = [], []
