"""Word segmentation of Chinese text, which has no spaces between words."""

import importlib.util
import logging
from collections.abc import Callable

from bert_pretrain import errors


def check(name: str) -> None:
    """Checks that a segmenter is installed.

    Raises:
      UserError: if it is not; the message says how to install it.
    """
    if importlib.util.find_spec(name) is None:
        raise errors.UserError(
            f"segmenter={name!r} needs the package {name}: pip install -c "
            "constraints.txt -e '.[chinese]'."
        )


def load(name: str) -> Callable[[str], list[str]] | None:
    """Loads a segmenter.

    Returns:
      A function that splits a text into words; joined, the words are the text
      again. None if `name` is "none".

    Raises:
      UserError: if the segmenter is not installed.
    """
    if name == "none":
        return None
    check(name)
    import jieba  # Optional, and takes half a second to load.

    jieba.setLogLevel(logging.ERROR)  # Hides messages about loading.
    return jieba.lcut
