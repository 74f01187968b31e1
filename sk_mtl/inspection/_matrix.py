"""A heat map of tasks by tasks."""

from typing import Any

import numpy as np
import pandas as pd


def draw_matrix(matrix: pd.DataFrame, ax: Any, *, limit: float, title: str, form: str) -> Any:
    """Draw a matrix of tasks by tasks, red below zero and blue above, and return the axes.

    Parameters
    ----------
    matrix : DataFrame of shape (K, K)
        Its index and columns are labeled by their names.
    ax : matplotlib Axes or None
        Where to draw; a new figure if None.
    limit : float
        Where the colors end.
    title : str
        Title.
    form : str
        Format of the numbers.
    """
    import matplotlib.pyplot as plt

    if ax is None:
        size = 2.5 + 0.8 * len(matrix)
        _, ax = plt.subplots(figsize=(size + 1, size), layout="constrained")
    grid = matrix.to_numpy()
    image = ax.imshow(grid, cmap="RdBu", vmin=-limit, vmax=limit)
    for (row, column), value in np.ndenumerate(grid):
        if not np.isnan(value):
            color = "white" if abs(value) > 0.6 * limit else "black"
            ax.text(column, row, f"{value:{form}}", ha="center", va="center", color=color)
    ax.set_xticks(range(len(matrix.columns)), matrix.columns, rotation=45, ha="right")
    ax.set_yticks(range(len(matrix)), matrix.index)
    ax.set_xlabel(matrix.columns.name or "")
    ax.set_ylabel(matrix.index.name or "")
    ax.set_title(title)
    ax.figure.colorbar(image, ax=ax)
    return ax
