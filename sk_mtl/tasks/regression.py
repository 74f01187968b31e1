"""Real values by their mean."""

from copy import copy
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import r2_score
from torch import Tensor

from sk_mtl.tasks.base import Task, check_finite


class RegressionTask(Task):
    r"""A real value, standardized for training: squared error in units of its variance.

    .. math:: \ell = \left(z - \frac{y - \mu}{s}\right)^2

    with mean :math:`\mu` and standard deviation :math:`s` of the observed labels, weighted.

    Parameters
    ----------
    name : str, default=""
        Name of the task.
    """

    kind = "regression"
    loss_options: ClassVar[tuple[str, ...]] = ()

    def fit(self, values: NDArray, weights: NDArray | None, classes: NDArray | None) -> "Task":
        """Learn mean and standard deviation, weighted."""
        numbers = check_finite(self, values)
        with np.errstate(over="ignore", invalid="ignore"):
            self.mean_ = float(np.average(numbers, weights=weights))
            scale = float(np.sqrt(np.average((numbers - self.mean_) ** 2, weights=weights)))
        if not np.isfinite(scale):
            raise ValueError(
                f"Task {self.name!r} has a variance too large for dtype('float64'); give it in a "
                "larger unit."
            )
        # Of a constant target (or rounding noise of one) only the mean is to be learned.
        self.constant_ = not scale > 10 * np.finfo(np.float64).eps * abs(self.mean_)
        self.scale_ = 1.0 if self.constant_ else scale
        return self

    def update(self, values: NDArray, weights: NDArray | None) -> "Task":
        """Return the task with the scale of further labels, if those so far had none."""
        if not self.constant_ or len(values) == 0:
            return self
        return copy(self).fit(np.append(values, self.mean_), None, None)

    def encode(self, values: NDArray) -> NDArray:
        """Return the standardized values."""
        return (check_finite(self, values) - self.mean_) / self.scale_

    def restore(self, target: Tensor) -> Tensor:
        """Return standardized values on their own scale."""
        return target * self.scale_ + self.mean_

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the squared error of each row, on the standardized scale."""
        return (logits.squeeze(-1) - target).square()

    def link(self, logits: Tensor) -> Tensor:
        """Return the values on their own scale: (B, 1) -> (B, 1)."""
        # As tensors: torch.onnx rounds Python's numbers to float32, and dates in seconds need more.
        scale, mean = (logits.new_tensor(number) for number in (self.scale_, self.mean_))
        return logits * scale + mean

    def decode(self, block: NDArray) -> NDArray:
        """Return the value of each row."""
        return block[:, 0]

    def score(self, labels: NDArray, predicted: NDArray, weights: NDArray | None) -> float:
        """Return R², the coefficient of determination."""
        return float(r2_score(labels, predicted, sample_weight=weights))
