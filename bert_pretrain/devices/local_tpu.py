"""Tries whether this machine's TPU starts."""

import os
import subprocess

from bert_pretrain import errors
from bert_pretrain.devices import tpu_failures, trial, versions

_TRIAL = """
import tensorflow as tf
resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
tf.tpu.experimental.initialize_tpu_system(resolver)
cores = tf.config.list_logical_devices("TPU")
print(f"CORES {len(cores)}")
"""
_TRIAL_SECONDS = 300


def try_to_start(limit_seconds: int = _TRIAL_SECONDS) -> int:
    """Starts the TPU in another process, because a failure may abort it.

    This process must not have imported TensorFlow with libtpu's variables: it
    would have the TPU already, and the other process could not get it.

    Returns:
      The number of cores that TensorFlow sees.

    Raises:
      UserError: if the TPU does not start within the limit.
    """
    # Images with TensorFlow 2.18 have the library, but no package.
    library = os.environ.get("TPU_LIBRARY_PATH", "")
    if versions.installed("libtpu") is None and not os.path.isfile(library):
        raise errors.UserError(
            "--tpu=local: the package libtpu is not installed; run "
            f"{versions.in_force().install_on_tpus}, then "
            f"{tpu_failures.SET_VARIABLES}."
        )
    try:
        tried = trial.run(_TRIAL, limit_seconds)
    except subprocess.TimeoutExpired as error:
        raise errors.UserError(
            f"--tpu=local: the TPU did not start within {limit_seconds} "
            "seconds; end other processes that use it, or restart its machine."
        ) from error
    if tried.returncode:
        raise tpu_failures.translate("local", tried.stderr)
    return int(tried.stdout.rpartition("CORES ")[2])
