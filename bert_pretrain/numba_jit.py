"""Compiles loops over single values that NumPy cannot express."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles `function` at its first call and caches the machine code.

    The cache is next to the source file, or else in the user's cache folder.
    In many containers neither is writable; then each process compiles again.
    """
    try:
        return numba.njit(cache=True)(function)
    except RuntimeError:  # "no locator available"
        return numba.njit(function)
