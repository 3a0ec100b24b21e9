"""How much memory this process and its accelerators hold."""

import resource

import psutil
import tensorflow as tf


def add_memory(strategy, output):
    """Adds what this host and its fullest accelerator hold, in bytes."""
    output["host_memory_bytes"] = psutil.Process().memory_info().rss
    if counts := device_memory_bytes(strategy):
        (
            output["device_memory_bytes"],
            output["device_peak_memory_bytes"],
        ) = counts


def peak_memory_bytes():
    """The most memory that this process has held at once."""
    # Linux counts in units of 1024 bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def device_memory_bytes(strategy):
    """(In use now, at the most) on the fullest of this host's accelerators.

    Returns:
      None where nobody counts, as on CPUs.
    """
    counts = []
    for device in strategy.extended.worker_devices:
        if "CPU" in device.upper():
            continue
        try:
            count = tf.config.experimental.get_memory_info(device)
        except (ValueError, tf.errors.OpError):
            continue  # Another host's, or one that does not tell.
        counts.append((count["current"], count["peak"]))
    return tuple(map(max, zip(*counts, strict=True))) if counts else None
