"""Which devices compute, and in which precision.

One path for all: a strategy, a global batch that is divided among its
replicas, and a dtype.
"""

import contextlib
import contextvars
import dataclasses
import functools
from typing import Literal

import tensorflow as tf

from bert_pretrain import errors, options, tpu_diagnosis

_substitute = contextvars.ContextVar("substitute", default=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistributionConfig(options.Options):
    """Where to compute, and how precisely."""

    tpu: str = options.option(
        "local (on a TPU machine), a TPU's name, or "
        "grpc://address:8470,…; if not given, all GPUs, else the CPU.",
        "",
        changes_result=False,
    )
    num_cpu_replicas: int = options.option(
        "Replicas on the CPU where there is no accelerator: to try out what "
        "several of them do, not to be faster.",
        1,
        changes_result=False,
        at_least=1,
    )
    precision: Literal["float32", "bfloat16"] = options.option(
        "Of matrix products and hidden states; variables, LayerNorm, loss "
        "and optimizer are float32 always.",
        "float32",
    )


def build_strategy(config):
    """The `tf.distribute` strategy over the devices that `config` names."""
    if (strategy := _substitute.get()) is not None:
        return strategy
    if config.tpu:
        return _tpu_strategy(config.tpu)
    num_gpus = len(tf.config.list_physical_devices("GPU"))
    if num_gpus > 1:
        return _mirrored_strategy("gpu", num_gpus)
    if num_gpus:
        return tf.distribute.OneDeviceStrategy("/gpu:0")
    if config.num_cpu_replicas > 1:
        _divide_cpu(config.num_cpu_replicas)
        return _mirrored_strategy("cpu", config.num_cpu_replicas)
    return tf.distribute.OneDeviceStrategy("/cpu:0")


@contextlib.contextmanager
def substituting(strategy):
    """Inside, `build_strategy` gives this one, whatever is asked for."""
    token = _substitute.set(strategy)
    try:
        yield
    finally:
        _substitute.reset(token)


def compute_dtype(config):
    return tf.as_dtype(config.precision)


def check_batch(global_batch_size, num_replicas, accumulation_steps=1):
    """Checks that every replica gets the same number of rows, in every part.

    Raises:
      UserError: if replicas and accumulation do not divide the batch.
    """
    num_parts = num_replicas * accumulation_steps
    if global_batch_size < 1 or global_batch_size % num_parts:
        divisor = f"the {num_replicas} replicas"
        if accumulation_steps > 1:
            divisor += f" x --accumulation_steps={accumulation_steps}"
        smaller = max(1, global_batch_size // num_parts) * num_parts
        raise errors.UserError(
            f"--global_batch_size={global_batch_size} must be a positive "
            f"multiple of {divisor}; {smaller} is one."
        )


def _divide_cpu(num_replicas):
    """One processor as several logical devices, unless it is that already."""
    (device, *_) = tf.config.list_physical_devices("CPU")
    if tf.config.get_logical_device_configuration(device) is None:
        tf.config.set_logical_device_configuration(
            device, [tf.config.LogicalDeviceConfiguration()] * num_replicas
        )


@functools.cache
def _mirrored_strategy(kind, num_replicas):
    """The one strategy of this process over these devices.

    A second one would number its reductions from the start again, where
    TensorFlow remembers the shapes of the first one's: the second run of a
    notebook, of another model, would end with "Shape mismatch in the
    collective instance" (tensorflow/tensorflow#62790).
    """
    return tf.distribute.MirroredStrategy(
        [f"/{kind}:{i}" for i in range(num_replicas)]
    )


def _tpu_strategy(tpu):
    if tpu == "local":
        tpu_diagnosis.try_local_tpu()
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        if tpu != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        topology = tf.tpu.experimental.initialize_tpu_system(resolver)
        # Said explicitly: left to itself, the strategy has picked a wrong
        # assignment on v5p.
        assignment = tf.tpu.experimental.DeviceAssignment.build(
            topology, num_replicas=resolver.get_tpu_system_metadata().num_cores
        )
        return tf.distribute.TPUStrategy(
            resolver, experimental_device_assignment=assignment
        )
    except (tf.errors.OpError, ValueError, RuntimeError, ImportError) as error:
        raise tpu_diagnosis.translate(tpu, str(error)) from error
