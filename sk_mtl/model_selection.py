"""Cross-validation that leaves labels as they are, and folds that suit several tasks."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel, delayed

from sk_mtl._compat import _BaseKFold, _safe_indexing
from sk_mtl._views import find_multi_task
from sk_mtl.data import read_targets

N_BINS = 5
"""Bins into which `MultiTaskStratifiedKFold` cuts a target with many values."""

METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function")


def _fit_predict(
    estimator: Any, X: Any, y: Any, train: NDArray, test: NDArray, method: str, params: dict
) -> tuple[NDArray, list[Any]]:
    """Fit a clone on some rows and predict the others."""
    inside = {
        name: _safe_indexing(value, train) if np.shape(value)[:1] == (len(train) + len(test),)
        else value
        for name, value in params.items()
    }  # fmt: skip
    model = clone(estimator).fit(_safe_indexing(X, train), _safe_indexing(y, train), **inside)
    classes = [task.classes_ for task in find_multi_task(model).tasks_]
    return getattr(model, method)(_safe_indexing(X, test)), classes


def cross_val_predict(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    groups: ArrayLike | None = None,
    cv: Any = None,
    method: str = "predict",
    n_jobs: int | None = None,
    params: dict[str, Any] | None = None,
) -> NDArray:
    """Predict every row by a model that has not seen it, with y left as it is.

    scikit-learn's function of this name encodes a two-dimensional y as class numbers before
    fitting whenever `method` is not "predict": values become ranks, missing labels a class of
    their own. This one hands y on untouched, and gives classes that are missing from a training
    fold probability zero instead of shifting columns.

    Parameters
    ----------
    estimator : estimator
        An sk_mtl estimator, or a pipeline or search that ends in one.
    X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
        The rows.
    y : {array-like, series, dataframe} of shape (n_samples,) or (n_samples, n_tasks)
        The labels, missing ones included.
    groups : array-like of shape (n_samples,), default=None
        The rows' groups, for splitters such as `GroupKFold`.
    cv : int, splitter or iterable, default=None
        As in scikit-learn; None: five unshuffled folds. See also `MultiTaskStratifiedKFold`.
    method : str, default="predict"
        "predict", "predict_proba", "predict_log_proba" or "decision_function".
    n_jobs : int, default=None
        Folds to fit at once.
    params : dict, default=None
        Passed to `fit`; entries with one row per sample, such as ``sample_weight``, are cut to
        the fold.

    Returns
    -------
    ndarray of shape (n_samples,) or (n_samples, n_columns)
        The predictions in the order of X; columns as from a fit on all rows.

    Raises
    ------
    ValueError
        If `method` is unknown, the folds do not cover each row once, or a fold lacks a class and
        `method` is "decision_function", which has no value for a class never seen.
    """
    if method not in METHODS:
        raise ValueError(f"`method` is {method!r}; pass one of {list(METHODS)}.")
    folds = check_cv(5 if cv is None else cv)
    if params and "groups" in params:
        groups = params["groups"] if groups is None else groups
        params = {name: value for name, value in params.items() if name != "groups"}
    splits = list(folds.split(X, y, groups))
    order = np.concatenate([test for _, test in splits])
    if not np.array_equal(np.sort(order), np.arange(X.shape[0] if hasattr(X, "shape") else len(X))):
        raise ValueError("`cv` must put every row into exactly one test fold.")
    parallel = Parallel(n_jobs=n_jobs)
    results = parallel(
        delayed(_fit_predict)(estimator, X, y, train, test, method, params or {})
        for train, test in splits
    )
    found = [classes for _, classes in results]
    wanted = [
        None if per_fold[0] is None else np.unique(np.concatenate(per_fold))
        for per_fold in zip(*found, strict=True)
    ]
    if method == "predict":
        parts = [prediction for prediction, _ in results]
    else:
        parts = [_align(block, classes, wanted, method) for block, classes in results]
    out = np.concatenate(parts)
    return out[np.argsort(order)]


def _align(block: NDArray, classes: list[Any], wanted: list[Any], method: str) -> NDArray:
    """Put a fold's columns where a fit on all rows would have them."""
    if all(np.array_equal(have, want) for have, want in zip(classes, wanted, strict=True)):
        return block
    if method == "decision_function":
        raise ValueError(
            "A training fold lacks a class of some task, so its decision values have other "
            "columns. Use MultiTaskStratifiedKFold, fewer folds, or method='predict_proba'."
        )
    empty = 0.0 if method == "predict_proba" else -np.inf
    parts, start = [], 0
    for have, want in zip(classes, wanted, strict=True):
        if have is None:
            continue
        part = np.full((len(block), len(want)), empty)
        part[:, np.searchsorted(want, have)] = block[:, start : start + len(have)]
        parts.append(part)
        start += len(have)
    return np.hstack(parts)


