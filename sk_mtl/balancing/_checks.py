"""Checks of balancers' parameters, by the names that users know: ``balancer__<name>``."""

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any


def check_number(
    name: str, value: Any, low: float, high: float = math.inf, *, above: bool = False
) -> float:
    """Return a finite number that is at least `low` (or above it) and below `high`."""
    valid = is_number(value) and (low < value if above else low <= value) and value < high
    if not valid:
        least = f"above {low:g}" if above else f"of at least {low:g}"
        most = "" if high == math.inf else f" and below {high:g}"
        raise ValueError(
            f"`balancer__{name}` must be a finite number {least}{most}, got {value!r}."
        )
    return float(value)


def check_count(name: str, value: Any) -> int:
    """Return a whole number of at least one."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"`balancer__{name}` must be a whole number of at least 1, got {value!r}.")
    return int(value)


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Return one of some strings."""
    if value not in choices:
        raise ValueError(f"`balancer__{name}` must be one of {list(choices)}, got {value!r}.")
    return value


def check_per_task(
    name: str, value: Any, names: Sequence[str], *, above: bool = False
) -> list[float]:
    """Return one number per task from a number, a list, or a dict by task name (1 if not named).

    They are finite and at least 0, with `above` more than 0.
    """
    if isinstance(value, Mapping):
        unknown = [key for key in value if key not in names]
        if unknown:
            raise ValueError(
                f"`balancer__{name}` names the task {unknown[0]!r}, which y does not have; its "
                f"tasks are {list(names)}."
            )
        values = [value.get(key, 1.0) for key in names]
    elif isinstance(value, Iterable) and not isinstance(value, str):
        values = list(value)
    else:
        values = [value] * len(names)
    if len(values) != len(names):
        raise ValueError(
            f"`balancer__{name}` has {len(values)} entries and y has {len(names)} tasks: "
            f"{list(names)}. Pass one per task, or a dict by name."
        )
    for task, number in zip(names, values, strict=True):
        if not is_number(number) or not (number > 0 if above else number >= 0):
            raise ValueError(
                f"`balancer__{name}` of task {task!r} must be a finite number "
                f"{'above' if above else 'of at least'} 0, got {number!r}."
            )
    return [float(number) for number in values]


def is_number(value: Any) -> bool:
    """Return whether a value is a finite real number, True and False excepted."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
