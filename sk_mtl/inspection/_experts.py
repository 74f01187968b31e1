"""How much experts are used, and which are not."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sk_mtl._checks import check_number
from sk_mtl.base import MultiTaskEstimator
from sk_mtl.inspection._gates import axes_by_level, run_gates


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


class ExpertUseDisplay:
    """Bars of each expert's load, by task; dead experts are marked.

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
        self.axes_ = axes_by_level(axes, len(levels), (5.0, 3.0))
        if len(self.axes_) < len(levels):
            raise ValueError(
                f"`axes` has {len(self.axes_)} axes and there are {len(levels)} levels; pass one "
                "for each."
            )
        self.figure_ = self.axes_[0].figure
        for ax, (level, use) in zip(self.axes_, levels, strict=False):
            loads = use.pivot(index=["member", "expert"], columns="task", values="load")
            loads = loads[list(use["task"].unique())]
            dead = use.groupby(["member", "expert"])["dead"].first()
            width = 0.8 / loads.shape[1]
            for position, task in enumerate(loads):
                left = np.arange(len(loads)) + (position - (loads.shape[1] - 1) / 2) * width
                ax.bar(left, loads[task].fillna(0.0), width, label=task)
            several = use["member"].nunique() > 1
            names = [
                (f"{member}.{expert}" if several else f"{expert}")
                + ("\ndead" if dead[member, expert] else "")
                for member, expert in loads.index
            ]
            ax.set_xticks(range(len(loads)), names)
            ax.set_xlabel("member.expert" if several else "expert")
            ax.set_ylabel("load")
            ax.set_title("load of experts" + (f", level {level}" if len(levels) > 1 else ""))
            ax.legend()
        return self
