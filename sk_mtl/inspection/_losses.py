"""Learning curves, one per task."""

from typing import Any

import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sk_mtl.base import MultiTaskEstimator


class LossDisplay:
    """Each task's loss over the epochs, in training and on held-out rows.

    Parameters
    ----------
    history : DataFrame
        An estimator's `history_`.
    task_names : list of str
        The tasks to draw.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure drawn on.
    ax_ : matplotlib Axes
        The axes drawn on.
    """

    def __init__(self, history: pd.DataFrame, task_names: list[str]) -> None:
        self.history, self.task_names = history, task_names

    @classmethod
    def from_estimator(cls, estimator: MultiTaskEstimator, *, ax: Any = None) -> "LossDisplay":
        """Draw the learning curves of a fitted estimator.

        Parameters
        ----------
        estimator : MultiTaskEstimator
            A fitted estimator.
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        LossDisplay
        """
        check_is_fitted(estimator)
        return cls(estimator.history_, estimator.task_names_).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> "LossDisplay":
        """Draw a solid line per task for training, a dashed one for validation.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        LossDisplay
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        self.ax_, self.figure_ = ax, ax.figure
        epochs = self.history["epoch"]
        for name in self.task_names:
            (line,) = ax.plot(epochs, self.history[f"train_loss_{name}"], label=name)
            valid = f"valid_loss_{name}"
            if valid in self.history:
                ax.plot(epochs, self.history[valid], "--", color=line.get_color())
        ax.set_xlabel("epoch")
        ax.set_ylabel("loss (dashed: held-out rows)")
        ax.legend()
        return self
