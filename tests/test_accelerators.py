"""Accelerators: recognized by name, with their peak and their memory."""

import pytest
import tensorflow as tf

from bert_pretrain.telemetry import accelerators, memory


@pytest.mark.parametrize(
    "accelerator_type, name",
    [
        ("v2-8", "TPU v2"),
        ("v3-32", "TPU v3"),
        ("v4-8", "TPU v4"),
        ("v5litepod-16", "TPU v5e"),
        ("v5p-128", "TPU v5p"),
        ("v6e-1", "TPU v6e"),
        ("v99-8", None),
        ("", None),
    ],
)
def test_a_tpu_is_recognized_by_its_type(accelerator_type, name):
    kind = accelerators.find_tpu(accelerator_type)
    assert (kind and kind.name) == name


@pytest.mark.parametrize(
    "device_name, name",
    [
        ("Tesla V100-SXM2-16GB", "V100 SXM2"),
        ("Tesla V100-PCIE-32GB", "V100 PCIe"),
        ("Tesla T4", "T4"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA A100 80GB PCIe", "A100"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200"),
        # A cloud's half of an A10, and a GPU that is not in the table.
        ("NVIDIA A10G", None),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_a_gpu_is_recognized_by_its_name(device_name, name):
    kind = accelerators.find_gpu(device_name)
    assert (kind and kind.name) == name


class TPUStrategy:
    """Stands in for eight replicas on TPUs."""

    num_replicas_in_sync = 8


def test_the_peak_counts_chips_and_not_replicas(monkeypatch):
    monkeypatch.setattr(tf.distribute, "TPUStrategy", TPUStrategy)
    for kind, peak in ("v3-8", 4 * 123e12), ("v5litepod-8", 8 * 197e12):
        monkeypatch.setenv("TPU_ACCELERATOR_TYPE", kind)
        for dtype in tf.bfloat16, tf.float32:
            assert accelerators.peak_flops(TPUStrategy(), dtype) == peak
    monkeypatch.delenv("TPU_ACCELERATOR_TYPE")
    assert accelerators.peak_flops(TPUStrategy(), tf.bfloat16) is None


def test_the_peak_of_a_gpu_depends_on_the_precision(monkeypatch):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    for name, bfloat16, float32 in (
        ("NVIDIA A100-SXM4-40GB", 312e12, 156e12),
        ("Tesla T4", None, 8.1e12),
    ):
        monkeypatch.setattr(
            accelerators, "_gpu_names", lambda name=name: [name]
        )
        assert accelerators.peak_flops(strategy, tf.bfloat16) == bfloat16
        assert accelerators.peak_flops(strategy, tf.float32) == float32


def test_a_cpu_has_no_known_peak_and_no_memory_of_its_own():
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    assert accelerators.peak_flops(strategy, tf.float32) is None
    assert memory.device_memory_bytes(strategy) is None


class Devices:
    """Stands in for a strategy on accelerators."""

    def __init__(self, *names):
        self.extended = self
        self.worker_devices = names


def test_memory_is_that_of_the_fullest_device_of_this_host(monkeypatch):
    def count(device):
        if "task:1" in device:
            raise ValueError("not of this host")
        full = int(device[-1])
        return {"current": 10 + full, "peak": 30 - full}

    monkeypatch.setattr(tf.config.experimental, "get_memory_info", count)
    ours = [f"/job:worker/replica:0/task:0/device:TPU:{i}" for i in range(2)]
    theirs = "/job:worker/replica:0/task:1/device:TPU:0"
    assert memory.device_memory_bytes(Devices(*ours, theirs)) == (11, 30)
    assert memory.device_memory_bytes(Devices(theirs)) is None
