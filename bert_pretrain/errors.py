"""Errors that a user can mend, and warnings: each is one line.

A library raises `UserError` with what is wrong, the value, where, and the
remedy. Only `command_line.run` prints it and ends the process.
"""

import logging
import sys

EXIT_CODE = 2

_LOGGER = logging.getLogger("bert_pretrain")


class UserError(ValueError):
    """A problem that the user can solve; the program ends with exit code 2."""


class _StderrHandler(logging.Handler):
    """Writes to the present `sys.stderr`, which a program may replace."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


def _configure_logger() -> None:
    if _LOGGER.handlers:
        return  # The program has chosen where warnings go.
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("warning: %(message)s"))
    _LOGGER.addHandler(handler)
    _LOGGER.setLevel(logging.WARNING)
    # absl's handler at the root logger would print each warning again.
    _LOGGER.propagate = False


_configure_logger()


def warn(message: object) -> None:
    """Tells the user about a problem that does not stop the work.

    Args:
      message: a text, or an exception whose text is the message.
    """
    _LOGGER.warning(message)
