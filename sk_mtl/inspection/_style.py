"""What the displays look like: colors that most eyes tell apart, and axes side by side."""

from textwrap import fill
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000", "#F0E442")
"""Okabe and Ito's colors; yellow, which is faint on white, comes last."""

MARKERS = "osD^vPX*"
"""A marker for each of them: lines can be told apart in gray too."""

GRAY = "0.35"
"""Of what belongs to no task: diagonals, best epochs, entries of legends."""

WIDTH = 8.0
"""Inches of the widest figure that a display makes by itself."""

MOST_MARKERS = 30
"""Points of a line above which markers would run into each other."""


def line_style(position: int, n_points: int = 0) -> dict[str, Any]:
    """Return color and marker of a line by its position among several."""
    style: dict[str, Any] = {"color": COLORS[position % len(COLORS)], "markersize": 4}
    if n_points <= MOST_MARKERS:
        # After eight lines colors come again, with other markers.
        style["marker"] = MARKERS[(position + position // len(COLORS)) % len(MARKERS)]
    return style


def make_axes(n: int, n_across: int, width: float, height: float, **options: Any) -> list[Any]:
    """Return n axes of a new figure, row by row.

    Parameters
    ----------
    n, n_across : int
        Number of axes, and of those in a row.
    width, height : float
        Inches of the figure, and of a row.
    **options
        Further options of `matplotlib.pyplot.subplots`.
    """
    import matplotlib.pyplot as plt

    n_across = min(n, n_across)
    n_rows = -(-n // n_across)
    size = (width, height * n_rows)
    options = {"squeeze": False, "layout": "constrained", **options}
    figure, grid = plt.subplots(n_rows, n_across, figsize=size, **options)
    axes = list(grid.ravel())
    for spare in axes[n:]:
        figure.delaxes(spare)
    return axes[:n]


def given_axes(axes: Any, n: int, what: str) -> list[Any] | None:
    """Return axes that a user passed as a list, or None if there are none.

    Raises
    ------
    ValueError
        If they are fewer than `n`; `what` says what they are for.
    """
    if axes is None:
        return None
    found = list(np.atleast_1d(np.asarray(axes, dtype=object)).ravel())
    if len(found) < n:
        raise ValueError(
            f"`axes` has {len(found)} axes and there are {n} {what}; pass one for each."
        )
    return found


def single_axes(ax: Any, width: float = 7.2, height: float = 4.2) -> Any:
    """Return the axes that a user passed, or those of a new figure."""
    return make_axes(1, 1, width, height)[0] if ax is None else ax


def name_axes(axes: Any, names: Any, n_across: int) -> None:
    """Write a name above each of several axes, on lines that do not reach the next one's."""
    n_characters = int(WIDTH / max(n_across, 1) * 11) - 6
    for ax, name in zip(axes, names, strict=False):
        ax.set_title(fill(str(name), n_characters), fontsize=10)


def explain(ax: Any, handles: Any, *, inside: bool, n_across: int = 1) -> None:
    """Draw a legend beside the axes, or on axes that a user passed inside of them."""
    if inside:
        ax.legend(handles=handles, fontsize=9)
        return
    beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "frameon": False}
    ax.legend(handles=handles, fontsize=9, ncols=n_across, **beside)


def draw_grid(
    ax: Any, grid: NDArray, form: str, width: float, *, above: float = 0.5, **options: Any
) -> Any:
    """Draw a heat map with its numbers, where they have room, and return the image.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.
    grid : ndarray of shape (n, m)
        The numbers; NaN is gray.
    form : str
        Their format.
    width : float
        Inches of the axes.
    above : float, default=0.5
        Share of the scale of colors from which on they are light, and numbers dark; below zero:
        light in the middle, within that distance of it.
    **options
        Further options of `imshow`.
    """
    image = ax.imshow(grid, **options)
    ax.set_facecolor("0.85")  # of NaN
    ax.grid(visible=False)
    texts = {at: f"{value:{form}}" for at, value in np.ndenumerate(grid) if not np.isnan(value)}
    longest = max(map(len, texts.values()), default=0)
    if longest * 0.085 * grid.shape[1] > width:  # inches of a character, some space included
        return image
    for (row, column), text in texts.items():
        share = image.norm(grid[row, column])
        is_light = share > above if above >= 0 else abs(share - 0.5) < -above
        color = "black" if is_light else "white"
        ax.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
    return image
