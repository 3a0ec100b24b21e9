"""A real `TPUStrategy` for TPUs that are not there.

Its variables and input pipelines are on logical CPUs, so everything that a
host does works. Programs for the TPUs can be traced, but not run (rehearsal.py
explains how they are executed on CPUs instead).
"""

import collections
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.tpu import tpu_system_metadata

_HERE = "/job:localhost/replica:0/task:0/device"
_WORKER = "/job:worker/replica:0/task:{}/device"

_Device = collections.namedtuple("_Device", ["name", "device_type"])


class AbsentTPUStrategy(tf.distribute.TPUStrategy):
    """Replicas on hosts that have no TPUs.

    The hosts are logical CPUs of this process, or the workers of a cluster.
    """

    def __init__(
        self,
        num_replicas: int,
        num_hosts: int = 1,
        only_first: bool = False,
        on_workers: bool = False,
    ) -> None:
        """Makes the strategy.

        Args:
          num_replicas: a multiple of `num_hosts`.
          num_hosts: each host has its own input pipeline.
          only_first: creates variables for the first replica only. This is
            enough to lower its program, which still sums over all replicas,
            and it takes little memory for a slice of any size.
          on_workers: host i is the worker i of the cluster that this process
            is connected to. It needs a logical CPU for each of its replicas.

        Raises:
          ValueError: if the hosts do not divide the replicas, or TensorFlow
            has already started with fewer logical CPUs than replicas.
        """
        if num_replicas % num_hosts:
            raise ValueError(
                f"{num_replicas} replicas cannot be divided among "
                f"{num_hosts} hosts."
            )
        num_devices = 1 if only_first else num_replicas
        per_host = num_replicas // num_hosts
        if on_workers:
            names = [
                f"{_WORKER.format(i // per_host)}:CPU:{i % per_host}"
                for i in range(num_replicas)
            ]
        else:
            _divide_cpu(num_devices)
            names = [
                f"{_HERE}:CPU:{i % num_devices}" for i in range(num_replicas)
            ]
        super().__init__(_Resolver(names, num_hosts))
        hosts = collections.OrderedDict(
            (names[i], names[i : i + per_host])
            for i in range(0, num_replicas, per_host)
        )
        # TPUExtended derived these fields from the names of the TPUs.
        extended = self.extended
        extended._tpu_devices = np.array(
            [[name] for name in names[:num_devices]], dtype=object
        )
        extended._host_device = names[0]
        extended._device_input_worker_devices = hosts
        extended._host_input_worker_devices = collections.OrderedDict(
            (host, [host] * per_host) for host in hosts
        )
        self._created = _keep_created(extended)

    @property
    def variables(self) -> list[tf.Variable]:
        """The variables that were created in the strategy and still exist."""
        return list(self._created.values())


def _keep_created(
    extended: tf.distribute.StrategyExtended,
) -> Mapping[int, tf.Variable]:
    """The variables that a strategy will create, while they exist.

    Variables cannot be hashed, so they are kept by their ids.
    """
    created = weakref.WeakValueDictionary[int, tf.Variable]()
    create = extended._create_variable

    def create_and_keep(*args: Any, **kwargs: Any) -> tf.Variable:
        variable = create(*args, **kwargs)
        created[id(variable)] = variable
        return variable

    extended._create_variable = create_and_keep
    return created


class _Resolver:
    """The methods of a cluster resolver that `TPUStrategy` calls."""

    def __init__(self, cpus: list[str], num_hosts: int) -> None:
        """Takes the CPU that each replica is on."""
        tpus = [cpu.replace("CPU", "TPU") for cpu in cpus]
        self._metadata = tpu_system_metadata.TPUSystemMetadata(
            num_cores=len(cpus),
            num_hosts=num_hosts,
            num_of_cores_per_host=len(cpus) // num_hosts,
            topology=None,
            devices=[_Device(tpu, "TPU") for tpu in tpus],
        )

    def get_tpu_system_metadata(self) -> tpu_system_metadata.TPUSystemMetadata:
        return self._metadata

    def cluster_spec(self) -> tf.train.ClusterSpec:
        return tf.train.ClusterSpec({})

    def master(self) -> str:
        return ""


def _divide_cpu(num_devices: int) -> None:
    """Divides the CPU into logical CPUs."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    devices = tf.config.get_logical_device_configuration(cpu)
    if devices is None:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * num_devices
        )
    elif len(devices) < num_devices:
        raise ValueError(
            f"TensorFlow has already started with {len(devices)} logical "
            f"CPUs, but {num_devices} replicas need one each."
        )
