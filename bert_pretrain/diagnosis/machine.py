"""The TPU or the workers of a pod, the disk and the memory."""

import os
import shutil
from collections.abc import Iterator

import psutil

from bert_pretrain.devices import local_tpu, worker_status
from bert_pretrain.diagnosis import check

# float32: the weights and the two moments of Adam.
_BYTES_PER_PARAMETER = 3 * 4
# TensorFlow, the input pipeline, and the programs while they are compiled.
_BASE_MEMORY = 3e9


def examine_tpu(tpu: str, limit_seconds: int) -> Iterator[check.Result]:
    """Whether the TPU of this machine starts, or all workers answer."""
    name = "TPU"
    if tpu == "local":
        cores = local_tpu.try_to_start(limit_seconds)
        yield check.ok(name, f"starts, with {cores} cores")
        return
    if not tpu.startswith("grpc://"):
        yield check.warning(
            name,
            f"--tpu={tpu} is looked up when the run starts, and a worker that "
            "hangs cannot be noticed",
            "give the addresses, --tpu=grpc://host0:8470,host1:8470",
        )
        return
    statuses = worker_status.ask(worker_status.addresses(tpu), limit_seconds)
    for address, status in statuses.items():
        if status is None:
            yield check.error(
                name,
                f"no worker answers at {address}",
                "start one there: python -m bert_pretrain.worker",
            )
    if None not in statuses.values():
        yield check.ok(name, f"{len(statuses)} workers answer")


def examine_disk(
    model_dir: str, num_parameters: int, num_checkpoints: int
) -> Iterator[check.Result]:
    """Whether the checkpoints of a run fit on the disk."""
    name = "disk"
    # The newest ones, the best one, and one that is being written.
    needed = (num_checkpoints + 2) * num_parameters * _BYTES_PER_PARAMETER
    if "://" in model_dir:
        yield check.ok(
            name, f"{_size(needed)} of checkpoints will be in {model_dir}"
        )
        return
    folder = os.path.abspath(model_dir)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    text = f"{_size(free)} free in {folder}, for {_size(needed)} of checkpoints"
    if free < needed:
        yield check.error(
            name, text, "free some space, or give another --model_dir"
        )
    elif free < 2 * needed:
        yield check.warning(name, text, "free some space")
    else:
        yield check.ok(name, text)


def examine_memory(num_parameters: int) -> Iterator[check.Result]:
    """Whether the host's memory holds a run."""
    name = "memory"
    # A checkpoint is copied before it is written.
    needed = _BASE_MEMORY + 2 * num_parameters * _BYTES_PER_PARAMETER
    available = psutil.virtual_memory().available
    text = f"{_size(available)} available, for about {_size(needed)}"
    if available < needed:
        yield check.warning(
            name, text, "end other programs, or take a larger machine"
        )
    else:
        yield check.ok(name, text)


def _size(num_bytes: float) -> str:
    if num_bytes >= 1e9:
        return f"{num_bytes / 1e9:.1f} GB"
    return f"{num_bytes / 1e6:.0f} MB"
