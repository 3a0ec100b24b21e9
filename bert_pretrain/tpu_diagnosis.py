"""Explains why a TPU does not start, and tells the user a remedy."""

import importlib.metadata
import os
import re
import subprocess
import sys

from bert_pretrain import errors

_INSTALL = (
    "pip install --no-deps --force-reinstall tensorflow-tpu==2.20.0 && "
    "pip install --no-deps libtpu==0.0.20"
)
_SET_VARIABLES = (
    "set TPU_LIBRARY_PATH and TF_PLUGGABLE_DEVICE_LIBRARY_PATH to the "
    "libtpu.so of the libtpu package and NEXT_PLUGGABLE_DEVICE_USE_C_API=true"
)
# Patterns in TensorFlow's messages, with the cause and the remedy. Several of
# these failures abort the process, so the TPU is first tried in another one.
_TPU_FAILURES = (
    (
        r"No OpKernel|No registered 'ConfigureDistributedTPU'|"
        r"Unknown backend XLA_TPU_JIT",
        "the installed TensorFlow has no TPU support: it is the plain "
        f"tensorflow wheel instead of tensorflow-tpu; run {_INSTALL}",
    ),
    (
        r"DoWork not available",
        "libtpu is too new for this TensorFlow; run pip install --no-deps "
        "libtpu==0.0.20",
    ),
    (
        r"No matching devices|TPU_SYSTEM:0",
        f"TensorFlow did not load libtpu; {_SET_VARIABLES}",
    ),
    (
        r"libtpu_lockfile|multi-process lockfile|already in use",
        "another process uses the TPU; end that process, or remove "
        "/tmp/libtpu_lockfile if there is no such process",
    ),
    (
        r"TPU_LOAD_LIBRARY=0",
        "TPU_LOAD_LIBRARY=0 switches libtpu off, but the PJRT variables "
        "ask for it; on a pod's coordinator unset the PJRT variables, on a "
        "single host unset TPU_LOAD_LIBRARY",
    ),
    (
        r"Please provide a TPU Name",
        "no TPU is named; give --tpu=local on a TPU machine, or the name of "
        "the TPU",
    ),
    (
        r"oauth2client|googleapiclient|Could not automatically determine cred|"
        r"not find TPU|HttpError|metadata",
        "the Cloud TPU API did not answer for this name; give the workers' "
        "addresses instead, --tpu=grpc://ip0:8470,ip1:8470",
    ),
)
_TRIAL = """
import tensorflow as tf
resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
tf.tpu.experimental.initialize_tpu_system(resolver)
"""
_TRIAL_SECONDS = 300


def try_local_tpu() -> None:
    """Starts the TPU in another process, which may abort.

    Raises:
      UserError: if the TPU does not start.
    """
    if not _is_installed("libtpu"):
        raise errors.UserError(
            f"--tpu=local: the package libtpu is not installed; run "
            f"{_INSTALL}, then {_SET_VARIABLES}."
        )
    try:
        trial = subprocess.run(
            [sys.executable, "-c", _TRIAL],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TRIAL_SECONDS,
            env=os.environ.copy(),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise errors.UserError(
            f"--tpu=local: the TPU did not start within {_TRIAL_SECONDS} "
            "seconds; restart its machine."
        ) from error
    if trial.returncode:
        raise translate("local", trial.stderr)


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def translate(tpu: str, message: str) -> errors.UserError:
    """Translates TensorFlow's message about a TPU.

    Args:
      tpu: the value of --tpu.
    """
    for pattern, explanation in _TPU_FAILURES:
        if re.search(pattern, message):
            return errors.UserError(f"--tpu={tpu}: {explanation}.")
    lines = [line for line in message.strip().splitlines() if line.strip()]
    return errors.UserError(
        f"--tpu={tpu}: {lines[-1].strip() if lines else 'no TPU answered'}."
    )
