"""A picture of a column's categories, by the vectors that a network has learned for them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from sk_mtl._checks import check_count
from sk_mtl.base import MultiTaskEstimator
from sk_mtl.inspection._embeddings import closest, find_embedding, place_of
from sk_mtl.inspection._style import COLORS, GRAY, WIDTH, single_axes

OFFSETS = ((5, 0), (-5, 0), (0, 6), (0, -6), (4, 5), (4, -5), (-4, 5), (-4, -5))
"""Where a name may stand beside its point, in points of type; the first that is free is taken."""


class EmbeddingDisplay:
    """The categories of a column in the plane in which their vectors differ most.

    Parameters
    ----------
    vectors : DataFrame of shape (n_categories, dim)
        As `embedding_vectors` returns them.
    neighbors : Series, default=None
        As `embedding_neighbors` returns it.
    category : object, default=None
        Whose neighbors they are, as `vectors` names it.
    task : str, default=None
        The task that has these vectors for itself, for the title; None: all share them.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure drawn on.
    ax_ : matplotlib Axes
        The axes drawn on.
    points_ : ndarray of shape (n_categories, 2)
        Where the categories stand: the first two principal components.
    explained_ : ndarray of shape (2,)
        The shares of the vectors' variance along them.
    scatter_ : matplotlib PathCollection
        The points.
    texts_ : dict of object to matplotlib Text
        The names, by category; those that found no free place are left out.
    lines_ : list of matplotlib Line2D
        From the category to its neighbors.

    Examples
    --------
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> from sk_mtl.inspection import EmbeddingDisplay
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = MMoE(max_epochs=2, random_state=0).fit(X, Y)
    >>> EmbeddingDisplay.from_estimator(model, "occupation").points_.shape
    (15, 2)
    """

    def __init__(
        self,
        vectors: pd.DataFrame,
        neighbors: pd.Series | None = None,
        category: Any = None,
        task: str | None = None,
    ) -> None:
        self.vectors, self.neighbors = vectors, neighbors
        self.category, self.task = category, task

    @classmethod
    def from_estimator(
        cls,
        estimator: MultiTaskEstimator,
        column: Any,
        *,
        category: Any = None,
        n_neighbors: int = 5,
        task: str | None = None,
        values: Any = None,
        ax: Any = None,
    ) -> "EmbeddingDisplay":
        """Draw the categories of a column of a fitted estimator.

        Parameters
        ----------
        estimator : MultiTaskEstimator
            A fitted estimator (of a pipeline its last step).
        column : str or int
            A categorical column, as in `embedding_vectors`.
        category : object, default=None
            A category whose neighbors are marked, as in `embedding_neighbors`.
        n_neighbors : int, default=5
            How many of them.
        task : str, default=None
            Whose vectors, as in `embedding_vectors`.
        values : Series or mapping, default=None
            As in `plot`.
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        EmbeddingDisplay

        Raises
        ------
        ValueError
            As `embedding_neighbors`, and if the column has no known category.
        """
        found = find_embedding(estimator, column, task)
        vectors, neighbors = found.known, None
        if not len(vectors):
            raise ValueError(f"`column` is {column!r}, of which `fit` knows no category to draw.")
        if category is not None:
            at = place_of(found, category)
            category = vectors.index[at]
            neighbors = closest(vectors, at).iloc[: check_count("n_neighbors", n_neighbors)]
        return cls(vectors, neighbors, category, task).plot(values=values, ax=ax)

    def plot(self, *, values: Any = None, ax: Any = None) -> "EmbeddingDisplay":
        """Draw a point and a name per category, and lines to the neighbors of one.

        Neighbors are close among all dimensions; in the plane they need not be.

        Parameters
        ----------
        values : Series or mapping, default=None
            A number for each category that colors its point, such as the mean of a label; a
            Series' name is that of the colors. Categories without one are gray.
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        EmbeddingDisplay
        """
        self.ax_ = ax = single_axes(ax, 0.9 * WIDTH, 5.4)
        self.figure_ = ax.figure
        self.points_, self.explained_ = _plane(self.vectors.to_numpy(dtype=np.float64))
        x, y = self.points_.T
        categories = list(self.vectors.index)
        marked = [] if self.neighbors is None else [self.category, *self.neighbors.index]
        self.lines_ = []
        for neighbor in marked[1:]:
            ends = [categories.index(self.category), categories.index(neighbor)]
            (line,) = ax.plot(x[ends], y[ends], color=COLORS[3], linewidth=1, zorder=1)
            self.lines_.append(line)
        if values is None:
            self.scatter_ = ax.scatter(x, y, s=24, color=COLORS[0], zorder=2)
        else:
            numbers = _numbers(values, categories)
            self.scatter_ = ax.scatter(
                x, y, s=36, c=numbers, cmap="viridis", plotnonfinite=True,
                edgecolors=GRAY, linewidths=0.5, zorder=2,
            )  # fmt: skip
            self.scatter_.cmap = self.scatter_.cmap.with_extremes(bad="0.8")
            bar = self.figure_.colorbar(self.scatter_, ax=ax)
            bar.set_label(str(getattr(values, "name", None) or ""))
        if marked:
            ends = [categories.index(one) for one in marked]
            rings = {"facecolors": "none", "edgecolors": COLORS[3], "zorder": 3}
            ax.scatter(x[ends[1:]], y[ends[1:]], s=90, **rings)
            ax.scatter(x[ends[:1]], y[ends[:1]], s=120, marker="s", linewidths=2, **rings)
        shares = [f"{share:.0%} of the variance" for share in self.explained_]
        ax.set_xlabel(f"first component, {shares[0]}")
        ax.set_ylabel(f"second component, {shares[1]}")
        title = f"embedding of {self.vectors.index.name}"
        title += f", task {self.task}" if self.task is not None else ""
        if marked:
            title += f", and the {len(marked) - 1} neighbors of {self.category}"
        ax.set_title(title)
        ax.margins(0.12)
        self._write_names(marked)
        return self

    def _write_names(self, marked: list[Any]) -> None:
        """Write names beside the points where they cover neither names nor points."""
        from matplotlib.patheffects import withStroke

        figure, ax = self.figure_, self.ax_
        figure.draw_without_rendering()  # settles the layout: places are in pixels
        renderer = figure.canvas.get_renderer()
        dots = ax.transData.transform(self.points_)
        frame = ax.get_window_extent(renderer)
        taken: list[NDArray] = []
        self.texts_: dict[Any, Any] = {}
        order = [*marked, *(c for c in self.vectors.index if c not in marked)]
        for category in order:
            at = self.vectors.index.get_loc(category)
            weight = "bold" if category in marked else "normal"
            away = 1.6 if category in marked else 1.0  # beside the ring
            for dx, dy in OFFSETS:
                text = ax.annotate(
                    str(category), self.points_[at],
                    xytext=(away * dx, away * dy), textcoords="offset points",
                    ha="left" if dx > 0 else "right" if dx < 0 else "center",
                    va="bottom" if dy > 0 else "top" if dy < 0 else "center",
                    fontsize=9, fontweight=weight,
                    path_effects=[withStroke(linewidth=2.5, foreground="white")],  # over lines
                )  # fmt: skip
                box = text.get_window_extent(renderer).extents  # left, bottom, right, top
                if _is_free(box, taken, np.delete(dots, at, axis=0), frame.extents):
                    taken.append(box)
                    self.texts_[category] = text
                    break
                text.remove()


def _plane(vectors: NDArray) -> tuple[NDArray, NDArray]:
    """Return the first two principal components, (n, 2), and their shares of the variance."""
    n = min(2, *vectors.shape)
    if len(vectors) < 2 or not vectors.std(axis=0).any():
        return np.zeros((len(vectors), 2)), np.zeros(2)
    pca = PCA(n, svd_solver="full").fit(vectors)
    points, shares = np.zeros((len(vectors), 2)), np.zeros(2)
    points[:, :n], shares[:n] = pca.transform(vectors), pca.explained_variance_ratio_
    return points, shares


def _numbers(values: Any, categories: list[Any]) -> NDArray:
    """Return the number of each category, NaN where there is none."""
    known = dict(values.items()) if isinstance(values, Mapping | pd.Series) else None
    if known is None:
        raise ValueError(
            f"`values` is a {type(values).__name__}; pass a Series or a dict with a number for "
            "each category."
        )
    if not known.keys() & set(categories):
        raise ValueError(
            f"`values` has none of the categories, which are {categories[:5]} and so on; pass a "
            "number by category."
        )
    return np.array([known.get(category, np.nan) for category in categories], dtype=np.float64)


def _is_free(box: NDArray, taken: list[NDArray], dots: NDArray, frame: NDArray) -> bool:
    """Whether a box lies in the frame, and covers no other box and no dot."""
    left, bottom, right, top = box
    if left < frame[0] or bottom < frame[1] or right > frame[2] or top > frame[3]:
        return False
    if any(left < b[2] and right > b[0] and bottom < b[3] and top > b[1] for b in taken):
        return False
    inside = (dots[:, 0] > left) & (dots[:, 0] < right)
    inside &= (dots[:, 1] > bottom) & (dots[:, 1] < top)
    return not inside.any()
