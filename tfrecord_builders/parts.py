"""Parts: extracted documents on disk, in files of a bounded size.

A part is two files: `<path>.jsonl`, a line `[id, text]` a document, and
`<path>.hashes`, the digests of the documents, in the same order.
"""

import dataclasses
import json

from bert_pretrain import files
from tfrecord_builders import deduplication


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    path: str  # without the endings
    number: int  # among all parts of a build
    num_documents: int
    num_bytes: int  # of text

    def read(self):
        """Yields (digest, text) of each document."""
        digests = self.read_digests()
        # json.dumps leaves no line feed in a line.
        lines = files.read_text(self.path + ".jsonl").split("\n")
        for digest, line in zip(digests, lines, strict=True):
            _, text = json.loads(line)
            yield digest.tobytes(), text

    def read_digests(self):
        """uint8 [documents, DIGEST_BYTES]."""
        return deduplication.as_digests(files.read_bytes(self.path + ".hashes"))


class PartWriter:
    """Writes documents to parts of about `part_bytes` of text each."""

    def __init__(self, prefix, part_bytes):
        self._prefix, self._part_bytes = prefix, part_bytes
        self._start_part()
        self.parts = []  # what `Part` holds, but for its number

    def _start_part(self):
        self._lines, self._digests, self._num_bytes = [], [], 0

    def add(self, document):
        self._lines.append(
            json.dumps([document.id, document.text], ensure_ascii=False)
        )
        self._digests.append(deduplication.digest(document.text))
        self._num_bytes += len(document.text.encode("utf-8"))
        if self._num_bytes >= self._part_bytes:
            self.flush()

    def flush(self):
        if not self._lines:
            return
        path = f"{self._prefix}-{len(self.parts):05d}"
        files.write_text(path + ".jsonl", "\n".join(self._lines))
        files.write_bytes(path + ".hashes", b"".join(self._digests))
        self.parts.append(
            {
                "name": path.rpartition("/")[2],
                "num_documents": len(self._lines),
                "num_bytes": self._num_bytes,
            }
        )
        self._start_part()
