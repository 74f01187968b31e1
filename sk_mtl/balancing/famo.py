"""Fast adaptive multitask optimization: weights from what the last step did to the losses."""

from typing import ClassVar

import torch
from torch import Tensor

from sk_mtl._checks import check_number
from sk_mtl.balancing._adam import TaskAdam
from sk_mtl.balancing.base import LossBalancer, logarithms, mask

EPS = 1e-8
"""Added to a loss before its logarithm, as in the authors' code."""


class FAMOBalancer(LossBalancer):
    r"""Let all losses fall at the same rate, measured after each step on its own batch.

    .. math:: L = c \sum_k z_k \log L_k, \qquad z = \operatorname{softmax}(\xi), \qquad
        c = \Big(\sum_k z_k / L_k\Big)^{-1}

    with :math:`c` and :math:`z` held constant. After the step the logits move by Adam along

    .. math:: \nabla z^\top \delta + \gamma \xi, \qquad
        \delta_k = \log L_k^{\text{before}} - \log L_k^{\text{after}}

    The weights :math:`c\, z_k / L_k` sum to one; the scale of one task's loss changes no task's
    share. A step costs one more forward pass.

    Parameters
    ----------
    gamma : float, default=1e-3
        :math:`\gamma`, how strongly the logits are drawn to zero, to even shares.
    lr : float, default=0.025
        Step size of the logits.

    Notes
    -----
    Losses are taken plus :math:`10^{-8}` in the logarithms. Tasks without a label in the batch
    have share zero, and their logits stay.

    References
    ----------
    B. Liu, Y. Feng, P. Stone, Q. Liu: FAMO: Fast Adaptive Multitask Optimization. NeurIPS 2023,
    Algorithm 1; Adam as in Algorithm 2.

    Examples
    --------
    >>> import torch
    >>> balancer = FAMOBalancer(lr=0.1)
    >>> balancer.setup(["click", "buy"], [False, False])
    >>> balancer(torch.tensor([1.0, 1.0])).item()
    0.0
    >>> balancer.after_step(torch.tensor([0.5, 1.0]))
    >>> balancer.logits
    tensor([-0.1000,  0.1000])
    """

    step_hook: ClassVar[bool] = True
    logits: Tensor
    before: Tensor
    present: Tensor

    def __init__(self, gamma: float = 1e-3, lr: float = 0.025) -> None:
        super().__init__()
        self.gamma, self.lr = gamma, lr

    def begin(self, generator: torch.Generator | None) -> None:
        """Begin with even shares."""
        check_number("balancer__gamma", self.gamma, 0)
        check_number("balancer__lr", self.lr, 0, above=True)
        self.register_buffer("logits", torch.zeros(len(self.names)))
        self.adam = TaskAdam(len(self.names))

    def forward(self, losses: Tensor, present: Tensor | None = None) -> Tensor:
        """Reduce the task losses, (K,) -> scalar."""
        self.before, self.present = losses.detach(), mask(losses, present)
        share = self._shares()
        total = (share / (losses.detach() + EPS)).sum()
        scaled = share / torch.where(total > 0, total, 1.0)
        return (scaled * logarithms(losses, self.present, EPS)).sum()

    def after_step(self, losses: Tensor) -> None:
        """Move the logits by how much each loss fell."""
        present, share = self.present, self._shares()
        fall = logarithms(self.before, present, EPS) - logarithms(losses, present, EPS)
        gradient = share * (fall - (share * fall).sum()) + self.gamma * self.logits
        self.logits = self.logits + self.adam(gradient, self.lr, present)

    def _shares(self) -> Tensor:
        """Return the softmax of the logits over the tasks present in the batch."""
        share = torch.softmax(self.logits, 0) * self.present
        return share / share.sum().clamp(min=torch.finfo(share.dtype).tiny)
