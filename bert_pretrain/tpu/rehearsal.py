"""A whole run in which XLA executes every TPU program on CPUs.

    with rehearsal.on_absent_tpus(num_replicas=4, num_hosts=2):
        train.train(config)

The hosts work as in any run: input, checkpoints, rollbacks, telemetry. Where
`strategy.run` would send a program to the TPUs, this very program is executed
here (execution.py). For this, each step must be a call of its own, so loops
around the steps run as Python and not as TensorFlow functions.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from bert_pretrain.devices import distribution
from bert_pretrain.kernels import attention_kernel
from bert_pretrain.tpu import absent_tpu, device_program, execution


class RehearsedTPUStrategy(absent_tpu.AbsentTPUStrategy):
    """Computes on CPUs the results that the absent TPUs would compute."""

    def __init__(
        self, num_replicas: int, num_hosts: int = 1, on_workers: bool = False
    ) -> None:
        """See `AbsentTPUStrategy`."""
        super().__init__(num_replicas, num_hosts, on_workers=on_workers)
        # Tracing the attention kernel starts jax, with one device unless more
        # have been requested before.
        execution.devices(num_replicas)
        self._executions: dict[tuple[Any, ...], execution.Execution] = {}

    @property
    def programs(self) -> list[tuple[str, device_program.DeviceProgram]]:
        """The executed programs, each after the name of its function."""
        return [
            (function.__qualname__, execution.program)
            for (function, _), execution in self._executions.items()
        ]

    def run(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: tf.distribute.RunOptions | None = None,
    ) -> Any:
        """Executes a function on all replicas; see `tf.distribute`."""
        if tf.inside_function():
            return super().run(fn, args, kwargs, options)
        specs = tf.nest.map_structure(tf.type_spec_from_value, args)
        # A function that is a new object at each call is lowered each time.
        key = fn, tuple(tf.nest.flatten(specs))
        if key not in self._executions:
            self._executions[key] = execution.Execution(
                device_program.of_run(self, fn, args, with_values=True)
            )
        return self._executions[key](*args)


@contextlib.contextmanager
def on_absent_tpus(
    num_replicas: int, num_hosts: int = 1, workers: str = ""
) -> Iterator[RehearsedTPUStrategy]:
    """Rehearses all runs that start inside, whatever devices they request.

    Args:
      workers: the addresses of the hosts' workers, grpc://host0:8470,…; if not
        given, the hosts are in this process.
    """
    if workers:
        distribution.connect(workers)
    strategy = RehearsedTPUStrategy(num_replicas, num_hosts, bool(workers))
    were_eager = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        with (
            distribution.substituting(strategy),
            # A CPU cannot run the kernel's machine code. Its interpreted form
            # consists of plain operations and computes the same.
            attention_kernel.form("interpreted"),
            warnings.catch_warnings(),
        ):
            # TensorFlow warns that functions of tf.data stay graphs. This is
            # intended.
            warnings.filterwarnings("ignore", ".*run_functions_eagerly")
            yield strategy
    finally:
        tf.config.run_functions_eagerly(were_eager)
