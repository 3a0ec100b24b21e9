"""Loops over single values, which NumPy has no words for, in machine code."""

import numba


def compiled(function):
    """Compiles `function` when it is first called; kept for later processes.

    They are kept beside the source, or else in the user's cache. Where neither
    can be written, as in many containers, each process compiles for itself.
    """
    try:
        return numba.njit(cache=True)(function)
    except RuntimeError:  # "no locator available"
        return numba.njit(function)