class MultiTaskStratifiedKFold(_BaseKFold):
    """Folds in which every class of every task stands in about its share.

    Labels are dealt out by iterative stratification: the rarest label first, each of its rows to
    the fold that lacks it most. A missing label is a label of its own, so gaps are spread as well;
    a target with many values is cut into quantile bins.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds.
    shuffle : bool, default=False
        Whether ties between folds are broken, and rows dealt, in random order.
    random_state : int, RandomState instance or None, default=None
        Seed of the shuffle.

    References
    ----------
    K. Sechidis et al., "On the Stratification of Multi-label Data", ECML PKDD 2011.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.column_stack([np.arange(20) % 10 == 0, np.arange(20) % 2]).astype(int)
    >>> folds = MultiTaskStratifiedKFold(n_splits=2)
    >>> [y[test].sum(axis=0).tolist() for _, test in folds.split(np.zeros((20, 1)), y)]
    [[1, 5], [1, 5]]
    """

    def __init__(
        self, n_splits: int = 5, *, shuffle: bool = False, random_state: Any = None
    ) -> None:
        super().__init__(n_splits=n_splits, shuffle=shuffle, random_state=random_state)

    def _iter_test_indices(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[NDArray]:
        fold = self._deal(_indicators(read_targets(y, y, type(self).__name__)))
        for index in range(self.n_splits):
            yield np.flatnonzero(fold == index)

    def _deal(self, labels: NDArray) -> NDArray:
        """Return each row's fold, (n,), from label indicators (n, L)."""
        n, k = len(labels), self.n_splits
        rng = check_random_state(self.random_state if self.shuffle else 0)
        rank = rng.permutation(n) if self.shuffle else np.arange(n)
        fold = np.full(n, -1)
        share = labels.sum(axis=0) / k
        lacks = np.tile(share, (k, 1))  # labels that each fold is still to get
        while (fold < 0).any():
            left = labels[fold < 0].sum(axis=0)
            label = np.where(left > 0, left, n + 1).argmin()
            rows = np.flatnonzero(labels[:, label] & (fold < 0))
            for row in rows[np.argsort(rank[rows])]:
                # Where the label lacks most; among equals, where the row's labels lack most.
                need = (lacks / share)[:, labels[row]].sum(axis=1)
                fold[row] = choice = np.lexsort((-need, -lacks[:, label]))[0]
                lacks[choice] -= labels[row]
        return fold


def _indicators(targets: Any) -> NDArray:
    """Return which of all (task, label) pairs each row has, (n, L) bool."""
    columns = []
    for k, values in enumerate(targets.values):
        seen = targets.observed[:, k]
        codes = np.full(len(seen), -1)
        distinct, positions = np.unique(values[seen], return_inverse=True)
        if len(distinct) > 20 and values.dtype.kind in "fiu":
            cuts = np.quantile(values[seen], np.linspace(0, 1, N_BINS + 1)[1:-1])
            positions = np.searchsorted(cuts, values[seen])
        codes[seen] = positions
        columns += [codes == code for code in np.unique(codes)]
    return np.column_stack(columns)


__all__ = ["MultiTaskStratifiedKFold", "cross_val_predict"]
