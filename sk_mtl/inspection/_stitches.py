"""What each task takes from the others in cross-stitch networks."""

import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sk_mtl.base import MultiTaskEstimator
from sk_mtl.nn import Stitch


def stitch_weights(estimator: MultiTaskEstimator) -> list[pd.DataFrame]:
    """Return the weights with which tasks combine one another's layers.

    Parameters
    ----------
    estimator : MultiTaskEstimator
        A fitted `CrossStitch`.

    Returns
    -------
    list of DataFrame of shape (n_members * n_tasks, n_tasks)
        One for each layer, the first layer first. Rows are the tasks that take, by member and
        name (levels ``member`` and ``task``), columns the tasks that are taken from. With
        ``alpha_unit="unit"`` the columns are pairs of a task and the number of a unit (levels
        ``task`` and ``unit``).

    Raises
    ------
    ValueError
        If the architecture combines no layers.

    Examples
    --------
    >>> from sk_mtl import CrossStitch
    >>> from sk_mtl.datasets import make_census_like
    >>> from sk_mtl.inspection import stitch_weights
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = CrossStitch(n_members=1, max_epochs=2, random_state=0).fit(X, Y)
    >>> first, second = stitch_weights(model)
    >>> first.loc[0, "married"].shape, bool(first.loc[(0, "married"), "married"] > 0.5)
    ((3,), True)
    """
    check_is_fitted(estimator)
    stitches = [part for part in estimator.module_.modules() if isinstance(part, Stitch)]
    if not stitches:
        raise ValueError(
            f"{type(estimator).__name__} combines no layers of several tasks; CrossStitch does."
        )
    n_extra = estimator.net_.criterion_.objective.extra_outputs
    names = [*estimator.task_names_, *(f"<output {k}>" for k in range(n_extra))]
    members = range(estimator.module_.n_members)
    rows = pd.MultiIndex.from_product([members, names], names=["member", "task"])
    found = []
    for stitch in stitches:
        alpha = stitch.alpha.numpy(force=True)
        columns: pd.Index = pd.Index(names, name="task")
        if alpha.ndim == 3:
            units = range(alpha.shape[2])
            columns = pd.MultiIndex.from_product([names, units], names=["task", "unit"])
        found.append(pd.DataFrame(alpha.reshape(len(rows), -1).copy(), rows, columns))
    return found
