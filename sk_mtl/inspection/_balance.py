"""The balancer's weights over the epochs."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sk_mtl.base import MultiTaskEstimator
from sk_mtl.inspection._style import explain, line_style, single_axes

FAR = 30
"""Where the largest weight is so many times the smallest, they are drawn on a logarithmic scale."""


class BalanceDisplay:
    """Lines of the weights that the balancer gave the tasks' losses, over the epochs.

    Parameters
    ----------
    weights : DataFrame of shape (n_epochs, n_terms)
        Mean weights of each epoch's steps, by the number of the epoch; a column for each term of
        the loss. NaN where a task had no label.
    balancer : str, default=""
        Name of the balancer, for the title.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure drawn on.
    ax_ : matplotlib Axes
        The axes drawn on.
    lines_ : dict of str to matplotlib Line2D
        The lines by term.

    See Also
    --------
    LossDisplay : The losses over the epochs.

    Examples
    --------
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> from sk_mtl.inspection import BalanceDisplay
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = MMoE(balancer="uncertainty", max_epochs=3, random_state=0).fit(X, Y)
    >>> BalanceDisplay.from_estimator(model).weights.shape
    (3, 3)
    """

    def __init__(self, weights: pd.DataFrame, balancer: str = "") -> None:
        self.weights, self.balancer = weights, balancer

    @classmethod
    def from_estimator(cls, estimator: MultiTaskEstimator, *, ax: Any = None) -> "BalanceDisplay":
        """Draw the weights in the `history_` of a fitted estimator.

        Parameters
        ----------
        estimator : MultiTaskEstimator
            A fitted estimator (of a pipeline its last step).
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        BalanceDisplay

        Raises
        ------
        ValueError
            If the balancer reports no weights.
        """
        check_is_fitted(estimator)
        history, criterion = estimator.history_, estimator.net_.criterion_
        columns = [f"weight_{name}" for name in criterion.names]
        found = [column for column in columns if column in history]
        balancer = estimator._fitted_.params["balancer"]
        name = balancer if isinstance(balancer, str) else type(balancer).__name__
        if not found:
            raise ValueError(
                f"The balancer {name!r} reports no weights, so `history_` has no columns "
                f"{columns}; set `weights` in its `backward`, or pass a balancer of "
                "sk_mtl.balancing.BALANCERS."
            )
        weights = history.set_index("epoch")[found]
        terms = pd.Index([column.removeprefix("weight_") for column in found], name="task")
        return cls(weights.set_axis(terms, axis=1), name).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> "BalanceDisplay":
        """Draw a line per term of the loss.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        BalanceDisplay
        """
        self.ax_ = single_axes(ax)
        self.figure_ = self.ax_.figure
        self.lines_ = {}
        for position, (term, weights) in enumerate(self.weights.items()):
            style = line_style(position, len(weights))
            (self.lines_[term],) = self.ax_.plot(weights.index, weights, label=term, **style)
        values = self.weights.to_numpy(dtype=np.float64)
        values = values[np.isfinite(values)]
        if len(values) and values.min() > 0 and values.max() > FAR * values.min():
            self.ax_.set_yscale("log")
        else:
            self.ax_.ticklabel_format(axis="y", useOffset=False)
        self.ax_.set_xlabel("epoch")
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        self.ax_.set_ylabel("weight, mean of the epoch's steps")
        self.ax_.set_title("weights of the losses" + (self.balancer and f", {self.balancer}"))
        explain(self.ax_, list(self.lines_.values()), inside=ax is not None)
        return self
