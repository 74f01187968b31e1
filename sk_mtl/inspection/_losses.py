"""Learning curves, one per task."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sk_mtl._training import RestoreBest
from sk_mtl.base import MultiTaskEstimator
from sk_mtl.inspection._style import (
    COLORS,
    GRAY,
    WIDTH,
    explain,
    line_style,
    make_axes,
    name_axes,
    single_axes,
)

FLAT = 6
"""Curves that span less than this part of the axes are flat there: tasks get axes of their own."""


class LossDisplay:
    """Each task's loss over the epochs, in training and on held-out rows.

    Parameters
    ----------
    history : DataFrame
        An estimator's `history_`.
    task_names : list of str
        The tasks to draw.
    best_epoch : int or None, default=None
        The epoch whose weights early stopping restored; None: there is none to mark.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure drawn on.
    ax_ : matplotlib Axes
        The axes drawn on, the first ones if there are several.
    axes_ : list of matplotlib Axes
        All of them: one, or one for each task.
    lines_ : dict of (str, {"training", "held out"}) to matplotlib Line2D
        The curves by task and by rows.
    best_lines_ : list of matplotlib Line2D
        The marks of the best epoch, one on each axes.

    See Also
    --------
    BalanceDisplay : The balancer's weights over the epochs.

    Examples
    --------
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> from sk_mtl.inspection import LossDisplay
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = MMoE(max_epochs=3, early_stopping=True, random_state=0).fit(X, Y)
    >>> display = LossDisplay.from_estimator(model)
    >>> display.best_epoch in (1, 2, 3), len(display.lines_)
    (True, 6)
    """

    def __init__(
        self, history: pd.DataFrame, task_names: Sequence[str], best_epoch: int | None = None
    ) -> None:
        self.history, self.task_names, self.best_epoch = history, task_names, best_epoch

    @classmethod
    def from_estimator(
        cls, estimator: MultiTaskEstimator, *, by_task: Any = "auto", ax: Any = None
    ) -> "LossDisplay":
        """Draw the learning curves of a fitted estimator.

        Parameters
        ----------
        estimator : MultiTaskEstimator
            A fitted estimator (of a pipeline its last step).
        by_task : "auto" or bool, default="auto"
            As in `plot`.
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        LossDisplay

        Notes
        -----
        An estimator that was pickled or saved keeps its history and not its callbacks. Of one with
        ``early_stopping="auto"`` that was given rows to validate on, nobody can then tell whether
        it restored an epoch, and none is marked.
        """
        check_is_fitted(estimator)
        best = restored_epoch(estimator)
        return cls(estimator.history_, estimator.task_names_, best).plot(by_task=by_task, ax=ax)

    def plot(self, *, by_task: Any = "auto", ax: Any = None) -> "LossDisplay":
        """Draw a solid line per task for training, a dashed one for rows held out.

        Parameters
        ----------
        by_task : "auto" or bool, default="auto"
            Whether each task gets axes of its own; "auto": where the losses of some task would
            look flat beside the others'.
        ax : matplotlib Axes, default=None
            Where to draw, all tasks at once; a new figure if None.

        Returns
        -------
        LossDisplay

        Raises
        ------
        ValueError
            If the history lacks a task, or `by_task` is true and `ax` is given.
        """
        curves = {name: self._curves(name) for name in self.task_names}
        if ax is not None and by_task is True:
            raise ValueError(
                "`by_task` is True, which makes axes of its own, and `ax` is given; leave out one."
            )
        inside = ax is not None
        several = ax is None and (_some_flat(curves) if by_task == "auto" else by_task)
        if several:
            self.axes_ = make_axes(len(curves), 3, WIDTH, 2.8)
        else:
            self.axes_ = [single_axes(ax)]
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        self.lines_: dict[tuple[str, str], Any] = {}
        for position, (name, of_task) in enumerate(curves.items()):
            ax = self.axes_[position if several else 0]
            for held_out, (rows, losses) in enumerate(of_task.items()):
                style = line_style(held_out if several else position, len(losses))
                style["linestyle"] = "--" if held_out else "-"
                label = f"{name}, {rows}"
                (line,) = ax.plot(self.history["epoch"], losses, label=label, **style)
                self.lines_[name, rows] = line
        if several:
            name_axes(self.axes_, curves, min(len(curves), 3))
        self.best_lines_ = []
        for ax in self.axes_:
            ax.set_xlabel("epoch")
            ax.xaxis.get_major_locator().set_params(integer=True)
            if self.best_epoch is not None:
                mark = ax.axvline(self.best_epoch, color=GRAY, linestyle=":", zorder=0)
                self.best_lines_.append(mark)
        for ax in self.axes_[::3]:
            ax.set_ylabel("loss")
        self._explain(several=several, inside=inside)
        return self

    def _curves(self, name: str) -> dict[str, pd.Series]:
        """Return a task's curves by the rows that they are of."""
        columns = {"training": f"train_loss_{name}", "held out": f"valid_loss_{name}"}
        if columns["training"] not in self.history:
            known = [c.removeprefix("train_loss_") for c in self.history if "train_loss_" in c]
            raise ValueError(
                f"`task_names` has {name!r}, of which `history` has no losses; it has {known}."
            )
        return {rows: self.history[c] for rows, c in columns.items() if c in self.history}

    def _explain(self, *, several: bool, inside: bool) -> None:
        """Say what color and dashes mean, each once."""
        from matplotlib.lines import Line2D

        style: dict[str, Any]
        kinds = list(dict.fromkeys(rows for _, rows in self.lines_))
        entries = []
        if not several:
            for position, name in enumerate(self.task_names):
                style = line_style(position, len(self.history))
                entries.append(Line2D([], [], **style, label=name))
        for rows in kinds:
            color = COLORS[rows == "held out"] if several else GRAY
            style = {"color": color, "linestyle": "--" if rows == "held out" else "-"}
            entries.append(Line2D([], [], **style, label=rows))
        if self.best_epoch is not None:
            label = f"epoch {self.best_epoch}, restored"
            entries.append(Line2D([], [], color=GRAY, linestyle=":", label=label))
        if several:
            self.figure_.legend(handles=entries, loc="outside upper center", ncols=3, fontsize=9)
        else:
            explain(self.ax_, entries, inside=inside)


