"""A device's program, executed by XLA on this machine's CPU, once a replica.

The HLO is the TPU's; the compiler behind it is another one. So what it
computes is shown, up to rounding, but nothing of the TPU's speed or memory.
"""

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
        self._program = program
        self._devices = _devices(program.num_replicas)
        self._executable = _compile(program.hlo, self._devices)

    def __call__(self, *args):
        """What `strategy.run` of the function would return.

        Args:
          args: those of the run; the variables are read and updated.
        """
        import jax

        tensors = tf.nest.flatten(args, expand_composites=True)
        parameters = [
            jax.device_put_sharded(
                self._values(parameter, tensors), self._devices
            )
            for parameter in self._program.parameters
        ]
        results = [
            [np.asarray(part) for part in parts]
            for parts in self._executable.execute_sharded(
                parameters
            ).disassemble_into_single_device_arrays()
        ]
        num_outputs = self._program.num_outputs
        after = results[num_outputs:]
        for variable, values in zip(
            self._program.variables, after, strict=False
        ):
            for part, value in zip(variable.values, values, strict=True):
                part.assign(value)
        return self._pack(results[:num_outputs])

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
        if self._program.outputs is None:
            return None
        flat = [tf.constant(value) for values in results for value in values]
        return tf.nest.pack_sequence_as(
            self._program.outputs, flat, expand_composites=True
        )


@functools.cache
def _devices(num_replicas):
    import jax

    # Before jax starts: it must neither look for a TPU nor have one device.
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", max(4, num_replicas))
    jax.config.update("jax_enable_x64", True)
    return jax.devices("cpu")[:num_replicas]


def _compile(hlo, devices):
    from jaxlib import _jax

    return devices[0].client.compile_and_load(
        stablehlo.of_hlo(hlo),
        _jax.DeviceList(tuple(devices)),
        stablehlo.compile_options(devices),
    )
