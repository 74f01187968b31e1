"""Weights that grow or decay with the epochs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sk_mtl.balancing._checks import check_per_task
from sk_mtl.balancing.base import LossBalancer


class ScheduleBalancer(LossBalancer):
    r"""Weights in geometric progression over the epochs, as proposed with PLE.

    .. math:: L = \sum_k \omega_k^{(t)} L_k, \qquad
        \omega_k^{(t)} = \omega_{k,0} \, \gamma_k^t

    with :math:`t = 0` in the first epoch. The weights are not normalized.

    Parameters
    ----------
    task_weights : float, list of float or dict, default=1.0
        The weights :math:`\omega_{k,0}` of the first epoch: one for all tasks, one per task, or by
        task name (1 for those not named).
    gamma : float, list of float or dict, default=1.0
        The ratios :math:`\gamma_k` of one epoch's weight to the last one's, likewise.

    References
    ----------
    H. Tang, J. Liu, M. Zhao, X. Gong: Progressive Layered Extraction (PLE): A Novel Multi-Task
    Learning (MTL) Model for Personalized Recommendations. RecSys 2020, eq. 10.

    Examples
    --------
    >>> import torch
    >>> balancer = ScheduleBalancer(gamma=[0.5, 1.0])
    >>> balancer.setup(["click", "buy"], [False, False])
    >>> losses = torch.tensor([1.0, 1.0])
    >>> balancer.end_epoch(losses)
    >>> balancer(losses)
    tensor(1.5000)
    """

    factors: Tensor
    ratios: Tensor

    def __init__(self, task_weights: Any = 1.0, gamma: Any = 1.0) -> None:
        super().__init__()
        self.task_weights, self.gamma = task_weights, gamma

    def setup(
        self,
        names: Sequence[str],
        regression: Sequence[bool],
        generator: torch.Generator | None = None,
    ) -> None:
        """Check weights and ratios, and begin with the first epoch."""
        super().setup(names, regression, generator)
        weights = check_per_task("task_weights", self.task_weights, names)
        if not any(weights):
            raise ValueError("`balancer__task_weights` are all zero; at least one task must count.")
        ratios = check_per_task("gamma", self.gamma, names, above=True)
        self.register_buffer("factors", torch.tensor(weights))
        self.register_buffer("ratios", torch.tensor(ratios))
        self.epoch = 0

    def forward(self, losses: Tensor) -> Tensor:
        """Sum the task losses with the epoch's weights, (K,) -> scalar."""
        return (self.factors * self.ratios**self.epoch * losses).sum()

    def end_epoch(self, losses: Tensor) -> None:
        """Go on to the next epoch."""
        self.epoch += 1
