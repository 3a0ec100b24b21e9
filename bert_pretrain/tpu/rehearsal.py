"""A run whose every device program is a TPU's, executed by XLA on CPUs.

    with rehearsal.on_absent_tpus(num_replicas=4, num_hosts=2):
        train.train(config)

What the hosts do is done as ever: input, checkpoints, going back, telemetry.
Where `strategy.run` would send a program to the TPUs, that very program is
executed here (execution.py). So that it can be, each step by itself, the loops
around it are run as Python, not as a function of TensorFlow's.
"""

import contextlib
import warnings
from collections.abc import Iterator

import tensorflow as tf

from bert_pretrain import distribution
from bert_pretrain.model import attention_kernel
from bert_pretrain.tpu import absent_tpu, device_program, execution


class RehearsedTPUStrategy(absent_tpu.AbsentTPUStrategy):
    """Computes what the TPUs that are not there would have computed."""

    def __init__(self, num_replicas: int, num_hosts: int = 1):
        super().__init__(num_replicas, num_hosts)
        # Before what is traced starts jax, with one device.
        execution.devices(num_replicas)
        self._executions = {}

    @property
    def programs(self) -> list[tuple[str, device_program.DeviceProgram]]:
        """What has been executed, with the names of the functions."""
        return [
            (function.__qualname__, execution.program)
            for (function, _), execution in self._executions.items()
        ]

    def run(self, fn, args=(), kwargs=None, options=None):
        if tf.inside_function():
            return super().run(fn, args, kwargs, options)
        specs = tf.nest.map_structure(tf.type_spec_from_value, args)
        # A function that is another object at each call is lowered each time.
        key = fn, tuple(tf.nest.flatten(specs))
        if key not in self._executions:
            self._executions[key] = execution.Execution(
                device_program.of_run(self, fn, args, with_values=True)
            )
        return self._executions[key](*args)


@contextlib.contextmanager
def on_absent_tpus(
    num_replicas: int, num_hosts: int = 1
) -> Iterator[RehearsedTPUStrategy]:
    """Rehearses the runs that begin inside, whatever devices they ask for."""
    strategy = RehearsedTPUStrategy(num_replicas, num_hosts)
    were_eager = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        with (
            distribution.substituting(strategy),
            # A TPU's kernel is machine code; its plain operations compute
            # the same.
            attention_kernel.form("interpreted"),
            warnings.catch_warnings(),
        ):
            # Functions of tf.data stay what they are, as they should.
            warnings.filterwarnings("ignore", ".*run_functions_eagerly")
            yield strategy
    finally:
        tf.config.run_functions_eagerly(were_eager)
