"""A heat map of tasks by tasks."""

from typing import Any

import pandas as pd

from sk_mtl.inspection._style import WIDTH, draw_grid, make_axes


def draw_matrix(matrix: pd.DataFrame, ax: Any, *, limit: float, title: str, form: str) -> Any:
    """Draw a matrix of tasks by tasks, red below zero and blue above, and return the image.

    Parameters
    ----------
    matrix : DataFrame of shape (K, K)
        Its index and columns are labeled by their names; NaN is gray.
    ax : matplotlib Axes or None
        Where to draw; a new figure if None.
    limit : float
        Where the colors end.
    title : str
        Title.
    form : str
        Format of the numbers.
    """
    size = min(2.5 + 0.8 * len(matrix), WIDTH - 1)
    if ax is None:
        (ax,) = make_axes(1, 1, size + 1, size)
    room = size - 1.5
    scale = {"cmap": "RdBu", "vmin": -limit, "vmax": limit}
    image = draw_grid(ax, matrix.to_numpy(), form, room, above=-0.3, **scale)
    ax.set_xticks(range(len(matrix.columns)), matrix.columns, rotation=45, ha="right")
    ax.set_yticks(range(len(matrix)), matrix.index)
    ax.set_xlabel(matrix.columns.name or "")
    ax.set_ylabel(matrix.index.name or "")
    ax.set_title(title)
    ax.figure.colorbar(image, ax=ax)
    return image
