"""The two sets of versions: their files, and which one is in force."""

import pathlib
import re

import pytest

from bert_pretrain.devices import versions

ROOT = pathlib.Path(__file__).parent.parent
IDS = [each.tensorflow for each in versions.SETS]


def pins(version_set):
    lines = (ROOT / version_set.constraints).read_text().splitlines()
    found = (line.split("==") for line in lines if "==" in line)
    return {name.replace(".", "-"): version for name, version in found}


@pytest.mark.parametrize("version_set", versions.SETS, ids=IDS)
def test_a_set_pins_one_tensorflow_and_what_goes_with_it(version_set):
    pinned = pins(version_set)
    for package in ("", "-text"):
        assert pinned[f"tensorflow{package}"].startswith(
            f"{version_set.tensorflow}."
        )
    for package in ("tf-keras", "tf-models-official"):
        assert pinned[package].startswith(f"{version_set.tensorflow}.")
    assert pinned["transformers"].startswith("4.")
    # One that pip finds on PyPI is the one that the step is compiled with.
    if found := re.search(r"libtpu==(\S+)$", version_set.install_on_tpus):
        assert found.group(1) == pinned["libtpu"]


def test_the_sets_differ_in_few_packages():
    # Whoever changes one file changes the other one, too.
    old, new = map(pins, versions.SETS)
    assert old.keys() - new.keys() == {"tensorflow-io-gcs-filesystem"}
    differing = {
        name for name in old.keys() & new.keys() if old[name] != new[name]
    }
    assert len(differing) < 25, sorted(differing)


@pytest.mark.parametrize("version_set", versions.SETS, ids=IDS)
def test_the_set_of_the_installed_tensorflow_is_in_force(
    version_set, monkeypatch
):
    monkeypatch.setattr(
        versions,
        "installed",
        lambda package: (
            f"{version_set.tensorflow}.0"
            if package == "tensorflow-tpu"
            else None
        ),
    )
    assert versions.in_force() == version_set


def test_tpu_machines_get_the_wheels_of_their_set():
    script = (ROOT / "launch" / "vm" / "install").read_text()
    for version_set in versions.SETS:
        wheel = re.search(
            r"tensorflow-tpu==(\S+)", version_set.install_on_tpus
        ).group(1)
        assert f"version={wheel} set={version_set.constraints} " in script
