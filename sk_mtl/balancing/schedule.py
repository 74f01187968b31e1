"""Weights that grow or decay with the epochs."""

from typing import Any

import torch
from torch import Tensor

from sk_mtl._checks import numbers_per_task
from sk_mtl.balancing.fixed import FixedBalancer


class ScheduleBalancer(FixedBalancer):
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

    ratios: Tensor

    def __init__(self, task_weights: Any = 1.0, gamma: Any = 1.0) -> None:
        super().__init__(task_weights)
        self.gamma = gamma

    def begin(self, generator: torch.Generator | None) -> None:
        """Check weights and ratios, and begin with the first epoch."""
        super().begin(generator)
        ratios = numbers_per_task("balancer__gamma", self.gamma, self.names, above=True)
        self.register_buffer("ratios", torch.tensor(ratios))
        self.epoch = 0

    def forward(self, losses: Tensor, present: Tensor | None = None) -> Tensor:
        """Sum the task losses with the epoch's weights, (K,) -> scalar."""
        return super().forward(self.ratios**self.epoch * losses)

    def end_epoch(self, losses: Tensor) -> None:
        """Go on to the next epoch."""
        self.epoch += 1
