"""HLO as TensorFlow lowers it, in the words that jax's compilers take."""

import re
from typing import Any

import numpy as np


def of_hlo(hlo: bytes) -> bytes:
    """The StableHLO module of a serialized HloModuleProto, as MLIR's text."""
    from jaxlib import _jax, xla_client

    text = _jax.mlir.xla_computation_to_mlir_module(
        xla_client.XlaComputation(hlo)
    )
    # XLA's copy has no word in StableHLO. A reshape to the same shape is
    # dropped early, as XLA drops the copy; a barrier would stay, and keep
    # what is on its two sides from being fused.
    return re.sub(
        r"mhlo\.copy (%[\w#]+) : (tensor<[^>]*>)",
        r"stablehlo.reshape \1 : (\2) -> \2",
        text,
    ).encode()


def portable(hlo: bytes) -> bytes:
    """That module as other versions of jax, too, will read it."""
    from jaxlib import _jax
    from jaxlib.mlir.dialects import stablehlo

    version = stablehlo.get_version_from_compatibility_requirement(
        stablehlo.StablehloCompatibilityRequirement.WEEK_12
    )
    return _jax.mlir.serialize_portable_artifact(
        _jax.mlir.mhlo_to_stablehlo(of_hlo(hlo)), version
    )


def compile_options(devices: list) -> Any:
    """The `CompileOptions` of one replica on each of the devices."""
    from jaxlib import xla_client

    options = xla_client.CompileOptions()
    options.num_replicas, options.num_partitions = len(devices), 1
    options.device_assignment = xla_client.DeviceAssignment.create(
        np.array([[device.id] for device in devices], np.int32)
    )
    return options
