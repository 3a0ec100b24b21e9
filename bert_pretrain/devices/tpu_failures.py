"""What TensorFlow's messages about a TPU mean, and the remedies.

The table has every failure that is known (docs/tpu.md says from where). It
needs no TensorFlow, because several of these failures abort the process.
"""

import re

from bert_pretrain import errors
from bert_pretrain.devices import versions

SET_VARIABLES = (
    "set TPU_LIBRARY_PATH and TF_PLUGGABLE_DEVICE_LIBRARY_PATH to the "
    "libtpu.so of the libtpu package and NEXT_PLUGGABLE_DEVICE_USE_C_API=true"
)
# Patterns in TensorFlow's messages, with the cause and the remedy. {install}
# stands for the commands that install TensorFlow for TPUs.
_FAILURES = (
    (
        r"No OpKernel|No registered 'ConfigureDistributedTPU'|"
        r"Unknown backend XLA_TPU_JIT",
        "the installed TensorFlow has no TPU support: it is the plain "
        "tensorflow wheel instead of tensorflow-tpu; run {install}",
    ),
    (
        r"DoWork not available",
        "libtpu is too new for this TensorFlow; run {install}",
    ),
    (
        r"Raising signal 11",
        "libtpu crashed, as it does on a machine without a TPU; take a machine "
        "with one",
    ),
    (
        r"No matching devices|TPU_SYSTEM:0",
        f"TensorFlow did not load libtpu; {SET_VARIABLES}",
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
        r"Op type not registered 'TFText>",
        "a worker of the pod has not loaded tensorflow_text; this project's "
        "input needs none, so the dataset is read by other code",
    ),
    (
        r"oauth2client|googleapiclient|Could not automatically determine cred|"
        r"not find TPU|HttpError|metadata",
        "the Cloud TPU API did not answer for this name; give the workers' "
        "addresses instead, --tpu=grpc://ip0:8470,ip1:8470",
    ),
)


def explain(message: str) -> str | None:
    """The cause and the remedy of a failure, or None if it is not known."""
    for pattern, explanation in _FAILURES:
        if re.search(pattern, message):
            return explanation.format(
                install=versions.in_force().install_on_tpus
            )
    return None


def translate(tpu: str, message: str) -> errors.UserError:
    """The error for TensorFlow's message about a TPU.

    Args:
      tpu: the value of --tpu.
    """
    if (explanation := explain(message)) is not None:
        return errors.UserError(f"--tpu={tpu}: {explanation}.")
    lines = [line for line in message.strip().splitlines() if line.strip()]
    return errors.UserError(
        f"--tpu={tpu}: {lines[-1].strip() if lines else 'no TPU answered'}."
    )
