"""A device's program, executed by XLA on this machine's CPU, once a replica.

The HLO is the TPU's; the compiler behind it is another one. So what it
computes is shown, up to rounding, but nothing of the TPU's speed or memory.
"""

import contextlib
import functools

import numpy as np
import tensorflow as tf

from bert_pretrain.tpu import device_program, stablehlo


class Execution:
    """Executes one program again and again, on the strategy's variables."""

    def __init__(self, program: device_program.DeviceProgram):
        """Compiles it.

        Args:
          program: lowered with the values of its variables.
        """
        self.program = program
        self._devices = devices(program.num_replicas)
        self._executable = _compile(program.hlo, self._devices)

    def __call__(self, *args):
        """What `strategy.run` of the function would return.

        Args:
          args: those of the run; the variables are read and updated.
        """
        results = self._execute(tf.nest.flatten(args, expand_composites=True))
        num_outputs = self.program.num_outputs
        after = results[num_outputs:]
        for variable, values in zip(
            self.program.variables, after, strict=False
        ):
            for part, value in zip(variable.values, values, strict=True):
                part.assign(value)
        return self._pack(results[:num_outputs])

    def _execute(self, tensors):
        """The results, of each the values by replica."""
        import jax

        # Else jax makes 32 bits of 64.
        with jax.experimental.enable_x64():
            parameters = [
                jax.device_put_sharded(
                    self._values(parameter, tensors), self._devices
                )
                for parameter in self.program.parameters
            ]
            results = self._executable.execute_sharded(parameters)
            return [
                [np.asarray(part) for part in parts]
                for parts in results.disassemble_into_single_device_arrays()
            ]

    def _values(self, parameter, tensors):
        match parameter:
            case device_program.Variable(variable):
                return [value.numpy() for value in variable.values]
            case device_program.Argument(indexes):
                return [tensors[i].numpy() for i in indexes]
            case device_program.Constant(values):
                return list(values)

    def _pack(self, results):
        """Outputs as the run has them: by name, then by replica."""
        if self.program.outputs is None:
            return None
        flat = [tf.constant(value) for values in results for value in values]
        return tf.nest.pack_sequence_as(
            self.program.outputs, flat, expand_composites=True
        )


def devices(num_replicas: int) -> list:
    """jax's CPU devices, of which it makes as many as TensorFlow has.

    Raises:
      ValueError: if somebody else has started it with fewer.
    """
    found = _all_devices()
    if len(found) < num_replicas:
        raise ValueError(
            f"jax has begun with {len(found)} CPUs; {num_replicas} replicas "
            "need as many: set JAX_NUM_CPU_DEVICES."
        )
    return found[:num_replicas]


@functools.cache
def _all_devices():
    import jax

    # It must not look for a TPU.
    jax.config.update("jax_platforms", "cpu")
    with contextlib.suppress(RuntimeError):  # It has begun already.
        jax.config.update(
            "jax_num_cpu_devices", len(tf.config.list_logical_devices("CPU"))
        )
    return jax.devices("cpu")


def _compile(hlo, devices):
    from jaxlib import _jax

    options = stablehlo.compile_options(devices)
    # Of small programs, run a few times each; it compiles twice as fast.
    build = options.executable_build_options
    build.debug_options.xla_backend_optimization_level = 0
    return devices[0].client.compile_and_load(
        stablehlo.of_hlo(hlo), _jax.DeviceList(tuple(devices)), options
    )
