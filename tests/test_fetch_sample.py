import hashlib
import os
import subprocess
import types
import zipfile

import pytest

from bert_pretrain import errors, files
from tfrecord_builders.sources import sample

CONTENTS = {"enwiki-sample.xml.bz2": b"a dump", "lee-news.txt": b"some news"}


@pytest.fixture
def fake_pip(monkeypatch):
    """Stands in for pip: writes a made-up wheel; returns the list of calls."""
    samples = sample.SAMPLES
    monkeypatch.setattr(
        sample,
        "SAMPLES",
        {
            name: sample._Sample(
                samples[name].member, hashlib.sha256(content).hexdigest()
            )
            for name, content in CONTENTS.items()
        },
    )
    fake = types.SimpleNamespace(
        calls=[],
        returncode=0,
        stderr="",
        members={
            samples[name].member: content for name, content in CONTENTS.items()
        },
    )

    def run(command, **_):
        fake.calls.append(command)
        folder = command[-1].removeprefix("--dest=")
        if not fake.returncode:
            with zipfile.ZipFile(
                os.path.join(folder, "gensim-0-any.whl"), "w"
            ) as wheel:
                for member, content in fake.members.items():
                    wheel.writestr(member, content)
        return subprocess.CompletedProcess(
            command, fake.returncode, "", fake.stderr
        )

    monkeypatch.setattr(sample.subprocess, "run", run)
    return fake


@pytest.mark.parametrize("scheme", ["local", "ram"])
def test_the_two_files_and_their_origin_are_written_to_the_folder(
    fake_pip, tmp_path, scheme
):
    folder = str(tmp_path) if scheme == "local" else "ram://fetch/sample"
    sample.fetch(folder)
    for name, content in CONTENTS.items():
        assert files.read_bytes(f"{folder}/{name}") == content
    readme = files.read_text(f"{folder}/README.md")
    assert "CC BY-SA" in readme and "Lee" in readme and "gensim" in readme
    assert "--no-deps" in fake_pip.calls[0]


def test_right_files_are_not_fetched_again(fake_pip, tmp_path):
    sample.fetch(str(tmp_path))
    sample.fetch(str(tmp_path))
    assert len(fake_pip.calls) == 1
    (tmp_path / "lee-news.txt").write_bytes(b"cut")
    sample.fetch(str(tmp_path))
    assert len(fake_pip.calls) == 2
    assert (tmp_path / "lee-news.txt").read_bytes() == b"some news"


def test_an_unreachable_registry_gives_one_line_with_pip_s_reason(
    fake_pip, tmp_path
):
    fake_pip.returncode = 1
    fake_pip.stderr = "WARNING: retrying\nERROR: No matching distribution\n"
    with pytest.raises(
        errors.UserError,
        match=(
            r"gensim==[\d.]+ \(ERROR: No matching distribution\); check the "
            "network"
        ),
    ) as caught:
        sample.fetch(str(tmp_path))
    assert "\n" not in str(caught.value)
    assert not os.listdir(tmp_path)


def test_a_wheel_with_other_content_is_refused(fake_pip, tmp_path):
    member = next(iter(fake_pip.members))
    fake_pip.members[member] = b"other"
    with pytest.raises(errors.UserError, match="sha256"):
        sample.fetch(str(tmp_path))
    del fake_pip.members[member]
    with pytest.raises(errors.UserError, match="no sample in it"):
        sample.fetch(str(tmp_path))
    assert not os.path.exists(tmp_path / "README.md")
