"""Parameters: checks of them, and objects that have some.

Every layer may import this module: it needs the standard library only. `name` is the parameter's
full name as users write it, such as ``balancer__alpha``.
"""

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Self


class ParameterError(ValueError, TypeError):
    """A parameter has the wrong type or a wrong value; callers may catch either error."""


def is_number(value: Any) -> bool:
    """Whether a value is a finite real number; True and False are not."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_number(
    name: str,
    value: Any,
    low: float,
    high: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
    task: str | None = None,
    remedy: str = "",
) -> float:
    """Return a finite number between two ends as a float, or raise.

    Parameters
    ----------
    name : str
        Name of the parameter.
    value : object
        What the user passed.
    low, high : float
        The least and the greatest number allowed.
    above, below : bool, default=False
        Whether the number must be above `low`, and whether it must be below `high`.
    task : str, default=None
        The task that the number is for, if the parameter has one number per task.
    remedy : str, default=""
        What else the user may do, for the end of the message.

    Raises
    ------
    ParameterError
        If the value is not such a number.
    """
    inside = is_number(value) and low <= value <= high
    if not inside or (above and value == low) or (below and value == high):
        least = f"above {low:g}" if above else f"of at least {low:g}"
        most = "" if high == math.inf else f" and {'below' if below else 'at most'} {high:g}"
        raise _error(name, f"a finite number {least}{most}", value, remedy, task)
    return float(value)


def check_count(name: str, value: Any, minimum: int = 1, *, remedy: str = "") -> int:
    """Return a whole number of at least `minimum` as an int, or raise."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < minimum:
        raise _error(name, f"a whole number of at least {minimum}", value, remedy)
    return int(value)


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Return one of some strings, or raise."""
    if value not in choices:
        raise _error(name, f"one of {list(choices)}", value)
    return value


def per_task(value: Any, names: Sequence[str], parameter_name: str, default: Any) -> list[Any]:
    """Spread a parameter given as a list or a dict by name over the tasks.

    Raises
    ------
    ParameterError
        If a list has another length than there are tasks, or a dict names no task.
    """
    if isinstance(value, Mapping):
        unknown = [name for name in value if name not in names]
        if unknown:
            raise ParameterError(
                f"`{parameter_name}` names the task {unknown[0]!r}, which y does not have; its "
                f"tasks are {list(names)}."
            )
        return [value.get(name, default) for name in names]
    values = list(value)
    if len(values) != len(names):
        raise ParameterError(
            f"`{parameter_name}` has {len(values)} entries and y has {len(names)} tasks: "
            f"{list(names)}. Pass one per task, or a dict by name."
        )
    return values


def numbers_per_task(
    name: str, value: Any, names: Sequence[str], *, above: bool = False
) -> list[float]:
    """Return one number per task from a number, a list, or a dict by name (1 if not named).

    The numbers are finite and at least 0; with `above` they are above 0.
    """
    if isinstance(value, str) or not isinstance(value, Iterable):
        value = [value] * len(names)
    numbers = per_task(value, names, name, 1.0)
    return [
        check_number(name, number, 0, above=above, task=task)
        for task, number in zip(names, numbers, strict=True)
    ]


def weights_per_task(name: str, value: Any, names: Sequence[str]) -> list[float]:
    """Return one weight per task as `numbers_per_task` does, at least one of them above 0."""
    weights = numbers_per_task(name, value, names)
    if not any(weights):
        raise ParameterError(f"`{name}` are all zero; at least one task must count.")
    return weights


def _error(
    name: str, rule: str, value: Any, remedy: str = "", task: str | None = None
) -> ParameterError:
    """Return the error of a value that breaks a rule."""
    owner = "" if task is None else f" of task {task!r}"
    hint = f"; {remedy}" if remedy else ""
    return ParameterError(f"`{name}`{owner} must be {rule}, got {value!r}{hint}.")


class Options:
    """Base of objects whose constructor stores its options under their names."""

    @classmethod
    def _options(cls) -> dict[str, Any]:
        """Return the constructor's options with their defaults."""
        parameters = inspect.signature(cls).parameters.values()
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        return {p.name: p.default for p in named}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the options.

        Parameters
        ----------
        deep : bool, default=True
            For scikit-learn; options have no parameters of their own.
        """
        return {name: getattr(self, name) for name in self._options()}

    def set_params(self, **params: Any) -> Self:
        """Set options; they count from the next fit.

        Parameters
        ----------
        **params
            Values by name.
        """
        known = self._options()
        for name, value in params.items():
            if name not in known:
                raise ValueError(
                    f"{type(self).__name__} has no option {name!r}; it has {sorted(known)}."
                )
            setattr(self, name, value)
        return self

    def _shown(self) -> list[str]:
        """Return the options that are not the default, as they print."""
        defaults = self._options()
        return [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if repr(value) != repr(defaults[name])
        ]

    def __repr__(self) -> str:
        """Return the class and the options that are not the default."""
        return f"{type(self).__name__}({', '.join(self._shown())})"


def subclasses(base: type[Any]) -> Iterator[type[Any]]:
    """Yield all imported subclasses of a class, the nearest first."""
    waiting = base.__subclasses__()
    for cls in waiting:
        yield cls
        waiting += cls.__subclasses__()
