"""Smooth Tchebycheff scalarization: the worst task counts most."""

import torch
from torch import Tensor

from sk_mtl._checks import check_count, check_number
from sk_mtl.balancing.base import LossBalancer, logarithms, mask


class STCHBalancer(LossBalancer):
    r"""A smooth maximum of the log losses, relative to those after a warm-up.

    .. math:: L = K \mu \log \sum_k \exp\left(\frac{\log(L_k / N_k)}{\mu}\right)

    with :math:`N_k` the mean loss of the last warm-up epoch. In the warm-up :math:`L = \sum_k
    \log L_k`. Weights times losses sum to :math:`K`, and the scale of one task's loss changes no
    task's share. :math:`L` can be negative.

    Parameters
    ----------
    mu : float, default=1.0
        :math:`\mu`; the smaller, the more the worst task counts.
    warmup : int, default=5
        Number of epochs of warm-up.

    Notes
    -----
    NOTE[DIFF]: a task without a label in the last warm-up epoch takes an earlier one's mean loss
    for :math:`N_k`, or the first loss it shows. The authors' code counts warm-up epochs from zero:
    its 4 are 5 here.

    References
    ----------
    X. Lin, X. Zhang, Z. Yang, F. Liu, Z. Wang, Q. Zhang: Smooth Tchebycheff Scalarization for
    Multi-Objective Optimization. ICML 2024; log losses as in the authors' code for multi-task
    learning.

    Examples
    --------
    >>> import torch
    >>> balancer = STCHBalancer(mu=0.1, warmup=1)
    >>> balancer.setup(["click", "buy"], [False, False])
    >>> balancer.end_epoch(torch.tensor([1.0, 2.0]))
    >>> balancer(torch.tensor([1.0, 1.0]))
    tensor(0.0002)
    """

    nadir: Tensor

    def __init__(self, mu: float = 1.0, warmup: int = 5) -> None:
        super().__init__()
        self.mu, self.warmup = mu, warmup

    def begin(self, generator: torch.Generator | None) -> None:
        """Begin the warm-up."""
        check_number("balancer__mu", self.mu, 0, above=True)
        check_count("balancer__warmup", self.warmup)
        self.register_buffer("nadir", torch.full((len(self.names),), torch.nan))
        self.epoch = 0

    def forward(self, losses: Tensor, present: Tensor | None = None) -> Tensor:
        """Reduce the task losses, (K,) -> scalar."""
        present = mask(losses, present)
        logs = logarithms(losses, present)
        if self.epoch < self.warmup:
            return logs.sum()
        least = torch.finfo(losses.dtype).tiny
        first = torch.where(present, losses.detach().clamp(min=least), torch.nan)
        self.nadir = torch.where(self.nadir > 0, self.nadir, first)
        # An absent task's nadir may be unknown. Its term is the least number, not minus infinity,
        # which would make the gradient NaN if all tasks are absent.
        ratio = torch.where(
            present, (logs - self.nadir.log()) / self.mu, torch.finfo(losses.dtype).min
        )
        smooth = self.mu * torch.logsumexp(ratio, 0)
        return torch.where(present.any(), len(losses) * smooth, 0.0)

    def end_epoch(self, losses: Tensor) -> None:
        """Count the epoch; in the warm-up remember its mean losses."""
        self.epoch += 1
        if self.epoch <= self.warmup:
            losses = losses.to(self.nadir)
            self.nadir = torch.where(losses > 0, losses, self.nadir)
