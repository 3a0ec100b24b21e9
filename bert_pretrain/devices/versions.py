"""The two sets of versions that this project supports."""

import dataclasses
import importlib.metadata


@dataclasses.dataclass(frozen=True)
class VersionSet:
    """Versions that were resolved and tested together."""

    tensorflow: str  # its first two numbers
    constraints: str  # the file for pip
    install_on_tpus: str  # the commands that come last on a TPU machine


# tensorflow-tpu and tensorflow write into the same folder, so the TPU's comes
# last. It asks pip for the newest libtpu, which lacks what TensorFlow 2.20
# needs: 0.0.46.3 and later abort at import.
SETS = (
    VersionSet(
        tensorflow="2.18",
        constraints="constraints-tf218.txt",
        install_on_tpus=(
            "pip install --no-deps --force-reinstall tensorflow-tpu==2.18.0 && "
            "pip install --no-deps libtpu==2.18.0 "
            "-f https://storage.googleapis.com/libtpu-tf-releases/index.html"
        ),
    ),
    VersionSet(
        tensorflow="2.20",
        constraints="constraints.txt",
        install_on_tpus=(
            "pip install --no-deps --force-reinstall tensorflow-tpu==2.20.0 && "
            "pip install --no-deps libtpu==0.0.20"
        ),
    ),
)


def in_force() -> VersionSet:
    """The set of the installed TensorFlow; the newest if it is in none."""
    installed = tensorflow_version() or ""
    for version_set in SETS:
        if installed.startswith(f"{version_set.tensorflow}."):
            return version_set
    return SETS[-1]


def tensorflow_version() -> str | None:
    """The version of the installed TensorFlow, whichever wheel brought it."""
    return installed("tensorflow") or installed("tensorflow-tpu")


def installed(package: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
