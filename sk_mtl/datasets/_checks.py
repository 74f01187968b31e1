"""Checks of the generators' parameters."""

from __future__ import annotations

import math
from numbers import Integral, Real


def check_count(name: str, value: int, minimum: int) -> None:
    """Raise unless a value is a whole number that is large enough.

    Parameters
    ----------
    name : str
        Parameter name, for the message.
    value : int
        Value to check.
    minimum : int
        Smallest value allowed.

    Raises
    ------
    TypeError
        If `value` is not a whole number.
    ValueError
        If it is too small.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int; got {value!r}.")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}; got {value!r}.")


def check_number(
    name: str,
    value: float,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_ends: bool = False,
) -> None:
    """Raise unless a value is a finite number in an interval.

    Parameters
    ----------
    name : str
        Parameter name, for the message.
    value : float
        Value to check.
    low, high : float, default=-inf, inf
        Ends of the interval.
    open_ends : bool, default=False
        Whether the ends themselves are not allowed.

    Raises
    ------
    TypeError
        If `value` is not a real number.
    ValueError
        If it is not finite or outside the interval.
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number; got {value!r}.")
    inside = low < value < high if open_ends else low <= value <= high
    if not (inside and math.isfinite(value)):
        kind = "strictly between" if open_ends else "between"
        raise ValueError(f"{name} must be finite and {kind} {low} and {high}; got {value!r}.")
