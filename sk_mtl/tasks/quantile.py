"""Real values by a quantile."""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import d2_pinball_score
from torch import Tensor

from sk_mtl.tasks.base import Task
from sk_mtl.tasks.regression import RegressionTask


class QuantileTask(RegressionTask):
    r"""A quantile of a real value given the row: pinball loss on the standardized scale.

    .. math:: \ell = \max(q\, d,\; (q - 1)\, d), \qquad d = \frac{y - \mu}{s} - z

    The score is :math:`D^2`, the share of the pinball loss of the labels' own quantile that the
    predictions save. Two quantiles of one value are two tasks: give the column twice.

    Parameters
    ----------
    name : str, default=""
        Name of the task.
    quantile : float, default=0.5
        :math:`q`, between 0 and 1; 0.5 is the median.

    References
    ----------
    R. Koenker, G. Bassett, "Regression Quantiles", Econometrica 46(1), 1978, equation 3.1.

    Examples
    --------
    >>> from sk_mtl import SharedBottom
    >>> from sk_mtl.tasks import QuantileTask
    >>> X, y = [[0.1], [0.5], [0.9]], [1.0, 2.5, 3.0]
    >>> high = QuantileTask(quantile=0.9)
    >>> SharedBottom(task_types=high, max_epochs=2, random_state=0).fit(X, y).predict(X).shape
    (3,)
    """

    kind = "quantile"
    loss_options = ("quantile",)

    def __init__(self, name: str = "", *, quantile: float = 0.5) -> None:
        super().__init__(name)
        self.quantile = quantile

    def fit(self, values: NDArray, weights: NDArray | None, classes: NDArray | None) -> "Task":
        """Learn mean and standard deviation, weighted."""
        self._check_option("quantile", lambda v: 0 < v < 1, "a number between 0 and 1")
        return super().fit(values, weights, classes)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the pinball loss of each row, on the standardized scale."""
        d = target - logits.squeeze(-1)
        return torch.maximum(self.quantile * d, (self.quantile - 1) * d)

    def score(self, labels: NDArray, predicted: NDArray, weights: NDArray | None) -> float:
        """Return D², scikit-learn's `d2_pinball_score`; of constant labels one or zero."""
        if (labels == labels[0]).all():  # scikit-learn divides by zero
            return float(np.array_equal(labels, predicted))
        return float(
            d2_pinball_score(labels, predicted, alpha=self.quantile, sample_weight=weights)
        )
