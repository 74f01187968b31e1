"""The contract of a kind of task."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sk_mtl._checks import Options


class Column(NamedTuple):
    """One target column: its name, its observed labels, and where they stand.

    ``values`` holds the observed labels only, ``observed`` is a mask over all rows. ``order`` are
    the labels from the lowest to the highest where the column itself knows that, else None.
    """

    name: str
    values: NDArray
    observed: NDArray
    order: list[Any] | None = None


class Task(Options, ABC):
    """One target: how its labels are encoded, trained on and decoded.

    A new kind of task is one subclass. Its constructor stores its options under their names, each
    with a default; `fit` checks them. An estimator takes the class or an instance in `task_types`,
    copies it at every fit and gives the copy its name; what a user passed never changes. What
    `fit` learns are numbers, strings, lists, dicts or arrays, so that `save` can write them.

    Parameters
    ----------
    name : str, default=""
        Name of the task, for messages and columns.

    Attributes
    ----------
    kind : str
        Name of the kind, a class attribute.
    has_classes : bool
        Whether tasks of this kind have classes and probabilities, a class attribute. Estimators
        follow it in their type before `fit`.
    loss_options : tuple of str
        Names of the options that `loss` reads, a class attribute beside it; for a loss that
        depends on them and `n_logits` only. Tasks that are equal in all these compute their
        losses in one call; without it every task makes a call of its own.
    n_logits : int
        Number of the network's outputs that belong to the task.
    classes_ : ndarray or None
        Sorted labels of a task with classes, else None.
    """

    kind: ClassVar[str]
    has_classes: ClassVar[bool] = False
    loss_options: ClassVar[tuple[str, ...]]
    name: str = ""
    n_logits: int = 1
    classes_: NDArray | None = None

    def __init__(self, name: str = "") -> None:
        self.name = name

    @abstractmethod
    def fit(self, values: NDArray, weights: NDArray | None, classes: NDArray | None) -> "Task":
        """Learn what encoding needs from the observed labels; raise if they do not suit."""

    def update(self, values: NDArray, weights: NDArray | None) -> "Task":
        """Return the task after further labels of a stream, by default itself.

        What a network was trained for must stay: classes, and the scale of values that differed.
        """
        return self

    @abstractmethod
    def encode(self, values: NDArray) -> NDArray:
        """Return labels as floats: (n,) -> (n,) float64."""

    @abstractmethod
    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each row, at least 0: (..., n_logits), (...) -> (...), unreduced."""

    @abstractmethod
    def link(self, logits: Tensor) -> Tensor:
        """Return probabilities (B, n_classes), or values (B, 1): the inverse link."""

    @abstractmethod
    def decode(self, block: NDArray) -> NDArray:
        """Return what `predict` gives for a block of `link`: (n, columns) -> (n,)."""

    def decision(self, logits: NDArray) -> NDArray:
        """Return decision values as scikit-learn shapes them: (n, 1) or (n, n_classes)."""
        return logits

    @abstractmethod
    def score(self, labels: NDArray, predicted: NDArray, weights: NDArray | None) -> float:
        """Return the default score of predictions, the greater the better."""

    def check_scored(self, labels: NDArray) -> None:
        """Refuse labels that predictions cannot be compared with; warn of strange ones."""

    def restore(self, target: Tensor) -> Tensor:
        """Return encoded labels on their own scale; codes of classes stay codes."""
        return target

    def label_weight(self, target: NDArray) -> NDArray | None:
        """Return a factor of each encoded label's weight, (n,) -> (n,), or None for all one."""
        return None

    def keep_rate(self, target: NDArray) -> NDArray | None:
        """Return the probability that a fit keeps each encoded label, or None to keep all.

        A label that is not kept counts as not observed in that fit.
        """
        return None

    def loss_key(self) -> tuple:
        """Tasks with equal keys compute their losses in one call of the first one's `loss`."""
        owner = next(cls for cls in type(self).__mro__ if "loss" in vars(cls))
        if "loss_options" not in vars(owner):  # it may depend on what was learned from the labels
            return type(self), id(self)
        options = tuple(getattr(self, name) for name in vars(owner)["loss_options"])
        return owner, self.n_logits, _hashable(options)

    @classmethod
    def _options(cls) -> dict[str, Any]:
        return {option: value for option, value in super()._options().items() if option != "name"}

    def _shown(self) -> list[str]:
        return [repr(self.name), *super()._shown()] if self.name else super()._shown()

    def _check_option(self, option: str, valid: Callable[[Any], bool], remedy: str) -> None:
        """Check a number among the options: never a bool."""
        value = getattr(self, option)
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not is_number or not valid(value):
            raise ValueError(f"`{option}` of task {self.name!r} is {value!r}; pass {remedy}.")


def _hashable(value: Any) -> Any:
    """Return a value that can be compared in a dictionary: lists and arrays as tuples."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return tuple((key, _hashable(entry)) for key, entry in value.items())
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


def are_numbers(values: NDArray) -> bool:
    """Whether labels are numbers or booleans, rather than strings."""
    return values.dtype.kind in "fiub"


def shorten(values: NDArray, most: int = 6) -> str:
    """Show an array's first values."""
    shown = ", ".join(repr(v) for v in values[:most].tolist())
    return f"[{shown}{', ...' if len(values) > most else ''}]"


def check_finite(task: Task, values: NDArray) -> NDArray:
    """Return labels as float64, or raise if they are no finite numbers."""
    if not are_numbers(values):
        raise ValueError(
            f"Task {task.name!r} is declared {task.kind!r} and has labels that are no numbers, "
            f"such as {values.tolist()[0]!r}. Pass 'classification' for it, or numbers."
        )
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(
            f"Input y contains infinity or a value too large for dtype('float64') in task "
            f"{task.name!r}; use NaN for a label that was not observed."
        )
    return numbers


def check_kinds(
    owner: str,
    tasks: Sequence[Task],
    takes: tuple[type[Task], ...],
    n_tasks: tuple[int, int | None] = (1, None),
    what: str = "",
) -> None:
    """Check the kinds of tasks, and their number.

    Parameters
    ----------
    owner : str
        Who takes the tasks, for the message.
    tasks : sequence of Task
        The tasks.
    takes : tuple of Task classes
        The kinds that it takes.
    n_tasks : (int, int or None), default=(1, None)
        The least and the greatest number of tasks.
    what : str, default=""
        What the tasks are, for the message: follows upon "needs at least two tasks".

    Raises
    ------
    ValueError
        If a task is of another kind, named, or there are too few or too many.
    """
    kinds = " and ".join(getattr(kind, "kind", "") for kind in takes)
    for task in tasks:
        if not isinstance(task, takes):
            raise ValueError(
                f"{owner} takes {kinds} tasks only, and task {task.name!r} is of kind "
                f"{task.kind!r}. Leave it out, or use MMoE or PLE."
            )
    least, most = n_tasks
    if least <= len(tasks) and (most is None or len(tasks) <= most):
        return
    words = ("no", "one", "two", "three")
    wanted = f"{'exactly' if least == most else 'at least'} {words[least]}"
    if len(tasks) == 1:
        found = f"y has one column, {tasks[0].name!r}. For one task use SharedBottom."
    else:
        found = (
            f"y has {len(tasks)} columns, {[task.name for task in tasks]}. Pass {words[least]} of "
            "them, or use ESMM, which takes longer chains."
        )
    raise ValueError(f"{owner} needs {wanted} tasks{what}; {found}")
