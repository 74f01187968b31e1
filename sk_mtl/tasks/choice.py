"""Which kind of task each column of y is."""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_mtl._checks import subclasses
from sk_mtl.tasks.base import Column, Task
from sk_mtl.tasks.binary import BinaryTask
from sk_mtl.tasks.count import CountTask
from sk_mtl.tasks.multiclass import MulticlassTask
from sk_mtl.tasks.ordinal import OrdinalTask
from sk_mtl.tasks.quantile import QuantileTask
from sk_mtl.tasks.regression import RegressionTask

MANY_CLASSES = 20
"""With more distinct whole numbers than this, "auto" says that it takes them for classes."""

MAX_AUTO_CLASSES = 100
"""With more distinct whole numbers than this, ``task_types="auto"`` refuses to guess."""

KINDS: dict[str, type[Task]] = {
    cls.kind: cls
    for cls in (BinaryTask, MulticlassTask, OrdinalTask, RegressionTask, QuantileTask, CountTask)
}
"""The kinds of task by name. ``"classification"`` and ``"auto"`` choose among the first two and
the regression."""

Kind = str | Task | type[Task]


def _is_kind(value: Any) -> bool:
    """Whether a value stands for a kind, rather than for several."""
    return isinstance(value, str | Task | type)


def resolve_task_types(task_types: Any, names: Sequence[str]) -> list[Kind]:
    """Return the kind asked for each task.

    Parameters
    ----------
    task_types : kind, sequence of kinds, or mapping of task name to kind
        One kind for all tasks, one per task, or by name (``"auto"`` for those not named). A kind
        is a string, a subclass of `Task`, or an instance of one.
    names : sequence of str
        The tasks' names.

    Raises
    ------
    ValueError
        If the length does not fit, or a kind or a task is unknown.
    """
    if _is_kind(task_types):
        kinds = [task_types] * len(names)
    elif isinstance(task_types, Mapping):
        unknown = [name for name in task_types if name not in names]
        if unknown:
            raise ValueError(
                f"`task_types` names the task {unknown[0]!r}, which y does not have; its tasks are "
                f"{list(names)}."
            )
        kinds = [task_types.get(name, "auto") for name in names]
    else:
        kinds = list(task_types)
        if len(kinds) != len(names):
            raise ValueError(
                f"`task_types` has {len(kinds)} entries and y has {len(names)} tasks: "
                f"{list(names)}. Pass one kind per task, one string for all, or a dict by name."
            )
    for name, kind in zip(names, kinds, strict=True):
        _check_kind(name, kind)
    return kinds


def _check_kind(name: str, kind: Any) -> None:
    """Refuse what is no kind of task."""
    if isinstance(kind, str):
        known = kind in {"auto", "classification", *KINDS}
    else:
        cls = kind if isinstance(kind, type) else type(kind)
        known = issubclass(cls, Task) and not inspect.isabstract(cls) and hasattr(cls, "kind")
    if not known:
        raise ValueError(
            f"`task_types` gives task {name!r} the kind {kind!r}; pass one of "
            f"{sorted({'auto', 'classification', *KINDS})}, or a subclass of sk_mtl.tasks.Task "
            "that defines `kind` and all abstract methods, or an instance of one."
        )


def declared_kinds(task_types: Any) -> set[str]:
    """Return "classifier", "regressor" or both as `task_types` says, or nothing if y decides."""
    if _is_kind(task_types):
        kinds = [task_types]
    else:
        # A dict leaves the tasks that it does not name to "auto".
        is_list = isinstance(task_types, list | tuple)
        kinds = list(task_types) if is_list else ["auto"]
    faces = {_has_classes(kind) for kind in kinds}
    if None in faces:
        return set()
    return {"classifier" if face else "regressor" for face in faces}


def _has_classes(kind: Any) -> bool | None:
    """Whether tasks of a kind have classes; None if the labels decide, or if it is no kind."""
    if isinstance(kind, str):
        kind = BinaryTask if kind == "classification" else KINDS.get(kind)
    return getattr(kind, "has_classes", None)


def _infer_kind(name: str, values: NDArray) -> str:
    """Choose a kind from the labels: the rule of ``task_types="auto"``."""
    if values.dtype.kind not in "fiu":
        return "classification"
    if values.dtype.kind == "f" and not (values == np.floor(values)).all():
        return "regression"
    n_distinct = len(np.unique(values))
    if n_distinct > MAX_AUTO_CLASSES:
        raise ValueError(
            f"Task {name!r} has {n_distinct} distinct whole numbers, which may be values or "
            f"classes. Pass task_types={{{name!r}: 'regression'}} or {{{name!r}: "
            "'classification'}."
        )
    return "classification"


