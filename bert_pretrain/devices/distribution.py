"""Chooses the devices that compute, and the precision.

All hardware uses the same code path: a strategy, a global batch that is
divided among its replicas, and a dtype.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator

import tensorflow as tf

from bert_pretrain import errors
from bert_pretrain.devices import (
    distribution_config,
    pod,
    tpu_failures,
    worker_status,
)

_substitute: contextvars.ContextVar[tf.distribute.Strategy | None] = (
    contextvars.ContextVar("substitute", default=None)
)


def build_strategy(
    config: distribution_config.DistributionConfig,
) -> tf.distribute.Strategy:
    """Makes a strategy for the devices that `config` asks for.

    Raises:
      UserError: if the TPU does not start.
      Interrupted: if a worker of a pod does not answer.
    """
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
def substituting(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Makes `build_strategy` return `strategy` within the block."""
    token = _substitute.set(strategy)
    try:
        yield
    finally:
        _substitute.reset(token)


def compute_dtype(config: distribution_config.DistributionConfig) -> tf.DType:
    """The dtype of matrix products and hidden states."""
    return tf.as_dtype(config.precision)


def check_batch(
    global_batch_size: int, num_replicas: int, accumulation_steps: int = 1
) -> None:
    """Checks that all microbatches of all replicas have the same size.

    Raises:
      UserError: if the batch cannot be divided equally.
    """
    num_microbatches = num_replicas * accumulation_steps
    if global_batch_size < 1 or global_batch_size % num_microbatches:
        divisor = f"the {num_replicas} replicas"
        if accumulation_steps > 1:
            divisor += f" x --accumulation_steps={accumulation_steps}"
        rows_each = max(1, global_batch_size // num_microbatches)
        raise errors.UserError(
            f"--global_batch_size={global_batch_size} must be a positive "
            f"multiple of {divisor}; for example "
            f"{rows_each * num_microbatches}."
        )


def _divide_cpu(num_replicas: int) -> None:
    """Divides the CPU into logical devices, if it is not yet divided."""
    (device, *_) = tf.config.list_physical_devices("CPU")
    if tf.config.get_logical_device_configuration(device) is None:
        tf.config.set_logical_device_configuration(
            device, [tf.config.LogicalDeviceConfiguration()] * num_replicas
        )


@functools.cache
def _mirrored_strategy(
    kind: str, num_replicas: int
) -> tf.distribute.MirroredStrategy:
    """Returns the same strategy for the same devices in the whole process.

    Each new strategy numbers its reductions from the start, but TensorFlow
    remembers the shapes of earlier reductions by these numbers. With a second
    strategy, a second run in a notebook with another model would fail with
    "Shape mismatch in the collective instance" (tensorflow/tensorflow#62790).
    """
    return tf.distribute.MirroredStrategy(
        [f"/{kind}:{i}" for i in range(num_replicas)]
    )


def _tpu_strategy(tpu: str) -> tf.distribute.TPUStrategy:
    try:
        resolver = connect(tpu)
        topology = tf.tpu.experimental.initialize_tpu_system(resolver)
        # Without an explicit assignment, the strategy has chosen a wrong one
        # on v5p.
        assignment = tf.tpu.experimental.DeviceAssignment.build(
            topology, num_replicas=resolver.get_tpu_system_metadata().num_cores
        )
        return tf.distribute.TPUStrategy(
            resolver, experimental_device_assignment=assignment
        )
    except errors.UserError:
        raise
    except (tf.errors.OpError, ValueError, RuntimeError, ImportError) as error:
        raise tpu_failures.translate(tpu, str(error)) from error


def connect(tpu: str) -> tf.distribute.cluster_resolver.TPUClusterResolver:
    """Connects this process to the workers of a pod.

    Args:
      tpu: see `DistributionConfig`; with "local" there is nothing to connect.

    Raises:
      UserError: if an address is wrong.
      Interrupted: if a worker does not answer.
    """
    if tpu.startswith("grpc://"):
        worker_status.addresses(tpu)  # Checks them.
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
    if tpu != "local":
        pod.connect(resolver)
    return resolver
