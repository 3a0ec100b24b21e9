"""A folder with a model, local or on gs://, which becomes one at the end."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

import tensorflow as tf

from bert_pretrain import file_errors, files
from bert_pretrain.model import config_json

# A folder with one of these counts as a model.
ADAPTER_CONFIG_NAME = "adapter_config.json"
_LAST = (ADAPTER_CONFIG_NAME, config_json.NAME)


@contextlib.contextmanager
def writing(folder: str) -> Iterator[str]:
    """Yields a local folder, whose files are then copied to `folder`.

    Libraries write to local folders only. The config is copied last, so that a
    folder that is not complete does not count as a model.

    Raises:
      UserError: if the folder cannot be written.
    """
    with tempfile.TemporaryDirectory() as temporary:
        yield temporary
        names = [
            os.path.relpath(os.path.join(place, name), temporary)
            for place, _, found in os.walk(temporary)
            for name in found
        ]
        for name in sorted(names, key=lambda name: (name in _LAST, name)):
            target = f"{folder}/{name}"
            with files.replacing(target) as path, file_errors.naming(target):
                tf.io.gfile.copy(f"{temporary}/{name}", path)
