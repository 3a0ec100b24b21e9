"""The largest batch that fits, by as few compilations as can be."""

from collections.abc import Callable

# After so many the line through them has not led there: the middle is tried.
_NUM_EXTRAPOLATED = 5
_MOST_AT_ONCE = 4  # a batch is at most so many times one that fits


def find_largest(
    measure: Callable[[int], int], first: int, unit: int, available: int
) -> int:
    """The largest number of rows whose memory is available.

    Memory grows about linearly with the rows: two sizes are measured, the
    line through them gives a third, and so on, until one fits and the next
    one does not.

    Args:
      measure: rows to the bytes that they need.
      first: the rows to begin with.
      unit: of which the rows are a multiple.

    Returns:
      0 if not even one unit fits.
    """
    needed = {}
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


def _next(needed, fits, too_many, unit, available):
    if len(needed) == 1:
        guess = 2 * fits if fits else too_many // 2
    elif too_many is not None and len(needed) > _NUM_EXTRAPOLATED:
        guess = (fits + too_many) // 2
    else:
        # The two that are nearest to what is available.
        a, b = sorted(needed, key=lambda n: abs(needed[n] - available))[:2]
        a_row = (needed[b] - needed[a]) / (b - a)
        guess = (
            a + (available - needed[a]) / a_row
            if a_row > 0
            else _MOST_AT_ONCE * fits
        )
    if fits:
        guess = min(guess, _MOST_AT_ONCE * fits)
    guess = int(guess) // unit * unit
    if too_many is not None:
        guess = min(guess, too_many - unit)
    return max(guess, fits + unit)
