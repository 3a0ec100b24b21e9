"""Searches the largest batch that fits, with few compilations."""

from collections.abc import Callable, Mapping

# After this many measurements, the search bisects instead of extrapolating.
_NUM_EXTRAPOLATED = 5
_MAX_GROWTH = 4  # the next batch is at most this many times one that fits


def find_largest(
    measure: Callable[[int], int], first: int, unit: int, available: int
) -> int:
    """The largest number of rows that fit into the available memory.

    Memory grows about linearly with the rows. The search measures two sizes,
    takes the third from the line through them, and so on, until one size fits
    and the next one does not.

    Args:
      measure: gives the bytes that a number of rows needs.
      first: number of rows to begin with.
      unit: the number of rows is a multiple of it.
      available: bytes.

    Returns:
      0 if not even one unit fits.
    """
    needed: dict[int, int] = {}
    fits, too_many = 0, None
    rows = max(1, first // unit) * unit
    while too_many is None or too_many - fits > unit:
        needed[rows] = measure(rows)
        if needed[rows] <= available:
            fits = max(fits, rows)
        else:
            too_many = rows if too_many is None else min(too_many, rows)
        rows = _next(needed, fits, too_many, unit, available)
    return fits


def _next(
    needed: Mapping[int, int],
    fits: int,
    too_many: int | None,
    unit: int,
    available: int,
) -> int:
    """The next number of rows to measure.

    Args:
      needed: bytes by the number of rows, for those measured.
      fits: the largest number of rows that fits so far; 0 for none.
      too_many: the smallest number that does not fit; None for none.
    """
    guess: float
    if len(needed) == 1:
        (rows,) = needed
        guess = 2 * rows if fits else rows // 2
    elif too_many is not None and len(needed) > _NUM_EXTRAPOLATED:
        guess = (fits + too_many) // 2
    else:
        # The line through the two sizes nearest to the available memory.
        a, b = sorted(needed, key=lambda n: abs(needed[n] - available))[:2]
        bytes_per_row = (needed[b] - needed[a]) / (b - a)
        guess = (
            a + (available - needed[a]) / bytes_per_row
            if bytes_per_row > 0
            else _MAX_GROWTH * fits
        )
    if fits:
        guess = min(guess, _MAX_GROWTH * fits)
    rows = int(guess) // unit * unit
    if too_many is not None:
        rows = min(rows, too_many - unit)
    return max(rows, fits + unit)
