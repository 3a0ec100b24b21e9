"""Accelerators, and how much of their peak a training step uses (MFU).

A model's FLOPs utilization (MFU) is the rate at which `flops_per_example` are
computed, divided by `peak_flops`.
"""

import dataclasses
import os
import re
from typing import Any

import tensorflow as tf
import transformers


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """One kind of chip."""

    name: str
    pattern: str  # a regular expression for the name that it reports
    bfloat16: float | None  # FLOP/s; None if it has no bfloat16 products
    float32: float  # FLOP/s of float32 products as TensorFlow computes them
    replicas_per_chip: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class TPU(Accelerator):
    """A TPU chip, with its memory and its links."""

    memory: int  # bytes of main memory (HBM)
    reserved: int  # bytes of it that a replica's program cannot use
    memory_rate: float  # bytes/s of main memory
    link_rate: float  # bytes/s to other chips, the sum of all links


_GIB = 2**30
_MIB = 2**20


def _tpu(
    name: str,
    pattern: str,
    flops: float,
    replicas_per_chip: int = 1,
    **facts: Any,
) -> TPU:
    # A TPU computes a float32 product as one product in bfloat16 by default.
    return TPU(name, pattern, flops, flops, replicas_per_chip, **facts)


# https://docs.cloud.google.com/tpu/docs/{v3,v4,v5e,v5p,v6e}, "System
# architecture"; v2 from JAX's jax/_src/pallas/mosaic/tpu_info.py. JAX has 140
# for v3, other sources have 45 for v2. The two cores of a v2 or v3 chip are two
# replicas. Those of a v4 or v5p chip work as one replica ("megacore").
#
# `memory` is the memory that libtpu 0.0.20 compiles for. `reserved` is from its
# message about a program that does not fit. `link_rate` is the documents'
# all-reduce bandwidth of a pod, divided by its chips; for v5p half of the
# "bidirectional" bandwidth; for v2 four links of 496 Gbit/s (Jouppi et al.
# 2020, "A domain-specific supercomputer for training deep neural networks").
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
# From the data sheets of NVIDIA: bfloat16 is "BFLOAT16 Tensor Core"; float32 is
# "TF32 Tensor Core", because TensorFlow computes float32 products in TF32 by
# default.
# Volta and Turing have neither: float32 is "FP32", bfloat16 is None.
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
# Environment variables of machines with TPUs; a value is v5litepod-8.
_TPU_VARIABLES = "TPU_ACCELERATOR_TYPE", "ACCELERATOR_TYPE"


def peak_flops(
    strategy: tf.distribute.Strategy, dtype: tf.DType
) -> float | None:
    """The peak FLOP/s of all replicas of a strategy together.

    Returns:
      None if the peak is not known, as for CPUs.
    """
    if isinstance(strategy, tf.distribute.TPUStrategy):
        names = [os.environ.get(name, "") for name in _TPU_VARIABLES]
        kinds: list[Accelerator | None] = [find_tpu(name) for name in names]
    else:
        kinds = [find_gpu(name) for name in _gpu_names()]
    kind = next(filter(None, kinds), None)
    if kind is None or (flops := getattr(kind, dtype.name)) is None:
        return None
    return flops * strategy.num_replicas_in_sync / kind.replicas_per_chip


def find_tpu(accelerator_type: str) -> TPU | None:
    """The TPU of a type such as v5litepod-8, or None if it is not known."""
    for kind in TPUS:
        if re.fullmatch(kind.pattern, accelerator_type):
            return kind
    return None


def find_gpu(device_name: str) -> Accelerator | None:
    """The GPU of a name such as NVIDIA A100-SXM4-40GB, or None."""
    for kind in GPUS:
        if re.search(kind.pattern, device_name):
            return kind
    return None


def flops_per_example(
    bert_config: transformers.BertConfig,
    seq_length: int,
    num_predictions: int,
    has_pairs: bool,
) -> int:
    """FLOPs of a training step per example, as MFU counts them.

    Only matrix products count; a product of [m, k] and [k, n] has 2 m k n
    FLOPs. The backward pass counts twice as much as the forward pass, and
    values that it computes again do not count (Chowdhery et al. 2022, appendix
    B). Attention counts over all pairs of positions. The vocabulary's head
    counts at the positions that are predicted. Every layer counts in full, so
    that the MFU is comparable with that of other code, although
    `encoder.encode` does not compute the whole last layer.

    Args:
      bert_config: the architecture.
      seq_length: tokens in a row, padding included.
      num_predictions: masked positions in a row.
      has_pairs: whether the model also predicts the next sentence.
    """
    hidden = bert_config.hidden_size
    # Query, key, value and output, then the feed-forward network.
    dense = 4 * hidden**2 + 2 * hidden * bert_config.intermediate_size
    # The scores, and the weighted sum of the values.
    attention = 2 * seq_length * hidden
    layers = bert_config.num_hidden_layers * seq_length * (dense + attention)
    head = num_predictions * hidden * (hidden + bert_config.vocab_size)
    pooler = hidden * (hidden + 2) if has_pairs else 0
    return 3 * 2 * (layers + head + pooler)


def _gpu_names() -> list[str]:
    return [
        tf.config.experimental.get_device_details(device).get("device_name", "")
        for device in tf.config.list_physical_devices("GPU")
    ]
