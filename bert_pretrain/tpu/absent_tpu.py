"""A real `TPUStrategy` over TPUs that are not there.

Its variables and input pipelines lie on logical CPUs, so all that a host does
works; what is for the TPUs can be traced, but runs nowhere (rehearsal.py says
how it is executed all the same).
"""

import collections

import numpy as np
import tensorflow as tf
from tensorflow.python.tpu import tpu_system_metadata

_HOST = "/job:localhost/replica:0/task:0/device"

_Device = collections.namedtuple("_Device", ["name", "device_type"])


class AbsentTPUStrategy(tf.distribute.TPUStrategy):
    """Replicas on hosts, all of which are logical CPUs of this process."""

    def __init__(
        self, num_replicas: int, num_hosts: int = 1, only_first: bool = False
    ):
        """Makes the strategy.

        Args:
          num_replicas: a multiple of the hosts.
          num_hosts: each of which has an input pipeline of its own.
          only_first: whether variables are made for the first replica only:
            enough for its program, in which it is one of all, and little
            memory however large the slice is.

        Raises:
          ValueError: if the hosts do not divide the replicas, or TensorFlow
            has begun with fewer logical CPUs than replicas.
        """
        if num_replicas % num_hosts:
            raise ValueError(
                f"{num_replicas} replicas cannot be divided among "
                f"{num_hosts} hosts."
            )
        num_devices = 1 if only_first else num_replicas
        _divide_cpu(num_devices)
        super().__init__(_Resolver(num_replicas, num_hosts))
        names = [f"{_HOST}:CPU:{i % num_devices}" for i in range(num_replicas)]
        per_host = num_replicas // num_hosts
        hosts = collections.OrderedDict(
            (names[i], names[i : i + per_host])
            for i in range(0, num_replicas, per_host)
        )
        # What TPUExtended takes from the names of TPUs.
        extended = self.extended
        extended._tpu_devices = np.array(
            [[name] for name in names[:num_devices]], dtype=object
        )
        extended._host_device = names[0]
        extended._device_input_worker_devices = hosts
        extended._host_input_worker_devices = collections.OrderedDict(
            (host, [host] * per_host) for host in hosts
        )


class _Resolver:
    """Answers what `TPUStrategy` asks of a cluster's resolver."""

    def __init__(self, num_replicas, num_hosts):
        self._metadata = tpu_system_metadata.TPUSystemMetadata(
            num_cores=num_replicas,
            num_hosts=num_hosts,
            num_of_cores_per_host=num_replicas // num_hosts,
            topology=None,
            devices=[
                _Device(f"{_HOST}:TPU:{i}", "TPU") for i in range(num_replicas)
            ],
        )

    def get_tpu_system_metadata(self):
        return self._metadata

    def cluster_spec(self):
        return tf.train.ClusterSpec({})

    def master(self):
        return ""


def _divide_cpu(num_replicas):
    (cpu,) = tf.config.list_physical_devices("CPU")
    devices = tf.config.get_logical_device_configuration(cpu)
    if devices is None:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * num_replicas
        )
    elif len(devices) < num_replicas:
        raise ValueError(
            f"TensorFlow has begun with {len(devices)} logical CPUs; "
            f"{num_replicas} replicas need as many."
        )
