"""Executes a TPU's program with XLA on this machine's CPU, once per replica.

The HLO is the TPU's, but the compiler is the CPU's. So the execution shows the
results of the program, up to rounding, and nothing about the TPU's speed or
memory.
"""

import contextlib
import functools
import os
import typing
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from bert_pretrain.tpu import device_program, stablehlo

if typing.TYPE_CHECKING:
    import jax


class Execution:
    """Executes one program repeatedly, on the strategy's variables."""

    def __init__(self, program: device_program.DeviceProgram) -> None:
        """Compiles the program.

        Args:
          program: lowered with the values of its variables.
        """
        self.program = program
        self._devices = devices(program.num_replicas)
        self._executable = _compile(program.hlo, self._devices)

    def __call__(self, *args: Any) -> Any:
        """Executes the program, and updates the variables.

        Args:
          *args: the arguments of `strategy.run`.

        Returns:
          The same structure as `strategy.run` returns.
        """
        results = self._execute(tf.nest.flatten(args, expand_composites=True))
        num_outputs = self.program.num_outputs
        after = results[num_outputs:]
        for variable, values in zip(
            self.program.variables, after, strict=False
        ):
            for replica, value in zip(variable.values, values, strict=True):
                replica.assign(value)
        return self._pack(results[:num_outputs])

    def _execute(self, tensors: list[tf.Tensor]) -> list[list[np.ndarray]]:
        """The value of each result on each replica."""
        import jax

        # Without this, jax reduces 64 bits to 32.
        with jax.experimental.enable_x64():
            parameters = [
                jax.device_put_sharded(
                    _values(parameter, tensors), self._devices
                )
                for parameter in self.program.parameters
            ]
            results = self._executable.execute_sharded(parameters)
            return [
                [np.asarray(array) for array in arrays]
                for arrays in results.disassemble_into_single_device_arrays()
            ]

    def _pack(self, results: list[list[np.ndarray]]) -> Any:
        """The outputs in the structure that `strategy.run` gives them."""
        if self.program.outputs is None:
            return None
        flat = [tf.constant(value) for values in results for value in values]
        return tf.nest.pack_sequence_as(
            self.program.outputs, flat, expand_composites=True
        )


def _values(
    parameter: device_program.Parameter, tensors: Sequence[tf.Tensor]
) -> list[np.ndarray]:
    """The value of a parameter on each replica."""
    match parameter:
        case device_program.Variable(variable):
            return [value.numpy() for value in variable.values]
        case device_program.Argument(indexes):
            return [tensors[i].numpy() for i in indexes]
        case device_program.Constant(values):
            return list(values)


def devices(num_replicas: int) -> "list[jax.Device]":
    """CPU devices of jax, which starts with as many as TensorFlow has.

    Raises:
      ValueError: if jax has already started with fewer devices.
    """
    found = _all_devices()
    if len(found) < num_replicas:
        raise ValueError(
            f"jax has already started with {len(found)} CPU devices, but "
            f"{num_replicas} replicas need one each; set JAX_NUM_CPU_DEVICES="
            f"{num_replicas}."
        )
    return found[:num_replicas]


@functools.cache
def _all_devices() -> "list[jax.Device]":
    import jax

    request_devices(len(tf.config.list_logical_devices("CPU")))
    return jax.devices("cpu")


def request_devices(number: int) -> None:
    """Lets jax start with so many CPU devices, unless it has started."""
    import jax

    # jax must not look for a TPU.
    jax.config.update("jax_platforms", "cpu")
    if jax.__version_info__ < (0, 5):
        flag = f"--xla_force_host_platform_device_count={number}"
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} {flag}".strip()
        return
    # jax raises RuntimeError if it has already started.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", number)


def _compile(hlo: bytes, devices: "list[jax.Device]") -> Any:
    options = stablehlo.compile_options(devices)
    # Level 0 compiles twice as fast; these programs are small and run only a
    # few times.
    build = options.executable_build_options
    build.debug_options.xla_backend_optimization_level = 0
    return stablehlo.compile_for(devices, hlo, options, are_present=True)