def make_tasks(
    columns: Sequence[Column],
    task_types: Any,
    weights: NDArray | None = None,
    classes: Sequence[NDArray | None] | None = None,
) -> tuple[Task, ...]:
    """Choose and fit a task for each column.

    Parameters
    ----------
    columns : sequence of Column
        The targets.
    task_types : kind, sequence or mapping
        See `resolve_task_types`. Instances are copied.
    weights : ndarray of shape (n, K), optional
        Weights of the labels.
    classes : sequence of (ndarray or None), optional
        Classes known beforehand, per task.

    Returns
    -------
    tuple of Task

    Raises
    ------
    ValueError
        If a column has no label, one class, or labels that do not suit its kind; or if an option
        of a kind is not valid.
    """
    kinds = resolve_task_types(task_types, [column.name for column in columns])
    tasks: list[Task] = []
    guessed: dict[str, int] = {}
    words: dict[str, int] = {}
    for k, (column, kind) in enumerate(zip(columns, kinds, strict=True)):
        given = None if classes is None else classes[k]
        # A stream may bring the first label of a task later; its classes must be known by then.
        if len(column.values) == 0 and given is None:
            raise ValueError(
                f"Task {column.name!r} has no observed label (with a weight above zero); leave it "
                "out, or give rows that have one."
            )
        is_guess = kind == "auto"
        if is_guess:
            kind = "classification" if given is not None else _infer_kind(*column[:2])
        if kind == "classification":
            n_classes = len(np.unique(column.values if given is None else given))
            kind = "binary" if n_classes <= 2 else "multiclass"
            if is_guess and given is None:
                (guessed if column.values.dtype.kind in "fiu" else words)[column.name] = n_classes
        task = _new_task(kind, column.name)
        if isinstance(task, OrdinalTask) and task.order is None:
            task.order = column.order
        observed = None if weights is None else weights[column.observed, k]
        task.fit(column.values, observed, given)
        tasks.append(task)
    many = {name: n for name, n in guessed.items() if n > MANY_CLASSES}
    if many:
        warnings.warn(
            "Whole numbers are taken for classes under task_types='auto'; those of "
            + ", ".join(f"task {name!r} are {n} distinct ones" for name, n in many.items())
            + f". If they are values, pass task_types={dict.fromkeys(many, 'regression')} (or "
            f"'count'); if classes, {dict.fromkeys(many, 'classification')}.",
            UserWarning,
            stacklevel=2,
        )
    words = {name: n for name, n in words.items() if n > MAX_AUTO_CLASSES}
    if words:
        warnings.warn(
            "Labels that are no numbers are taken for classes under task_types='auto'; those of "
            + ", ".join(f"task {name!r} are {n} distinct ones" for name, n in words.items())
            + ". If they are numbers read as text, pass y[...].astype(float); if classes, "
            f"task_types={dict.fromkeys(words, 'classification')}.",
            UserWarning,
            stacklevel=2,
        )
    return tuple(tasks)


def _new_task(kind: Kind, name: str) -> Task:
    """Return a task of a kind that nobody else holds."""
    if isinstance(kind, Task):
        task = deepcopy(kind)
    else:
        cls = KINDS[kind] if isinstance(kind, str) else kind
        try:
            task = cls()
        except TypeError as error:
            raise ValueError(
                f"`task_types` gives task {name!r} the class {cls.__name__}, which cannot be made "
                f"without arguments ({error}); pass an instance."
            ) from error
    task.name = name
    return task


def with_positive(kind: Kind, label: Any) -> Kind:
    """Return a kind of two classes whose positive class is a label; None leaves it as it is.

    Other kinds stay as they are.
    """
    if label is None:
        return kind
    if isinstance(kind, BinaryTask):
        return deepcopy(kind).set_params(positive=label)
    if isinstance(kind, str) and kind in ("auto", "classification", "binary"):
        return BinaryTask(positive=label)
    if isinstance(kind, type) and issubclass(kind, BinaryTask):
        return kind(positive=label)
    return kind


def find_task_class(name: str) -> type[Task]:
    """Return the imported subclass of `Task` of a name.

    Raises
    ------
    ValueError
        If there is none.
    """
    for cls in (*KINDS.values(), *subclasses(Task)):
        if cls.__name__ == name:
            return cls
    raise ValueError(f"unknown kind of task {name!r}; import the module that defines it first")


def restore_task(name: str, state: Mapping[str, Any]) -> Task:
    """Return a task of a class's name and what ``vars`` of it were; no constructor runs.

    Parameters
    ----------
    name : str
        Name of the class.
    state : mapping of str to object
        Its attributes; options that are lacking take their defaults.
    """
    cls = find_task_class(name)
    task = cls.__new__(cls)
    vars(task).update({**cls._options(), **state})
    return task
