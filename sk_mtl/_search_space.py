"""What a search over parameters may try."""

from dataclasses import fields
from typing import Any

from sk_mtl._params import Range
from sk_mtl.base import MultiTaskEstimator


def search_space(estimator: Any, trial: Any = None) -> dict[str, Any]:
    """Return what a search over an estimator's parameters may try.

    Rates, regularization, epochs, widths and, where there are some, numbers of experts. Batch
    sizes stay as the rows have them, and members as they are: a search with ``n_members=1`` is
    the faster one, and what it finds also holds for more.

    Parameters
    ----------
    estimator : estimator
        An sk_mtl estimator, or a pipeline or another estimator that holds some: names then begin
        as in its own `get_params`, such as ``mmoe__lr``. Of a `bottom` what is its own is tried:
        ``bottom__n_experts``.
    trial : optuna.Trial or optuna.trial.FrozenTrial, optional
        A trial of Optuna that chooses a value for each parameter. A finished one, such as
        ``study.best_trial``, gives the values that it chose.

    Returns
    -------
    dict of str to object
        Without `trial`, lists and distributions of `scipy.stats`, for `RandomizedSearchCV`. With
        one, values for `set_params`.

    Raises
    ------
    TypeError
        If there is no sk_mtl estimator.

    Notes
    -----
    "quantile" and "piecewise", which are among the choices of `numeric_features`, do not take a
    sparse X: remove that entry then.

    Examples
    --------
    >>> from sklearn.model_selection import RandomizedSearchCV
    >>> from sk_mtl import SharedBottom, search_space
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(300, random_state=0)
    >>> model = SharedBottom(n_members=1, random_state=0)
    >>> search = RandomizedSearchCV(model, search_space(model), n_iter=2, cv=2, random_state=0)
    >>> sorted(search.fit(X, Y).best_params_)[:3]
    ['activation', 'bottom_units', 'dropout']

    With Optuna, the objective begins with ``model.set_params(**search_space(model, trial))``, and
    at the end ``model.set_params(**search_space(model, study.best_trial))`` is the best model.
    """
    found = _find(estimator)
    space = {
        prefix + f.name: f.metadata["search"]
        for prefix, one in found.items()
        for f in fields(one)
        if f.metadata["search"] is not None
        and not (f.name in COMMON and prefix.removesuffix("bottom__") in found.keys() - {prefix})
    }
    if trial is None:
        return {name: _distribution(what) for name, what in space.items()}
    return {name: _suggest(trial, name, what) for name, what in space.items()}


COMMON = MultiTaskEstimator.__dataclass_fields__.keys()
"""What all estimators have, and what a `bottom` takes from the estimator that holds it."""


def _find(estimator: Any) -> dict[str, Any]:
    """Return the sk_mtl estimators inside another, by what their parameters' names begin with."""
    parts = estimator.get_params(deep=True) if hasattr(estimator, "get_params") else {}
    found = {f"{k}__": v for k, v in parts.items() if isinstance(v, MultiTaskEstimator)}
    if isinstance(estimator, MultiTaskEstimator):
        found = {"": estimator, **found}
    if not found:
        raise TypeError(
            f"`estimator` is {estimator!r}, which holds no sk_mtl estimator; pass one, or a "
            "pipeline that ends in one."
        )
    return found


def _distribution(what: Range | list[Any]) -> Any:
    """Return a list of choices, or a distribution of scipy."""
    if isinstance(what, list):
        return list(what)
    from scipy import stats

    low, high, log = what
    if isinstance(low, int) and isinstance(high, int):
        return stats.randint(low, high + 1)
    return stats.loguniform(low, high) if log else stats.uniform(low, high - low)


def _suggest(trial: Any, name: str, what: Range | list[Any]) -> Any:
    """Return what a trial of Optuna chooses; it stores tuples as they print."""
    if isinstance(what, list):
        choices = {c if isinstance(c, str | int) else str(c): c for c in what}
        return choices[trial.suggest_categorical(name, list(choices))]
    low, high, log = what
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high)
    return trial.suggest_float(name, low, high, log=log)