def _some_flat(curves: dict[str, dict[str, pd.Series]]) -> bool:
    """Whether on common axes some task's curves would look flat."""
    all_losses = [np.concatenate(list(of_task.values())) for of_task in curves.values()]
    spans = [_span(losses) for losses in all_losses]
    return min(spans, default=0.0) * FLAT < _span(np.concatenate(all_losses))


def _span(values: Any) -> float:
    finite = values[np.isfinite(values)]
    return float(np.ptp(finite)) if len(finite) else 0.0


def restored_epoch(estimator: MultiTaskEstimator) -> int | None:
    """Return the epoch, from 1 on, whose state early stopping restored; None if there is none.

    The callback knows, as long as there is one: pickles and files have none. Then the history
    tells: the restored epoch is the first of those with the best value of what was watched.
    """
    history, net, fitted = estimator.history_, estimator.net_, estimator._fitted_
    params = fitted.params
    # A file may lack a scorer that was watched; the history has what it gave.
    is_scored = "valid_score" in history and not np.isnan(history["valid_score"].iloc[-1])
    watched = "valid_score" if is_scored else params["monitor"]
    best = next((c for _, c in net.callbacks_ if isinstance(c, RestoreBest)), None)
    if best is not None:
        before = len(history) - len(net.history)  # epochs of the fits before a warm start
        if best.epoch_:
            return before + best.epoch_
        # No epoch of the last fit was better than what it began with.
        return _first_best(history.iloc[:before], watched) or before or None
    told = params["early_stopping"] is True
    by_itself = fitted.hold_out is not None and params["validation_fraction"] is None
    if fitted.streamed or not (told or by_itself):
        return None
    return _first_best(history, watched)


def _first_best(history: pd.DataFrame, watched: str) -> int | None:
    """Return the first epoch with the lowest loss, or the highest score."""
    if watched not in history or history[watched].isna().all():
        return None
    values = -history[watched] if watched == "valid_score" else history[watched]
    return int(np.nanargmin(values.to_numpy(dtype=np.float64))) + 1
