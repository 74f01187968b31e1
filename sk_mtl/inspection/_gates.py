"""How much each task's gate leans on each expert."""

from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from sk_mtl._training import predict_logits
from sk_mtl.base import MultiTaskEstimator
from sk_mtl.data import Rows
from sk_mtl.nn import Gates


def gate_weights(estimator: MultiTaskEstimator, X: ArrayLike) -> dict[str, list[NDArray]]:
    """Return the weights that each gate gives its experts, row by row.

    Parameters
    ----------
    estimator : MultiTaskEstimator
        A fitted estimator with gates: `MMoE`, `CGC` or `PLE`.
    X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
        Rows as the estimator takes them (in a pipeline: transformed by the steps before).

    Returns
    -------
    dict of str to list of ndarray of shape (n_samples, n_experts)
        By task name, one array per extraction level; rows sum to one. A task's own experts come
        before the shared ones. The gates of `PLE`'s shared stream stand under ``"<shared>"``.
        Of several members the experts stand side by side, member after member, each weighed by
        its share in the mean.

    Raises
    ------
    ValueError
        If the architecture has no gates.

    Examples
    --------
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> from sk_mtl.inspection import gate_weights
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = MMoE(n_experts=4, n_members=1, max_epochs=2, random_state=0).fit(X, Y)
    >>> weights = gate_weights(model, X)
    >>> list(weights), weights["married"][0].shape
    (['high_income', 'married', 'log_wage'], (500, 4))
    """
    check_is_fitted(estimator)
    # A copy that shares the weights: hooks on the network itself would see what other threads
    # predict meanwhile.
    module: Any = estimator.module_
    tensors = [*module.parameters(), *module.buffers()]
    twin = deepcopy(module, {id(tensor): tensor for tensor in tensors})
    gates = [part for part in twin.modules() if isinstance(part, Gates)]
    if not gates:
        raise ValueError(f"{type(estimator).__name__} has no gates; MMoE, CGC and PLE have.")
    seen: list[list[NDArray]] = [[] for _ in gates]
    for gate, batches in zip(gates, seen, strict=True):
        gate.register_forward_hook(
            lambda _module, _inputs, out, batches=batches: batches.append(out.numpy(force=True))
        )
    table = estimator._read_rows(X)
    rows = Rows(estimator._fitted_.encoder.transform(table), device=estimator.net_.device)
    predict_logits(twin, rows)
    n_extra = estimator.net_.criterion_.objective.extra_outputs
    names = [*estimator.task_names_, *(f"<output {k}>" for k in range(n_extra))]
    weights: dict[str, list[NDArray]] = {}
    n_members = module.n_members
    for gate, batches in zip(gates, seen, strict=True):
        whole = np.concatenate(batches)
        if n_members > 1:  # (n, M * gates, experts) -> (n, gates, M * experts)
            by_member = whole.reshape(len(whole), n_members, -1, whole.shape[2])
            whole = by_member.swapaxes(1, 2).reshape(len(whole), len(gate.streams), -1) / n_members
        for position, stream in enumerate(gate.streams):
            name = names[stream] if isinstance(stream, int) else stream
            weights.setdefault(name, []).append(whole[:, position])
    return weights


class GateDisplay:
    """Heat map of the mean weight of each expert in each task's gate.

    Parameters
    ----------
    means : dict of str to list of ndarray of shape (n_experts,)
        Mean weights, by task and level.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure drawn on.
    axes_ : list of matplotlib Axes
        One per level.
    """

    def __init__(self, means: dict[str, list[NDArray]]) -> None:
        self.means = means

    @classmethod
    def from_estimator(
        cls, estimator: MultiTaskEstimator, X: ArrayLike, *, axes: Any = None
    ) -> "GateDisplay":
        """Compute `gate_weights` and draw their means.

        Parameters
        ----------
        estimator : MultiTaskEstimator
            A fitted estimator with gates.
        X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
            The rows to average over.
        axes : matplotlib Axes or list of Axes, default=None
            Where to draw, one per level; a new figure if None.

        Returns
        -------
        GateDisplay
        """
        weights = gate_weights(estimator, X)
        means = {name: [w.mean(axis=0) for w in levels] for name, levels in weights.items()}
        return cls(means).plot(axes=axes)

    def plot(self, *, axes: Any = None) -> "GateDisplay":
        """Draw one heat map per level, tasks down and experts across.

        Parameters
        ----------
        axes : matplotlib Axes or list of Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        GateDisplay
        """
        import matplotlib.pyplot as plt

        n_levels = max(len(levels) for levels in self.means.values())
        if axes is None:
            _, axes = plt.subplots(1, n_levels, figsize=(4.5 * n_levels, 2.5), squeeze=False)
        self.axes_ = list(np.atleast_1d(np.asarray(axes, dtype=object)).ravel())
        self.figure_ = self.axes_[0].figure
        for level, ax in enumerate(self.axes_[:n_levels]):
            rows = {name: m[level] for name, m in self.means.items() if len(m) > level}
            width = max(map(len, rows.values()))
            grid = np.full((len(rows), width), np.nan)
            for position, mean in enumerate(rows.values()):
                grid[position, : len(mean)] = mean
            image = ax.imshow(grid, aspect="auto", cmap="viridis", vmin=0.0)
            for (row, column), value in np.ndenumerate(grid):
                if not np.isnan(value):
                    color = "white" if value < np.nanmax(grid) / 2 else "black"
                    ax.text(column, row, f"{value:.2f}", ha="center", va="center", color=color)
            ax.set_yticks(range(len(rows)), list(rows))
            ax.set_xticks(range(width))
            ax.set_xlabel("expert")
            ax.set_title("mean gate weight" + (f", level {level + 1}" if n_levels > 1 else ""))
            self.figure_.colorbar(image, ax=ax)
        return self
