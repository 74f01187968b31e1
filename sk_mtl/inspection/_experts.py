"""How much experts are used, and which are not."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sk_mtl._checks import check_number
from sk_mtl.base import MultiTaskEstimator
from sk_mtl.inspection._gates import run_gates
from sk_mtl.inspection._style import COLORS, GRAY, WIDTH, explain, given_axes, make_axes


def expert_use(
    estimator: MultiTaskEstimator, X: ArrayLike, *, threshold: float = 0.1
) -> pd.DataFrame:
    """Return how much each gate uses each of its experts, and which experts no gate uses.

    Parameters
    ----------
    estimator : MultiTaskEstimator
        A fitted estimator with gates over experts: `AdaTT`, `CGC`, `MLMMoE`, `MMoE`, `OMoE`,
        `PLE` or `STEM`, or one with such a bottom.
    X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
        Rows as the estimator takes them (in a pipeline: transformed by the steps before).
    threshold : float, default=0.1
        An expert is dead if its load is below this share of an even load in every gate that may
        choose it. A gate over n experts loads each with 1 / n if it is even.

    Returns
    -------
    DataFrame
        A row for each expert of each gate, with the columns

        - ``level``: the level of the gate, from 1 on; ``task``: the task or stream whose gate it
          is, named as in `gate_weights`; ``member``: the member, from 0 on;
        - ``expert``: the expert's number within its level, the same in all gates that read it. A
          level's own experts stand in task order, before the shared ones;
        - ``load``: the mean weight over the rows;
        - ``entropy_of_mean``, ``mean_entropy``: of the gate's weights, in nats; the entropy of
          their mean, and the mean of each row's. At most log n, if the weights are even. The first
          tells whether the gate uses many experts, the second whether a row does: where the first
          is far above the second, rows of different kinds have different experts;
        - ``dead``: whether no gate of the level uses the expert.

    Raises
    ------
    ValueError
        If the architecture has no gates over experts.

    See Also
    --------
    gate_weights : The weights row by row.

    Notes
    -----
    A unit of `AdaTT` adds its own experts to what its gate mixes: there an expert without load may
    still serve its own task. `expert_balance`, a parameter of these estimators, keeps experts
    alive.

    Examples
    --------
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> from sk_mtl.inspection import expert_use
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = MMoE(n_experts=2, n_members=1, max_epochs=2, random_state=0).fit(X, Y)
    >>> use = expert_use(model, X)
    >>> use[["level", "task", "member", "expert", "dead"]].head(3)
       level         task  member  expert   dead
    0      1  high_income       0       0  False
    1      1  high_income       0       1  False
    2      1      married       0       0  False
    >>> use.groupby("task")["load"].sum().round(3).tolist()
    [1.0, 1.0, 1.0]
    """
    check_number("threshold", threshold, 0)
    parts = []
    for gate in run_gates(estimator, X):
        if gate.experts is None:
            continue
        of_gate = gate.weights.astype(np.float64)
        means = of_gate.mean(axis=0)  # (n_members, n_experts)
        for member, load in enumerate(means):
            part = pd.DataFrame(
                {
                    "level": gate.level,
                    "task": gate.stream,
                    "member": member,
                    "expert": gate.experts,
                    "load": load,
                    "entropy_of_mean": _entropy(load),
                    "mean_entropy": _entropy(of_gate[:, member]).mean(),
                    "dead": load * len(load) < threshold,
                }
            )
            parts.append(part)
    if not parts:
        raise ValueError(
            f"The gates of {type(estimator).__name__} weigh no experts; see gate_weights for "
            "their factors."
        )
    use = pd.concat(parts, ignore_index=True)
    use["dead"] = use.groupby(["level", "member", "expert"])["dead"].transform("all")
    return use


def _entropy(weights: NDArray) -> NDArray:
    """Return the entropy over the last axis, in nats; a weight of zero adds nothing."""
    logs = np.log(np.where(weights > 0, weights, 1.0))
    return -(weights * logs).sum(axis=-1)


MOST_TICKS = 16
"""Experts above which their names would run into each other, and are turned."""


class ExpertUseDisplay:
    """Bars of each expert's load, by task; dead experts are marked.

    Where all gates of a level read as many experts, a dotted line shows an even load.

    Parameters
    ----------
    use : DataFrame
        What `expert_use` returns.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure drawn on.
    axes_ : list of matplotlib Axes
        One per level.
    """

    def __init__(self, use: pd.DataFrame) -> None:
        self.use = use

    @classmethod
    def from_estimator(
        cls,
        estimator: MultiTaskEstimator,
        X: ArrayLike,
        *,
        threshold: float = 0.1,
        axes: Any = None,
    ) -> "ExpertUseDisplay":
        """Compute `expert_use` and draw it.

        Parameters
        ----------
        estimator : MultiTaskEstimator
            A fitted estimator with gates over experts.
        X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
            The rows to average over.
        threshold : float, default=0.1
            Share of an even load below which an expert is dead, see `expert_use`.
        axes : matplotlib Axes or list of Axes, default=None
            Where to draw, one per level; a new figure if None.

        Returns
        -------
        ExpertUseDisplay
        """
        return cls(expert_use(estimator, X, threshold=threshold)).plot(axes=axes)

    def plot(self, *, axes: Any = None) -> "ExpertUseDisplay":
        """Draw one axes per level: experts across, and a bar for each gate that may choose them.

        Parameters
        ----------
        axes : matplotlib Axes or list of Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        ExpertUseDisplay

        Raises
        ------
        ValueError
            If there are fewer axes than levels.
        """
        levels = list(self.use.groupby("level"))
        given = given_axes(axes, len(levels), "levels")
        n_bars = max(len(use) for _, use in levels)
        across = float(np.clip(2.0 + 0.15 * n_bars, 6.4, WIDTH))
        self.axes_ = given or make_axes(len(levels), 1, across, 3.2)
        self.figure_ = self.axes_[0].figure
        for ax, (level, use) in zip(self.axes_, levels, strict=False):
            loads = use.pivot(index=["member", "expert"], columns="task", values="load")
            loads = loads[list(use["task"].unique())]
            dead = use.groupby(["member", "expert"])["dead"].first()
            width = 0.8 / loads.shape[1]
            for position, task in enumerate(loads):
                left = np.arange(len(loads)) + (position - (loads.shape[1] - 1) / 2) * width
                color = COLORS[position % len(COLORS)]
                ax.bar(left, loads[task].fillna(0.0), width, label=task, color=color)
            several = use["member"].nunique() > 1
            names = [
                (f"{member}.{expert}" if several else f"{expert}")
                + ("\ndead" if dead[member, expert] else "")
                for member, expert in loads.index
            ]
            rotation = 90 if len(names) > MOST_TICKS else 0
            ax.set_xticks(range(len(loads)), names, rotation=rotation)
            self._mark_even(ax, use)
            ax.set_xlabel("member.expert" if several else "expert")
            ax.set_ylabel("load")
            ax.set_title("load of experts" + (f", level {level}" if len(levels) > 1 else ""))
            n_across = 1 if loads.shape[1] < 12 else 2
            # Lines come first in a legend if nothing else is said; here last.
            explain(ax, [*ax.containers, *ax.lines], inside=False, n_across=n_across)
        return self

    def _mark_even(self, ax: Any, use: pd.DataFrame) -> None:
        """Draw what each expert's load would be if all were used alike, where that is one load."""
        sizes = use.groupby(["task", "member"]).size().unique()
        if len(sizes) == 1:
            style = {"color": GRAY, "linestyle": ":", "linewidth": 1.0}
            ax.axhline(1 / sizes[0], label="even load", **style)
