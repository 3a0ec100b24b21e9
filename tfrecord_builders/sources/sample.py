"""The sample text: fetched out of a wheel, and checked."""

import dataclasses
import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import tensorflow as tf

from bert_pretrain import errors, files

# All releases for the supported versions of Python contain the same two files.
_REQUIREMENT = "gensim==4.4.0"
_MEMBERS = "gensim/test/test_data/"


@dataclasses.dataclass(frozen=True)
class _Sample:
    member: str  # Its name in the wheel.
    sha256: str


SAMPLES: dict[str, _Sample] = {
    "enwiki-sample.xml.bz2": _Sample(
        _MEMBERS + "enwiki-latest-pages-articles1.xml-"
        "p000000010p000030302-shortened.bz2",
        "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d",
    ),
    "lee-news.txt": _Sample(
        _MEMBERS + "lee_background.cor",
        "5d78d6dafd953bbf65797bef09a9ffb9ec430583381be705f8fd460000f370fb",
    ),
}
README_NAME = "README.md"
_README = f"""\
# Sample text

These files are test data in the wheel of {_REQUIREMENT}
(https://pypi.org/project/gensim/). The licence of gensim is LGPL-2.1. The
texts belong to their authors.

- `enwiki-sample.xml.bz2`: a shortened dump of the English Wikipedia of 2016
  with 206 pages, of which 100 are redirects. The contributors of Wikipedia
  wrote it, under CC BY-SA (https://creativecommons.org/licenses/by-sa/3.0/).
  The authors of each page are listed on https://en.wikipedia.org/, under the
  title of the page.
- `lee-news.txt`: 300 news stories, one in each line, from the news mail
  service of the Australian Broadcasting Corporation. They were collected for
  M. D. Lee, B. M. Pincombe and M. B. Welsh, "An empirical evaluation of models
  of text document similarity", Proceedings of the 27th Annual Conference of
  the Cognitive Science Society, 2005. The wheel states no licence for them
  other than its own.
"""


def fetch(output_dir: str) -> None:
    """Writes the sample and its README to a folder, unless they exist.

    Raises:
      UserError: if pip cannot download the wheel, or the wheel has other
        content than expected.
    """
    readme = f"{output_dir}/{README_NAME}"
    missing = [
        name
        for name, sample in SAMPLES.items()
        if not _is_right(f"{output_dir}/{name}", sample.sha256)
    ]
    if missing:
        with tempfile.TemporaryDirectory() as folder:
            wheel = _download(folder)
            for name in missing:
                files.write_bytes(
                    f"{output_dir}/{name}", _extract(wheel, SAMPLES[name])
                )
    # The README is written last: if it exists, the sample is complete.
    if missing or not tf.io.gfile.exists(readme):
        files.write_text(readme, _README)
    for name in SAMPLES:
        state = "fetched" if name in missing else "already there"
        print(f"{output_dir}/{name}: {state}")


def _is_right(path: str, sha256: str) -> bool:
    return tf.io.gfile.exists(path) and files.sha256(path) == sha256


def _download(folder: str) -> str:
    """Downloads the wheel with pip, without installing it.

    Returns:
      The path of the wheel.
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        _REQUIREMENT,
        "--no-deps",
        "--only-binary=:all:",
        "--quiet",
        "--disable-pip-version-check",
        f"--dest={folder}",
    ]
    print(f"Downloading {_REQUIREMENT} (28 MB) for its test data ...")
    result = subprocess.run(
        command, capture_output=True, text=True, check=False
    )
    wheels = sorted(pathlib.Path(folder).glob("*.whl"))
    if result.returncode or not wheels:
        reasons = [
            line
            for line in result.stderr.splitlines()
            if line.startswith("ERROR")
        ]
        raise errors.UserError(
            f"pip cannot download {_REQUIREMENT} "
            f"({reasons[-1] if reasons else 'it gave no reason'}); check the "
            "network and the index-url of pip, or use your own text."
        )
    return str(wheels[0])


def _extract(wheel: str, sample: _Sample) -> bytes:
    """Reads one member of the wheel, and checks its content."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(sample.member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise errors.UserError(
            f"{wheel}: no sample in it ({error}); this is not the expected "
            "wheel. Check the index-url of pip."
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sample.sha256:
        raise errors.UserError(
            f"{wheel}: {sample.member} has sha256 {digest}, not "
            f"{sample.sha256}; this is not the expected wheel. Check the "
            "index-url of pip."
        )
    return content
