"""Versions that are installed, the wheel that won, libtpu, and variables.

Nothing here imports TensorFlow: a wrong combination aborts the process.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping

from bert_pretrain.devices import tpu_failures, trial, versions
from bert_pretrain.diagnosis import check

# They are compiled for one TensorFlow, or follow its version.
_COMPANIONS = ("tensorflow-text", "tf-keras", "tf-models-official")
_IMPORT = "import tensorflow, tensorflow_text, tf_keras, transformers"
_IMPORT_SECONDS = 300
# The library that both wheels bring.
_LIBRARY = "tensorflow/libtensorflow_cc.so.2"
# For TensorFlow 2.20. 0.0.42.1 was the last one seen to have the functions
# that it needs, 0.0.46.3 the first one seen to lack them; it then aborts.
_LAST_GOOD_LIBTPU, _FIRST_BAD_LIBTPU = (0, 0, 42, 1), (0, 0, 46, 3)
_PATHS = ("TPU_LIBRARY_PATH", "TF_PLUGGABLE_DEVICE_LIBRARY_PATH")
_C_API = "NEXT_PLUGGABLE_DEVICE_USE_C_API"
_LOAD = "TPU_LOAD_LIBRARY"
_TYPE = "TPU_ACCELERATOR_TYPE"


def examine_versions() -> Iterator[check.Result]:
    """Python, TensorFlow and what must go with it."""
    name = "versions"
    python = sys.version_info
    if not (3, 10) <= python[:2] <= (3, 12):
        yield check.error(
            name,
            f"Python {python.major}.{python.minor}",
            "TensorFlow 2.18 and 2.20 need Python 3.10 to 3.12; the "
            "constraints are for 3.11",
        )
    found = versions.tensorflow_version()
    if found is None:
        yield check.error(
            name,
            "TensorFlow is not installed",
            f"pip install -c {versions.SETS[-1].constraints} -e .",
        )
        return
    in_force = versions.in_force()
    install = f"pip install -c {in_force.constraints} -e ."
    if not found.startswith(f"{in_force.tensorflow}."):
        yield check.error(
            name,
            f"TensorFlow {found} is in no set that this project supports",
            install,
        )
        return
    yield check.ok(
        name,
        f"TensorFlow {found}: the set of {in_force.constraints}, Python "
        f"{python.major}.{python.minor}",
    )
    for package in _COMPANIONS:
        version = versions.installed(package)
        if version is None or not version.startswith(f"{in_force.tensorflow}."):
            yield check.error(
                name,
                f"{package} {version or 'is not installed'}, but TensorFlow "
                f"{found}",
                install,
            )
    transformers = versions.installed("transformers") or "0"
    if _numbers(transformers) >= (5,):
        yield check.error(
            name,
            f"transformers {transformers} has no TFBertForMaskedLM",
            install,
        )
    if os.environ.get("TF_USE_LEGACY_KERAS") == "0":
        yield check.error(
            name,
            "TF_USE_LEGACY_KERAS=0 chooses Keras 3, which transformers does "
            "not support",
            "unset TF_USE_LEGACY_KERAS",
        )


def examine_import() -> Iterator[check.Result]:
    """Whether TensorFlow can be imported; tried in another process."""
    name = "import"
    try:
        tried = trial.run(_IMPORT, _IMPORT_SECONDS)
    except subprocess.TimeoutExpired:
        yield check.error(
            name,
            f"TensorFlow is not imported after {_IMPORT_SECONDS} seconds",
            "look whether the disk or the machine is overloaded",
        )
        return
    if not tried.returncode:
        yield check.ok(name, "TensorFlow, TensorFlow Text and transformers")
        return
    lines = [line for line in tried.stderr.splitlines() if line.strip()]
    last = lines[-1].strip() if lines else f"exit code {tried.returncode}"
    explanation = tpu_failures.explain(tried.stderr)
    in_force = versions.in_force()
    yield check.error(
        name,
        f"{_IMPORT} fails ({last[:200]})",
        explanation or f"pip install -c {in_force.constraints} -e .",
    )


def examine_wheel(is_for_tpus: bool) -> Iterator[check.Result]:
    """Which of the two wheels was installed last, over the other one."""
    name = "wheel"
    winner = winning_wheel()
    install = versions.in_force().install_on_tpus
    if winner is None:
        yield check.warning(
            name,
            "the files of TensorFlow are those of no installed wheel",
            install
            if is_for_tpus
            else "pip install --force-reinstall "
            f"--no-deps tensorflow=={versions.tensorflow_version()}",
        )
    elif is_for_tpus and winner == "tensorflow":
        yield check.error(
            name, "plain tensorflow won, which has no TPU support", install
        )
    else:
        yield check.ok(name, f"{winner} {versions.installed(winner)}")


def winning_wheel() -> str | None:
    """The distribution whose TensorFlow library is the one on disk."""
    for package in ("tensorflow-tpu", "tensorflow"):
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if str(file) == _LIBRARY and file.size == _size(file.locate()):
                return package
    return None


def _size(path: object) -> int | None:
    try:
        return os.path.getsize(str(path))
    except OSError:
        return None


def examine_libtpu() -> Iterator[check.Result]:
    """The TPU's runtime, for a TPU of this machine."""
    name = "libtpu"
    version = versions.installed("libtpu")
    install = versions.in_force().install_on_tpus
    path = os.environ.get(_PATHS[0], "")
    if version is None and not os.path.isfile(path):
        yield check.error(name, "is not installed", install)
    elif version and versions.in_force().tensorflow == "2.20":
        numbers = _numbers(version)
        if numbers >= _FIRST_BAD_LIBTPU:
            yield check.error(
                name,
                f"{version} lacks functions that TensorFlow 2.20 needs",
                install,
            )
        elif numbers > _LAST_GOOD_LIBTPU:
            yield check.warning(
                name,
                f"nobody has tried {version} with TensorFlow 2.20",
                install,
            )
        else:
            yield check.ok(name, version)
    else:
        yield check.ok(name, path or version or "")


