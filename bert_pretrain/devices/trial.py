"""Tries a program in another process, because it may abort its process."""

import subprocess
import sys


def run(program: str, limit_seconds: float) -> subprocess.CompletedProcess[str]:
    """Runs a Python program with the environment of this process.

    Raises:
      subprocess.TimeoutExpired: if it does not end within the limit.
    """
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=limit_seconds,
        check=False,
    )
