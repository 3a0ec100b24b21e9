"""Translates the HLO that TensorFlow lowers to what jax's compilers read."""

import re
import typing
from typing import Any

import numpy as np

if typing.TYPE_CHECKING:
    import jax


def of_hlo(hlo: bytes) -> bytes:
    """The StableHLO module of a serialized HloModuleProto, as MLIR text."""
    from jaxlib import _jax, xla_client

    text = _jax.mlir.xla_computation_to_mlir_module(
        xla_client.XlaComputation(hlo)
    )
    # StableHLO has no `copy`. XLA drops a reshape to the same shape early, as
    # it drops the copy. An optimization barrier would stay, and prevent the
    # fusion of the operations before it with those after it.
    return re.sub(
        r"mhlo\.copy (%[\w#]+) : (tensor<[^>]*>)",
        r"stablehlo.reshape \1 : (\2) -> \2",
        text,
    ).encode()


def portable(hlo: bytes) -> bytes:
    """The same module, in a form that other versions of jax can read."""
    from jaxlib import _jax
    from jaxlib.mlir.dialects import stablehlo

    version = stablehlo.get_version_from_compatibility_requirement(  # type: ignore[attr-defined]
        stablehlo.StablehloCompatibilityRequirement.WEEK_12  # type: ignore[attr-defined]
    )
    return _jax.mlir.serialize_portable_artifact(
        _jax.mlir.mhlo_to_stablehlo(of_hlo(hlo)), version
    )


def compile_options(devices: "list[jax.Device]") -> Any:
    """The `CompileOptions` for one replica on each device."""
    from jaxlib import xla_client

    options = xla_client.CompileOptions()
    options.num_replicas, options.num_partitions = len(devices), 1
    options.device_assignment = xla_client.DeviceAssignment.create(
        np.array([[device.id] for device in devices], np.int32)
    )
    return options
