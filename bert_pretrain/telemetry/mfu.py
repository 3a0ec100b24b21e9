"""Model FLOPs utilization: a model's arithmetic beside what a device can do."""

import dataclasses
import os
import re

import tensorflow as tf


def flops_per_example(bert_config, seq_length, num_predictions, has_pairs):
    """FLOPs of a training step per example, as MFU counts them.

    Matrix products only, a product of [m, k] and [k, n] being 2 m k n; the
    backward pass is twice the forward pass, and what is recomputed in it does
    not count (Chowdhery et al. 2022, appendix B). Attention counts over all
    pairs of positions; the vocabulary's head at the positions that are
    predicted. Every layer counts in full, so that MFU compares with others'
    code, though `encoder.encode` leaves out what no loss needs of the last.
    """
    hidden = bert_config.hidden_size
    # Query, key, value and output, then the feed-forward network.
    dense = 4 * hidden**2 + 2 * hidden * bert_config.intermediate_size
    # The scores, and the sum they weigh.
    attention = 2 * seq_length * hidden
    layers = bert_config.num_hidden_layers * seq_length * (dense + attention)
    head = num_predictions * hidden * (hidden + bert_config.vocab_size)
    pooler = hidden * (hidden + 2) if has_pairs else 0
    return 3 * 2 * (layers + head + pooler)


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """One kind of chip."""

    name: str
    pattern: str  # of what it calls itself
    bfloat16: float | None  # FLOP/s; None if it has no such products
    float32: float  # FLOP/s of float32 products as TensorFlow computes them
    replicas_per_chip: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class TPU(Accelerator):
    """A chip whose memory and links are known too."""

    memory: int  # bytes of main memory (HBM)
    reserved: int  # of them, what a replica's program does not get
    memory_rate: float  # bytes/s of it
    link_rate: float  # bytes/s to other chips, over all links together


_GIB = 2**30
_MIB = 2**20


def _tpu(name, pattern, flops, replicas_per_chip=1, **facts):
    # A float32 product is one pass in bfloat16 there, unless asked otherwise.
    return TPU(name, pattern, flops, flops, replicas_per_chip, **facts)


# https://docs.cloud.google.com/tpu/docs/{v3,v4,v5e,v5p,v6e}, "System
# architecture"; v2 from JAX's jax/_src/pallas/mosaic/tpu_info.py. JAX has 140
# for v3, others 45 for v2. A chip of v2 and v3 shows its two cores as two
# replicas; those of v4 and v5p work as one ("megacore").
#
# The memory is what libtpu 0.0.20 compiles for, and what it reserves is what
# it says when a program does not fit. The links are the documents' all-reduce
# bandwidth of a pod by its chips, of v5p half of the "bidirectional" one, of
# v2 four links of 496 Gbit/s (Jouppi et al. 2020, "A domain-specific
# supercomputer for training deep neural networks").
TPUS = (
    _tpu(
        "TPU v2",
        r"v2-\d+",
        46e12,
        2,
        memory=16 * _GIB,
        reserved=530 * _MIB,
        memory_rate=716e9,
        link_rate=248e9,
    ),
    _tpu(
        "TPU v3",
        r"v3-\d+",
        123e12,
        2,
        memory=32 * _GIB,
        reserved=530 * _MIB,
        memory_rate=900e9,
        link_rate=332e9,
    ),
    _tpu(
        "TPU v4",
        r"v4-\d+",
        275e12,
        memory=32 * _GIB,
        reserved=1280 * _MIB,
        memory_rate=1200e9,
        link_rate=269e9,
    ),
    _tpu(
        "TPU v5e",
        r"(v5litepod|v5lite|v5e)-\d+",
        197e12,
        memory=16 * _GIB,
        reserved=258 * _MIB,
        memory_rate=819e9,
        link_rate=200e9,
    ),
    _tpu(
        "TPU v5p",
        r"v5p-\d+",
        459e12,
        memory=96 * _GIB,
        reserved=263 * _MIB,
        memory_rate=2765e9,
        link_rate=600e9,
    ),
    _tpu(
        "TPU v6e",
        r"v6e-\d+",
        918e12,
        memory=32 * _GIB,
        reserved=768 * _MIB,
        memory_rate=1638e9,
        link_rate=400e9,
    ),
)
# NVIDIA's data sheets, of the name of each: "BFLOAT16 Tensor Core" and, since
# TensorFlow computes float32 products so by default, "TF32 Tensor Core".
# Volta and Turing have neither: FP32 there, and no peak in bfloat16.
GPUS = (
    Accelerator("V100 SXM2", r"V100-SXM", None, 15.7e12),
    Accelerator("V100 PCIe", r"V100-PCIE", None, 14e12),
    Accelerator("T4", r"\bT4\b", None, 8.1e12),
    Accelerator("A10", r"\bA10\b", 125e12, 62.5e12),
    Accelerator("A30", r"\bA30\b", 165e12, 82e12),
    Accelerator("A40", r"\bA40\b", 149.7e12, 74.8e12),
    Accelerator("A100", r"\bA100\b", 312e12, 156e12),
    Accelerator("L4", r"\bL4\b", 121e12, 60e12),
    Accelerator("L40S", r"\bL40S\b", 362e12, 183e12),
    Accelerator("H100 PCIe", r"\bH100 PCIe", 756e12, 378e12),
    Accelerator("H100 NVL", r"\bH100 NVL", 835e12, 417e12),
    Accelerator("H100 SXM", r"\bH100\b.*HBM3", 989e12, 494e12),
    Accelerator("H200", r"\bH200\b", 989e12, 494e12),
)
# What machines with TPUs set, such as v5litepod-8.
_TPU_VARIABLES = "TPU_ACCELERATOR_TYPE", "ACCELERATOR_TYPE"


def peak_flops(strategy, dtype):
    """FLOP/s of all of a strategy's replicas together, at the most.

    Returns:
      None if it is not known, as for CPUs.
    """
    if isinstance(strategy, tf.distribute.TPUStrategy):
        names = [os.environ.get(name, "") for name in _TPU_VARIABLES]
        found = [find_tpu(name) for name in names]
    else:
        found = [find_gpu(name) for name in _gpu_names()]
    kind = next(filter(None, found), None)
    if kind is None or (flops := getattr(kind, dtype.name)) is None:
        return None
    return flops * strategy.num_replicas_in_sync / kind.replicas_per_chip


def find_tpu(accelerator_type):
    """The `TPU` of a type such as v5litepod-8, or None."""
    for kind in TPUS:
        if re.fullmatch(kind.pattern, accelerator_type):
            return kind
    return None


def find_gpu(device_name):
    """The `Accelerator` of a name such as NVIDIA A100-SXM4-40GB, or None."""
    for kind in GPUS:
        if re.search(kind.pattern, device_name):
            return kind
    return None


def _gpu_names():
    return [
        tf.config.experimental.get_device_details(device).get("device_name", "")
        for device in tf.config.list_physical_devices("GPU")
    ]
