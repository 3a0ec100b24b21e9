"""The memory that this process and its accelerators use."""

import resource
from typing import Any

import psutil
import tensorflow as tf


def add_memory(
    strategy: tf.distribute.Strategy, output: dict[str, Any]
) -> None:
    """Adds the memory of this process and of its fullest accelerator.

    Args:
      strategy: whose accelerators are asked.
      output: gets the entries "host_memory_bytes" and, on accelerators,
        "device_memory_bytes" and "device_peak_memory_bytes".
    """
    output["host_memory_bytes"] = psutil.Process().memory_info().rss
    if counts := device_memory_bytes(strategy):
        (
            output["device_memory_bytes"],
            output["device_peak_memory_bytes"],
        ) = counts


def peak_memory_bytes() -> int:
    """The largest memory of this process so far."""
    # On Linux the unit is 1024 bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def device_memory_bytes(
    strategy: tf.distribute.Strategy,
) -> tuple[int, int] | None:
    """Memory of the fullest accelerator of this host.

    Returns:
      (bytes in use now, the largest number so far); None if no device reports
      its memory, as CPUs do not.
    """
    counts = []
    for device in strategy.extended.worker_devices:
        if "CPU" in device.upper():
            continue
        try:
            count = tf.config.experimental.get_memory_info(device)
        except (ValueError, tf.errors.OpError):
            continue  # The device is on another host, or does not report.
        counts.append((count["current"], count["peak"]))
    if not counts:
        return None
    return max(used for used, _ in counts), max(peak for _, peak in counts)
