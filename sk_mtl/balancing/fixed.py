"""Fixed weights."""

from typing import Any

import torch
from torch import Tensor

from sk_mtl._checks import weights_per_task
from sk_mtl.balancing.base import LossBalancer


class FixedBalancer(LossBalancer):
    r"""Constant weights: :math:`L = \sum_k w_k L_k`.

    Unlike an estimator's `loss_weights` they change the gradients only, not the losses that
    `history_` and early stopping read.

    Parameters
    ----------
    task_weights : float, list of float or dict, default=1.0
        The weights :math:`w_k`, not normalized: one for all tasks, one per task, or by task name
        (1 for those not named). Not called ``weights``: that is what every balancer reports.

    Examples
    --------
    >>> import torch
    >>> balancer = FixedBalancer({"buy": 3.0})
    >>> balancer.setup(["click", "buy"], [False, False])
    >>> balancer(torch.tensor([1.0, 2.0]))
    tensor(7.)
    """

    needs_positive = False
    factors: Tensor

    def __init__(self, task_weights: Any = 1.0) -> None:
        super().__init__()
        self.task_weights = task_weights

    def begin(self, generator: torch.Generator | None) -> None:
        """Check the weights."""
        weights = weights_per_task("balancer__task_weights", self.task_weights, self.names)
        self.register_buffer("factors", torch.tensor(weights))

    def forward(self, losses: Tensor, present: Tensor | None = None) -> Tensor:
        """Sum the weighted task losses, (K,) -> scalar."""
        return (self.factors * losses).sum()
