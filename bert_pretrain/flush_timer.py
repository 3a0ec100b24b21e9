"""When a file that grows is written out."""

import time

from bert_pretrain import files

# On an object store, where each time the whole file is uploaded. A run waits
# for the upload, some tenths of a second.
_SECONDS = 300.0


class FlushTimer:
    """Is due at once on this machine, every five minutes elsewhere."""

    def __init__(self, path: str) -> None:
        """Takes the path of the file, or of its folder."""
        self._seconds = 0.0 if files.is_local(path) else _SECONDS
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether to write now; the next time counts from then on."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True
