"""Words of text that puts no spaces between them."""

import importlib.util
import logging

from bert_pretrain import errors


def check(name):
    """Checks that a segmenter is installed.

    Raises:
      UserError: saying how to install it.
    """
    if importlib.util.find_spec(name) is None:
        raise errors.UserError(
            f"segmenter={name!r} needs the package {name}: pip install -c "
            "constraints.txt -e '.[chinese]'."
        )


def load(name):
    """The segmenter: a function of a text to its words, which joined give it.

    None where there is no segmenter.
    """
    if name == "none":
        return None
    check(name)
    import jieba  # An extra, and half a second to load.

    jieba.setLogLevel(logging.ERROR)  # It would tell that it loads.
    return jieba.lcut
