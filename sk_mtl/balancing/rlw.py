"""Random loss weighting."""

import torch
from torch import Tensor

from sk_mtl.balancing.base import LossBalancer, own_generator


class RLWBalancer(LossBalancer):
    r"""Weights drawn anew for every step.

    .. math:: L = \sum_k \lambda_k L_k, \qquad \lambda = \operatorname{softmax}(z), \quad
        z_k \sim \mathcal{N}(0, 1)

    The weights are positive and sum to one.

    References
    ----------
    B. Lin, F. Ye, Y. Zhang, I. W. Tsang: Reasonable Effectiveness of Random Weighting: A Litmus
    Test for Multi-Task Learning. TMLR 2022, Algorithm 2.

    Examples
    --------
    >>> import torch
    >>> balancer = RLWBalancer()
    >>> balancer.setup(["click", "buy"], [False, False], torch.Generator().manual_seed(0))
    >>> balancer(torch.tensor([2.0, 2.0])).item()
    2.0
    """

    needs_positive = False
    generator: torch.Generator

    def begin(self, generator: torch.Generator | None) -> None:
        """Begin a stream of random numbers."""
        self.generator = own_generator(generator)

    def forward(self, losses: Tensor, present: Tensor | None = None) -> Tensor:
        """Sum the task losses with random weights, (K,) -> scalar."""
        draws = torch.randn(len(losses), generator=self.generator)
        return (torch.softmax(draws.to(losses), 0) * losses).sum()
