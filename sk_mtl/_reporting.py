"""scikit-learn's own callbacks (from 1.9 on): they see the fit and each of its epochs."""

from collections.abc import Callable
from typing import Any


class FitReport:
    """Report a fit and its epochs to the callbacks set on an estimator.

    Parameters
    ----------
    estimator : estimator
        The estimator that is being fitted; callbacks come from its `set_callbacks`.
    X, y, sample_weight
        As handed to `fit`.
    max_epochs : int
        Number of epochs at most.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any, max_epochs: int) -> None:
        self.estimator = estimator
        weighted = sample_weight is not None
        metadata = {"sample_weight": sample_weight} if weighted else {}
        self.data = {"X": X, "y": y, "metadata": metadata}
        self.context = estimator._init_callback_context(max_subtasks=max_epochs)
        self.context.call_on_fit_task_begin(estimator=estimator, **self.data)

    def begin_epoch(self) -> None:
        """Report the begin of an epoch."""
        self.epoch = self.context.subcontext(task_name="epoch")
        self.epoch.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def end_epoch(self, fitted: Callable[[], dict[str, Any]]) -> bool:
        """Report the end of an epoch; return whether a callback wants training to stop.

        `fitted` returns the attributes of an estimator fitted up to now, called only if needed.
        """
        return bool(
            self.epoch.call_on_fit_task_end(
                estimator=self.estimator, reconstruction_attributes=fitted, **self.data
            )
        )

    def end(self, fitted: Callable[[], dict[str, Any]]) -> None:
        """Report the end of the fit."""
        self.context.call_on_fit_task_end(
            estimator=self.estimator, reconstruction_attributes=fitted, **self.data
        )
