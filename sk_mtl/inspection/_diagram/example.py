"""A fit on a few random rows, for the diagram of an estimator that is not fitted."""

import warnings
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from sk_mtl.base import MultiTaskEstimator
from sk_mtl.tasks import BinaryTask, resolve_task_types

N_ROWS = 64
DEFAULT_COLUMNS = ("x1", "x2", "x3", "x4")

PLAIN = {
    "balancer": "equal",
    "batch_size": None,
    "callbacks": None,
    "checkpoint": None,
    "clip_norm": None,
    "device": "cpu",
    "early_stopping": False,
    "loss_weights": None,
    "lr_schedule": "constant",
    "max_epochs": 1,
    "monitor": "valid_loss",
    "n_members": 1,
    "optimizer": "adam",
    "random_state": 0,
    "resume": False,
    "sparse_embeddings": "auto",
    "validation_fraction": None,
    "verbose": 0,
    "warm_start": False,
}
"""Parameters that do not change the network, at values with which a fit is quick."""


def fit_example(estimator: MultiTaskEstimator, tasks: Sequence[str] | None) -> MultiTaskEstimator:
    """Return a copy of an estimator, fitted for one epoch on random rows that suit it.

    Parameters
    ----------
    estimator : MultiTaskEstimator
        An estimator that is not fitted.
    tasks : sequence of str or None
        Names of the tasks; None: those that parameters name, or "task 1", "task 2".

    Raises
    ------
    ValueError
        If no rows could be found that suit its parameters.
    """
    names = _task_names(estimator, tasks)
    copy: Any = clone(estimator).set_params(**PLAIN)
    rng = np.random.RandomState(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            copy.fit(_rows(estimator, rng), _labels(estimator, names, rng))
    except Exception as error:
        raise ValueError(
            f"This {type(estimator).__name__} is not fitted, and the random rows that were to "
            f"stand for yours, with the tasks {names}, do not suit it: {error} Pass a fitted "
            "estimator, or other `tasks`."
        ) from error
    return copy


def _task_names(estimator: MultiTaskEstimator, tasks: Sequence[str] | None) -> list[str]:
    if tasks is not None:
        names = [tasks] if isinstance(tasks, str) else [str(name) for name in tasks]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"`tasks` is {tasks!r}; pass different names, at least one.")
        return names
    named: dict[str, None] = {}
    parents = getattr(estimator, "parents", None)
    for child, of_child in parents.items() if isinstance(parents, dict) else ():
        named |= dict.fromkeys([of_child] if isinstance(of_child, str) else of_child)
        named[child] = None
    n = max(2, estimator.n_tasks[0])
    for value in (estimator.task_types, estimator.tower_units, getattr(estimator, "positive", 0)):
        if isinstance(value, dict):
            named |= dict.fromkeys(value)
        elif isinstance(value, list) or (
            isinstance(value, tuple) and value and not isinstance(value[0], Integral)
        ):
            n = max(n, len(value))
    names = [str(name) for name in named]
    names += [f"task {k}" for k in range(1, n + 1) if f"task {k}" not in names]
    return names[: max(n, len(named))]


def _rows(estimator: MultiTaskEstimator, rng: np.random.RandomState) -> pd.DataFrame:
    """Return rows with the columns that parameters name: numbers, and categories."""
    asked: dict[str, list[Any]] = {}
    for name in estimator.get_params(deep=False):
        if name.endswith("_features") or name == "embedding_dim":
            asked[name] = list(_mentioned(getattr(estimator, name)))
    everything = [one for of_parameter in asked.values() for one in of_parameter]
    names = list(dict.fromkeys(one for one in everything if isinstance(one, str)))
    numbers = [int(one) for one in everything if not isinstance(one, str)]
    n = max([len(DEFAULT_COLUMNS), len(names) + 2, *(number + 1 for number in numbers)])
    for name in asked:
        if _is_mask(getattr(estimator, name)):
            n = len(getattr(estimator, name))  # it says how many columns there are
    spare = (name for name in [*DEFAULT_COLUMNS, *map("x{}".format, range(5, n + 9))])
    names += [name for name in spare if name not in names][: n - len(names)]
    categories = {
        names[one] if isinstance(one, Integral) else one
        for one in asked.get("categorical_features", [])
    }
    if not categories and isinstance(estimator.categorical_features, str):
        free = [name for name in names if name not in asked.get("numeric_features", [])]
        categories = set(free[1::2])
    frame = pd.DataFrame({name: rng.randn(N_ROWS) for name in names})
    for name in categories & set(names):
        frame[name] = pd.Categorical(rng.choice(list("abcde"), N_ROWS))
    return frame


def _mentioned(value: Any) -> Iterator[Any]:
    """Yield the names and numbers of columns in a parameter's value."""
    if isinstance(value, dict):
        yield from (key for key in value if isinstance(key, str | Integral))
    elif isinstance(value, list | tuple | np.ndarray | pd.Index):
        if _is_mask(value):
            yield from np.flatnonzero(value).tolist()
            return
        for one in value:
            if isinstance(one, str | Integral) and not isinstance(one, bool):
                yield one


def _is_mask(value: Any) -> bool:
    is_list = isinstance(value, list | tuple | np.ndarray)
    return is_list and len(value) > 0 and all(isinstance(one, bool | np.bool_) for one in value)


def _labels(
    estimator: MultiTaskEstimator, names: list[str], rng: np.random.RandomState
) -> pd.DataFrame:
    """Return labels that suit: of binary tasks each implies those before."""
    kinds = [
        kind if isinstance(kind, str) else kind.kind
        for kind in resolve_task_types(estimator.task_types, names)
    ]
    if all(kind == "auto" for kind in kinds) and BinaryTask not in estimator.takes:
        taken = [kind.kind for kind in estimator.takes if hasattr(kind, "kind")]
        kinds = [taken[0] if taken else "binary"] * len(names)
    reached = np.ones(N_ROWS, bool)
    columns: dict[str, Any] = {}
    for k, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        reached = reached & (rng.rand(N_ROWS) < 0.75)
        if kind in ("regression", "quantile"):
            columns[name] = rng.randn(N_ROWS)
        elif kind in ("multiclass", "ordinal", "count"):
            columns[name] = np.arange(N_ROWS) % 3
        else:
            yes, no = _classes(getattr(estimator, "positive", None), name, k)
            columns[name] = np.where(reached, yes, no)
    return pd.DataFrame(columns)


def _classes(positive: Any, name: str, k: int) -> tuple[Any, Any]:
    """Return the label of what was reached, and that of what was not."""
    if isinstance(positive, dict):
        positive = positive.get(name)
    elif isinstance(positive, list | tuple | np.ndarray):
        positive = positive[k] if k < len(positive) else None
    if isinstance(positive, str):
        return positive, f"no {positive}"
    if positive is not None and not isinstance(positive, bool | np.bool_):
        return positive, positive - 1
    return (positive, not positive) if positive is not None else (1, 0)
