"""Whether predicted probabilities are the shares that they claim to be, task by task."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from sk_mtl._checks import check_choice, check_count
from sk_mtl.base import MultiTaskEstimator
from sk_mtl.data import check_labels
from sk_mtl.inspection._style import GRAY, WIDTH, given_axes, line_style, make_axes, name_axes
from sk_mtl.tasks import BinaryTask, encode_targets


class TaskCalibrationDisplay:
    """Calibration curves of all tasks with two classes, each on axes of its own.

    A point stands for the rows whose predicted probabilities are alike: their mean across, and the
    share of them with the positive class up. Points on the diagonal are calibrated; below it the
    task promises too much.

    Parameters
    ----------
    curves : dict of str to DataFrame
        By task a row for each bin with some label, with the columns ``predicted`` (mean
        probability), ``observed`` (share of the positive class), ``n`` (number of labels).

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure drawn on.
    axes_ : list of matplotlib Axes
        One per task, or the single one that was given.
    lines_ : dict of str to matplotlib Line2D
        The curves by task.

    See Also
    --------
    sklearn.calibration.CalibrationDisplay : One task, by a task view.

    Examples
    --------
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> from sk_mtl.inspection import TaskCalibrationDisplay
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = MMoE(max_epochs=2, random_state=0).fit(X, Y)
    >>> display = TaskCalibrationDisplay.from_estimator(model, X, Y, n_bins=5)
    >>> {name: len(curve) for name, curve in display.curves.items()}
    {'high_income': 5, 'married': 5}
    """

    def __init__(self, curves: Mapping[str, pd.DataFrame]) -> None:
        self.curves = curves

    @classmethod
    def from_estimator(
        cls,
        estimator: MultiTaskEstimator,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        n_bins: int = 10,
        strategy: str = "quantile",
        axes: Any = None,
    ) -> "TaskCalibrationDisplay":
        """Predict, and draw the curve of every task with two classes that has labels.

        Parameters
        ----------
        estimator : MultiTaskEstimator
            A fitted estimator (of a pipeline its last step).
        X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
            Rows, best ones that it was not trained on.
        y : array-like of shape (n_samples,) or (n_samples, n_tasks)
            Their labels. Missing ones are left out; those that a chain implies count, such as no
            conversion where there was no click.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), default=None
            Weights of rows, or of single labels, in the means.
        n_bins : int, default=10
            Number of bins.
        strategy : {"quantile", "uniform"}, default="quantile"
            Bins of as many labels each, or of one width.
        axes : matplotlib Axes or list of Axes, default=None
            Where to draw: one per task, or one for all of them; a new figure if None.

        Returns
        -------
        TaskCalibrationDisplay

        Raises
        ------
        ValueError
            If no task has two classes and labels, or X and y do not suit the estimator.
        """
        check_is_fitted(estimator)
        table, tasks = estimator._read_rows(X), estimator.tasks_
        _, labels = check_labels(y, sample_weight, table, estimator, estimator.task_names_)
        labels = estimator._complete_labels(tasks, labels)
        targets, rows = encode_targets(tasks, labels.columns), labels.rows
        true, predicted, weights = {}, {}, {}
        proba = estimator.predict_proba(X) if _binary(tasks) else np.empty((0, 0))
        proba = proba if rows is None else proba[rows]
        for k, task in _binary(tasks):
            place = estimator.task_slices_[task.name].start
            place += int(task.classes_[1] == task.positive_class)
            true[task.name], predicted[task.name] = targets[:, k], proba[:, place]
            if labels.weight is not None:
                weights[task.name] = labels.weight[:, k]
        options = {"n_bins": n_bins, "strategy": strategy, "axes": axes}
        return cls.from_predictions(true, predicted, weights or None, **options)

    @classmethod
    def from_predictions(
        cls,
        y_true: Mapping[str, ArrayLike],
        y_prob: Mapping[str, ArrayLike],
        sample_weight: Mapping[str, ArrayLike] | None = None,
        *,
        n_bins: int = 10,
        strategy: str = "quantile",
        axes: Any = None,
    ) -> "TaskCalibrationDisplay":
        """Draw curves of predictions.

        Parameters
        ----------
        y_true : mapping of str to array-like of shape (n_samples,)
            By task one for the positive class, zero for the other, NaN for a missing label.
        y_prob : mapping of str to array-like of shape (n_samples,)
            By task the probabilities of the positive class.
        sample_weight : mapping of str to array-like of shape (n_samples,), default=None
            By task the labels' weights.
        n_bins, strategy, axes
            As in `from_estimator`.

        Returns
        -------
        TaskCalibrationDisplay

        Raises
        ------
        ValueError
            If there is no task with labels, or a label is neither one nor zero.
        """
        n_bins = check_count("n_bins", n_bins)
        check_choice("strategy", strategy, ("quantile", "uniform"))
        curves = {}
        for name, true in y_true.items():
            weight = None if sample_weight is None else sample_weight[name]
            curve = _curve(name, true, y_prob[name], weight, n_bins, strategy)
            if len(curve):
                curves[name] = curve
        if not curves:
            raise ValueError(
                f"There is no task with two classes that has labels, of {list(y_true)} that have "
                "two classes; pass their labels, or use predict_proba for other kinds of task."
            )
        return cls(curves).plot(axes=axes)

    def plot(self, *, axes: Any = None) -> "TaskCalibrationDisplay":
        """Draw a curve per task, and the diagonal.

        Parameters
        ----------
        axes : matplotlib Axes or list of Axes, default=None
            Where to draw: one per task, or one for all of them; a new figure if None.

        Returns
        -------
        TaskCalibrationDisplay

        Raises
        ------
        ValueError
            If there are several axes, and fewer than tasks.
        """
        n = len(self.curves)
        together = axes is not None and np.size(np.asarray(axes, dtype=object)) == 1
        found = given_axes(axes, 1 if together else n, "tasks")
        if found is None:
            across = min(n, 3)
            found = make_axes(n, across, 4.6 if n == 1 else WIDTH, WIDTH / max(across, 2) + 0.3)
        self.axes_, self.figure_ = found[: 1 if together else n], found[0].figure
        self.lines_ = {}
        for position, (name, curve) in enumerate(self.curves.items()):
            ax = self.axes_[0 if together else position]
            style = line_style(position if together else 0)
            points = curve["predicted"], curve["observed"]
            (self.lines_[name],) = ax.plot(*points, label=name, **style)
            if not together:
                _frame(ax, [curve])
        if together:
            _frame(self.axes_[0], list(self.curves.values()))
            self.axes_[0].legend(fontsize=9)
        else:
            name_axes(self.axes_, self.curves, max(min(n, 3), 2))
        for ax in self.axes_:
            ax.set_xlabel("mean probability predicted")
        for ax in self.axes_[::3]:
            ax.set_ylabel("share observed")
        return self


def _binary(tasks: Sequence[Any]) -> list[tuple[int, Any]]:
    """Return the tasks with two classes, with their positions."""
    return [(k, task) for k, task in enumerate(tasks) if isinstance(task, BinaryTask)]


def _frame(ax: Any, curves: Sequence[pd.DataFrame]) -> None:
    """Draw the diagonal, up to where the curves end: rare events stay visible."""
    top = max(curve[["predicted", "observed"]].to_numpy().max() for curve in curves)
    top = min(1.05 * top or 1.0, 1.02)
    ax.plot([0, 1], [0, 1], color=GRAY, linestyle=":", linewidth=1, zorder=0, label="calibrated")
    ax.set(xlim=(0, top), ylim=(0, top), aspect="equal")
    ticks = ax.xaxis.get_major_locator()
    ticks.set_params(nbins=5)
    ax.yaxis.get_major_locator().set_params(nbins=5)


def _curve(
    name: str, y_true: Any, y_prob: Any, weight: Any, n_bins: int, strategy: str
) -> pd.DataFrame:
    """Return a task's curve: as scikit-learn's `calibration_curve`, which knows no weights."""
    true, prob = np.asarray(y_true, dtype=np.float64), np.asarray(y_prob, dtype=np.float64)
    if len(true) != len(prob):
        raise ValueError(
            f"`y_true` of task {name!r} has {len(true)} labels and `y_prob` {len(prob)}; pass one "
            "probability for each label."
        )
    weight = np.ones(len(true)) if weight is None else np.asarray(weight, dtype=np.float64)
    seen = ~np.isnan(true) & (weight > 0)
    true, prob, weight = true[seen], prob[seen], weight[seen]
    if not np.isin(true, (0.0, 1.0)).all():
        raise ValueError(
            f"`y_true` of task {name!r} holds {true[~np.isin(true, (0.0, 1.0))][0]}; pass 1 for "
            "the positive class, 0 for the other and NaN for a missing label."
        )
    inner = np.linspace(0.0, 1.0, n_bins + 1)[1:-1]
    edges = np.quantile(prob, inner) if strategy == "quantile" and len(prob) else inner
    bins = np.searchsorted(edges, prob)

    def total(values: NDArray) -> NDArray:
        return np.bincount(bins, values, minlength=n_bins)

    counts, weights = total(np.ones(len(bins))).astype(int), total(weight)
    some = counts > 0
    columns = {
        "predicted": total(weight * prob)[some] / weights[some],
        "observed": total(weight * true)[some] / weights[some],
        "n": counts[some],
    }
    return pd.DataFrame(columns)
