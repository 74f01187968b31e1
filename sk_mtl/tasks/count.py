"""Counts and amounts."""

from copy import copy
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import d2_tweedie_score
from torch import Tensor

from sk_mtl.tasks.base import Task, check_finite

LINEAR_FROM = 10.0
"""Logit from which the mean grows linearly: 22,026 times the mean of the labels."""

ZERO = 1e-20
"""Encoded labels up to this one count as zero in the loss."""


class CountTask(Task):
    r"""A count or an amount of at least zero: Poisson deviance with a log link.

    .. math::
        \ell = t \log \frac{t}{m} - t + m, \qquad t = y / \bar y, \quad m = e^z

    with the weighted mean :math:`\bar y` of the observed labels; :math:`m \bar y` is predicted.
    The loss is half the deviance of the labels in units of their mean, so it is at least zero and
    does not depend on the unit of an amount. The score is :math:`D^2`, the share of the deviance
    of the labels' mean that the predictions explain.

    Parameters
    ----------
    name : str, default=""
        Name of the task.

    Notes
    -----
    From :math:`z = 10` on m is continued by its tangent, :math:`m = e^{10} (z - 9)`, so that no
    finite logit gives an infinite loss.

    References
    ----------
    P. McCullagh, J. A. Nelder, "Generalized Linear Models", 2nd edition, 1989, chapter 6.

    Examples
    --------
    >>> from sk_mtl import SharedBottom
    >>> X, y = [[0.1], [0.5], [0.9]], [0, 2, 5]
    >>> model = SharedBottom(task_types="count", max_epochs=2, random_state=0).fit(X, y)
    >>> bool((model.predict(X) > 0).all())
    True
    """

    kind = "count"
    loss_options: ClassVar[tuple[str, ...]] = ()

    def fit(self, values: NDArray, weights: NDArray | None, classes: NDArray | None) -> "Task":
        """Learn the mean, weighted."""
        with np.errstate(over="ignore"):
            mean = float(np.average(self._amounts(values), weights=weights))
        if not np.isfinite(mean):
            raise ValueError(
                f"Task {self.name!r} has a mean too large for dtype('float64'); give it in a "
                "larger unit."
            )
        self.zero_ = not mean > 0
        self.mean_ = 1.0 if self.zero_ else mean
        return self

    def update(self, values: NDArray, weights: NDArray | None) -> "Task":
        """Return the task with the mean of further labels, if those so far were all zero."""
        if not self.zero_ or len(values) == 0:
            return self
        return copy(self).fit(values, weights, None)

    def _amounts(self, values: NDArray) -> NDArray:
        amounts = check_finite(self, values)
        if (amounts < 0).any():
            raise ValueError(
                f"Task {self.name!r} is declared {self.kind!r} and has the label "
                f"{values[amounts < 0].tolist()[0]!r}. Pass 'regression' for it, or labels of at "
                "least 0."
            )
        return amounts

    def encode(self, values: NDArray) -> NDArray:
        """Return the values in units of their mean."""
        return self._amounts(values) / self.mean_

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return half the Poisson deviance of each row, in units of the mean."""
        mean, log_mean = _mean(logits.squeeze(-1))
        positive = target > ZERO
        ratio = log_mean - torch.where(positive, target, 1.0).log()
        # t (e^r - 1 - r) is exact near its minimum, where t log(t/m) - t + m is all rounding. The
        # relu is for libraries whose expm1 is off by the last bit.
        return torch.where(positive, target * (ratio.expm1() - ratio).relu(), mean)

    def link(self, logits: Tensor) -> Tensor:
        """Return the expected values: (B, 1) -> (B, 1)."""
        return _mean(logits)[0] * logits.new_tensor(self.mean_)  # see `RegressionTask.link`

    def decode(self, block: NDArray) -> NDArray:
        """Return the value of each row."""
        return block[:, 0]

    def score(self, labels: NDArray, predicted: NDArray, weights: NDArray | None) -> float:
        """Return D², scikit-learn's `d2_tweedie_score`; of constant labels one or zero."""
        if (labels == labels[0]).all():  # scikit-learn divides by zero
            return float(np.array_equal(labels, predicted))
        above_zero = np.maximum(predicted, np.finfo(np.float64).tiny)
        return float(d2_tweedie_score(labels, above_zero, power=1, sample_weight=weights))


def _mean(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean in units of the labels' mean, and its logarithm."""
    beyond = (z - LINEAR_FROM).relu()
    power = z.clamp(max=LINEAR_FROM)
    return power.exp() * (1 + beyond), power + beyond.log1p()
