"""Pictures of what the gates weigh: means over rows, or by the values of a column."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sk_mtl.base import MultiTaskEstimator
from sk_mtl.inspection._gates import run_gates, side_by_side
from sk_mtl.inspection._groups import group_rows
from sk_mtl.inspection._style import WIDTH, draw_grid, given_axes, make_axes, name_axes

TICK = 0.2
"""Inches that the number of an expert takes."""

Numbers = Sequence[Sequence[int] | None]
"""By level the numbers of a gate's experts, None where there is no gate."""


class GateDisplay:
    """Heat maps of the mean weight that each gate gives each expert.

    Parameters
    ----------
    means : dict of str to list of (ndarray or None)
        Mean weights, by task and level, (n_experts,) or with `values` (n_values, n_experts); None
        where a task has no gate.
    what : str, default="expert"
        What the gates weigh.
    experts : dict of str to list of (sequence of int or None), default=None
        Number of each expert within its level, by task and level, as `expert_use` counts them;
        None: from 0 on. An expert that a gate does not read is gray.
    n_members : int, default=1
        Members of the network, whose experts stand side by side.
    by : str, default=""
        Name of the column that `values` are of.
    values : list of str, default=None
        The values that the means are of; None: they are of all rows.
    counts : sequence of int, default=None
        How many rows each value stands in.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure drawn on.
    axes_ : list of matplotlib Axes
        One per level, or with `values` one per gate: level by level, and task by task.
    images_ : list of matplotlib AxesImage
        The heat map on each.

    See Also
    --------
    gate_weights : The weights row by row.
    ExpertUseDisplay : How much each expert is used.

    Examples
    --------
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> from sk_mtl.inspection import GateDisplay
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = MMoE(n_experts=3, n_members=1, max_epochs=2, random_state=0).fit(X, Y)
    >>> GateDisplay.from_estimator(model, X).means["married"][0].shape
    (3,)
    >>> display = GateDisplay.from_estimator(model, X, by="housing")
    >>> display.values
    ['owner', 'tenant', 'other']
    >>> display.means["married"][0].shape
    (3, 3)
    """

    def __init__(
        self,
        means: Mapping[str, Sequence[NDArray | None]],
        what: str = "expert",
        *,
        experts: Mapping[str, Numbers] | None = None,
        n_members: int = 1,
        by: str = "",
        values: Sequence[str] | None = None,
        counts: Sequence[int] | None = None,
    ) -> None:
        self.means, self.what = means, what
        self.experts, self.n_members = experts, n_members
        self.by, self.values, self.counts = by, values, counts

    @classmethod
    def from_estimator(
        cls,
        estimator: MultiTaskEstimator,
        X: ArrayLike,
        *,
        by: Any = None,
        n_values: int = 8,
        axes: Any = None,
    ) -> "GateDisplay":
        """Compute the gates' weights as `gate_weights` does, and draw their means.

        Parameters
        ----------
        estimator : MultiTaskEstimator
            A fitted estimator with gates (of a pipeline its last step).
        X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
            The rows to average over.
        by : str, int or array-like of shape (n_samples,), default=None
            A column of X by its name, or its position if X has no names, or a value for each row:
            the means are then those of the rows with each value. None: of all rows.
        n_values : int, default=8
            Most values of `by` to show, missing ones aside. Numbers with more values are cut at
            as many quantiles; of categories the most frequent are shown, and the others together.
        axes : matplotlib Axes or list of Axes, default=None
            Where to draw, one per level, or with `by` one per gate; a new figure if None.

        Returns
        -------
        GateDisplay

        Raises
        ------
        ValueError
            If the architecture has no gates, or X has no column `by`.
        """
        gates = run_gates(estimator, X)
        groups = None if by is None else group_rows(estimator, X, by, n_values)
        n_levels = max(gate.level for gate in gates)
        means: dict[str, list[NDArray | None]] = {g.stream: [None] * n_levels for g in gates}
        experts: dict[str, list[Sequence[int] | None]] = {g: [None] * n_levels for g in means}
        for gate in gates:
            weights = side_by_side(gate)
            mean = weights.mean(axis=0) if groups is None else groups.mean(weights)
            means[gate.stream][gate.level - 1] = mean
            experts[gate.stream][gate.level - 1] = gate.experts
        given: dict[str, Any] = {"experts": experts, "n_members": gates[0].weights.shape[1]}
        if groups is not None:
            given |= {"by": groups.name, "values": groups.labels, "counts": groups.counts.tolist()}
        what = "unit" if any(gate.experts is None for gate in gates) else "expert"
        return cls(means, what, **given).plot(axes=axes)

    def plot(self, *, axes: Any = None) -> "GateDisplay":
        """Draw a heat map per level, tasks down and experts across; or per gate, values down.

        Parameters
        ----------
        axes : matplotlib Axes or list of Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        GateDisplay

        Raises
        ------
        ValueError
            If there are fewer axes than are needed.
        """
        n_levels = max(len(levels) for levels in self.means.values())
        by_level = [self._gates_of(level) for level in range(n_levels)]
        widths = [self._n_experts(level, gates) for level, gates in enumerate(by_level)]
        self.images_: list[Any] = []
        if self.values is None:
            self._plot_levels(by_level, widths, axes)
        else:
            self._plot_gates(by_level, widths, axes)
        self.figure_ = self.axes_[0].figure
        return self

    def _gates_of(self, level: int) -> dict[str, NDArray]:
        """Return the means of the gates of a level, by task."""
        found = ((name, m[level]) for name, m in self.means.items() if len(m) > level)
        return {name: mean for name, mean in found if mean is not None}

    def _numbers_of(self, name: str, level: int, n: int) -> NDArray:
        """Return the numbers of a gate's experts in each member."""
        known = None if self.experts is None else self.experts[name][level]
        return np.arange(n // self.n_members) if known is None else np.asarray(known)

    def _n_experts(self, level: int, gates: Mapping[str, NDArray]) -> int:
        """Return the number of a level's experts in each member."""
        sizes = {name: mean.shape[-1] for name, mean in gates.items()}
        return 1 + max(int(self._numbers_of(n, level, size).max()) for n, size in sizes.items())

    def _row(self, name: str, level: int, mean: NDArray, width: int) -> NDArray:
        """Return a mean with every expert at its place: (..., n) -> (..., n_members * width)."""
        places = self._numbers_of(name, level, mean.shape[-1])
        each = mean.reshape(*mean.shape[:-1], self.n_members, -1)
        row = np.full((*each.shape[:-1], width), np.nan)
        row[..., places] = each
        return row.reshape(*mean.shape[:-1], -1)

    def _plot_levels(
        self, by_level: list[dict[str, NDArray]], widths: list[int], axes: Any
    ) -> None:
        n_levels, across = len(by_level), 6.4
        most = max(map(len, by_level))
        given = given_axes(axes, n_levels, "levels")
        self.axes_ = given or make_axes(n_levels, 1, across, 1.3 + 0.35 * most)
        for level, (ax, gates) in enumerate(zip(self.axes_, by_level, strict=False)):
            rows = [self._row(name, level, mean, widths[level]) for name, mean in gates.items()]
            image = self._draw(ax, np.stack(rows), list(gates), 0.6 * across, vmin=0.0)
            ax.set_title("mean gate weight" + (f", level {level + 1}" if n_levels > 1 else ""))
            ax.figure.colorbar(image, ax=ax)

    def _plot_gates(self, by_level: list[dict[str, NDArray]], widths: list[int], axes: Any) -> None:
        assert self.values is not None
        gates = [
            (name, level, self._row(name, level, mean, widths[level]))
            for level, of_level in enumerate(by_level)
            for name, mean in of_level.items()
        ]
        across = min(len(gates), 2 if max(widths) * self.n_members > 8 else 3)
        height = 1.1 + 0.27 * max(len(self.values), 3)
        given = given_axes(axes, len(gates), "gates")
        self.axes_ = given or make_axes(len(gates), across, WIDTH, height, sharey=True)
        most = max(float(np.nanmax(grid)) for _, _, grid in gates)
        labels = list(self.values)
        if self.counts is not None:
            labels = [f"{v} ({n:,})" for v, n in zip(labels, self.counts, strict=True)]
        room = (0.75 * WIDTH - 0.08 * max(map(len, labels))) / across
        for position, (ax, (_, _, grid)) in enumerate(zip(self.axes_, gates, strict=False)):
            self._draw(ax, grid, labels, room, vmin=0.0, vmax=most)
            if position % across == 0:
                ax.set_ylabel(self.by)
        of_level = [f", level {level + 1}" if len(by_level) > 1 else "" for _, level, _ in gates]
        names = [name + where for (name, _, _), where in zip(gates, of_level, strict=True)]
        name_axes(self.axes_, names, across + 1)  # the values' names take as much as a column
        bar = self.axes_[0].figure.colorbar(self.images_[0], ax=self.axes_[: len(gates)])
        bar.set_label("mean gate weight")

    def _draw(self, ax: Any, grid: NDArray, labels: list[str], room: float, **scale: Any) -> Any:
        """Draw one heat map, with the members set apart."""
        n, n_experts = grid.shape[1], grid.shape[1] // self.n_members
        image = draw_grid(ax, grid, ".2f", room, aspect="auto", cmap="viridis", **scale)
        self.images_.append(image)
        ax.set_yticks(range(len(labels)), labels)
        ax.set_xlabel(self.what)
        if self.n_members == 1:
            step = next(step for step in (1, 2, 5, 10, n) if n * TICK <= step * room)
            ax.set_xticks(range(0, n, step))
            return image
        for member in range(1, self.n_members):
            ax.axvline(member * n_experts - 0.5, color="white", linewidth=3)
        starts = np.arange(self.n_members) * n_experts
        ax.set_xticks(starts + (n_experts - 1) / 2, [str(m) for m in range(self.n_members)])
        ax.tick_params(axis="x", length=0)
        ax.set_xlabel(f"member, and in each its {n_experts} {self.what}s")
        return image
