"""Fetches the sample of real text: a Wikipedia dump cut short, and news.

    python -m tfrecord_builders.fetch_sample --output_dir=sample

Both are test data of gensim, so that a package registry is all it needs.
"""

import dataclasses
import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import tensorflow as tf

from bert_pretrain import errors, files, options

# Every release for the Pythons of this project carries the same two files.
_REQUIREMENT = "gensim==4.4.0"
_MEMBERS = "gensim/test/test_data/"


@dataclasses.dataclass(frozen=True)
class _Sample:
    member: str  # its name in the wheel
    sha256: str


SAMPLES = {
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

Taken out of the wheel of {_REQUIREMENT} (https://pypi.org/project/gensim/),
where it is test data. gensim is under LGPL-2.1; the texts are their authors'.

- `enwiki-sample.xml.bz2`: a dump of the English Wikipedia of 2016 cut short,
  206 pages, of which 100 are redirects. Its contributors' work, under CC BY-SA
  (https://creativecommons.org/licenses/by-sa/3.0/); a page's title leads to
  its authors on https://en.wikipedia.org/.
- `lee-news.txt`: 300 news stories, one a line, from the news mail service of
  the Australian Broadcasting Corporation. Collected for M. D. Lee,
  B. M. Pincombe and M. B. Welsh, "An empirical evaluation of models of text
  document similarity", Proceedings of the 27th Annual Conference of the
  Cognitive Science Society, 2005. The wheel states no licence for them apart
  from its own.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FetchConfig(options.Options):
    output_dir: str = options.option(
        "Folder that gets the sample; local or gs://."
    )


def main(config):
    fetch(config.output_dir)


def fetch(output_dir):
    """Puts the sample and its README into a folder, unless it is there.

    Raises:
      UserError: if the wheel cannot be had or is not the one expected.
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
    # Last, so that its presence means that the sample is whole.
    if missing or not tf.io.gfile.exists(readme):
        files.write_text(readme, _README)
    for name in SAMPLES:
        state = "fetched" if name in missing else "already there"
        print(f"{output_dir}/{name}: {state}")


def _is_right(path, sha256):
    return tf.io.gfile.exists(path) and files.sha256(path) == sha256


def _download(folder):
    """Downloads the wheel with pip, without installing it: its path."""
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
        said = [
            line
            for line in result.stderr.splitlines()
            if line.startswith("ERROR")
        ]
        raise errors.UserError(
            f"pip cannot download {_REQUIREMENT} "
            f"({said[-1] if said else 'it gave no reason'}); check the "
            "network and pip's index-url, or use text of your own."
        )
    return str(wheels[0])


def _extract(wheel, sample):
    """The bytes of one member, which must be the ones expected."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(sample.member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise errors.UserError(
            f"{wheel}: no sample in it ({error}); the wheel is not the one "
            "that was asked for."
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sample.sha256:
        raise errors.UserError(
            f"{wheel}: {sample.member} has sha256 {digest}, not "
            f"{sample.sha256}; the wheel is not the one that was asked for."
        )
    return content


if __name__ == "__main__":
    options.run(main, FetchConfig)
