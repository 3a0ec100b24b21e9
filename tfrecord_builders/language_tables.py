"""Facts about languages, as tables in the folder `languages`.

Each table is a YAML file. Its keys are codes of ISO 639, as
`wiki_languages.language_of` gives them ("de", "zh", "yue"). Its first comment
says what the values are, where they come from, and how to add a language.
"""

import functools
import pathlib
from typing import Any

import yaml

# The loader in C is ten times faster; not every wheel has it.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FOLDER = pathlib.Path(__file__).with_name("languages")


@functools.cache
def read(name: str) -> dict[str, Any]:
    """Reads a table.

    Args:
      name: the name of its file, without the ending.

    Returns:
      For each code of a language: what the table says of it.
    """
    content = (_FOLDER / f"{name}.yaml").read_text("utf-8")
    return yaml.load(content, _Loader)  # noqa: S506 (a safe loader)