def examine_variables(tpu: str) -> Iterator[check.Result]:
    """The variables that decide whether TensorFlow loads libtpu."""
    name = "variables"
    results = list(_wrong_variables(name, tpu, os.environ))
    yield from results
    if not results:
        yield check.ok(name, "as a run with this --tpu needs them")


def _wrong_variables(
    name: str, tpu: str, environment: Mapping[str, str]
) -> Iterator[check.Result]:
    set_paths = [path for path in _PATHS if environment.get(path)]
    for path in set_paths:
        if not os.path.isfile(environment[path]):
            yield check.error(
                name,
                f"{path}={environment[path]}: no such file",
                tpu_failures.SET_VARIABLES,
            )
    if tpu == "local":
        if len(set_paths) < len(_PATHS) or environment.get(_C_API) != "true":
            yield check.error(
                name,
                "TensorFlow would not load libtpu",
                tpu_failures.SET_VARIABLES,
            )
        if environment.get(_LOAD) == "0":
            yield check.error(
                name, f"{_LOAD}=0 switches libtpu off", f"unset {_LOAD}"
            )
        if not environment.get(_TYPE):
            yield check.warning(
                name,
                f"{_TYPE} is not set, so no MFU is reported",
                f"export {_TYPE}=v5litepod-8, or your type",
            )
        return
    if set_paths:
        where = "the coordinator of a pod" if tpu else "a run without --tpu"
        yield check.error(
            name,
            f"{' and '.join(set_paths)} must not be set for {where}: "
            "TensorFlow would take the TPU, or abort",
            f"unset {' '.join([*_PATHS, _C_API])}",
        )
    if tpu and environment.get(_LOAD) != "0":
        yield check.warning(
            name,
            f"{_LOAD} is not 0, so the coordinator may take the TPU that its "
            "host's worker needs",
            f"export {_LOAD}=0",
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
