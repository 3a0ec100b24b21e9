"""Gives the HLO that TensorFlow lowers to jax's compilers.

What this file uses of jaxlib has other names in the jax of TensorFlow 2.18
(0.4.35) and in that of 2.20 (0.7.1). Only this file knows both.
"""

import re
import typing
from typing import Any

import numpy as np

if typing.TYPE_CHECKING:
    import jax


def bindings() -> Any:
    """jaxlib's bindings of XLA."""
    from jaxlib import xla_client

    return xla_client._xla


def compile_for(
    devices: "list[jax.Device]",
    hlo: bytes,
    options: Any,
    are_present: bool,
) -> Any:
    """Compiles a serialized HloModuleProto for devices.

    Args:
      are_present: whether the devices can execute it. If so, the executable is
        also loaded.
    """
    import jax

    client: Any = devices[0].client
    if jax.__version_info__ < (0, 5):
        return client.compile(of_hlo(hlo), options)
    make = client.compile_and_load if are_present else client.compile
    return make(of_hlo(hlo), bindings().DeviceList(tuple(devices)), options)


def of_hlo(hlo: bytes) -> bytes:
    """The StableHLO module of a serialized HloModuleProto, as MLIR text."""
    from jaxlib import xla_client

    text = bindings().mlir.xla_computation_to_mlir_module(
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
    from jaxlib.mlir.dialects import stablehlo

    version = stablehlo.get_version_from_compatibility_requirement(  # type: ignore[attr-defined]
        stablehlo.StablehloCompatibilityRequirement.WEEK_12  # type: ignore[attr-defined]
    )
    mlir = bindings().mlir
    return mlir.serialize_portable_artifact(
        mlir.mhlo_to_stablehlo(of_hlo(hlo)), version
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
