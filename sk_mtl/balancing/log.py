"""The sum of log losses."""

from torch import Tensor

from sk_mtl.balancing.base import LossBalancer, logarithms, mask

EPS = 1e-8
"""Added to a loss before its logarithm, as in the authors' code."""


class LogBalancer(LossBalancer):
    r"""The sum of the logarithms of the task losses: the loss-scale part of DB-MTL.

    .. math:: L = \sum_k \log(L_k + \epsilon), \qquad \epsilon = 10^{-8}

    A task weighs :math:`1 / (L_k + \epsilon)`, whatever the others do, so that the scale of its
    loss does not matter. The weights are not normalized, and :math:`L` can be negative.

    Notes
    -----
    NOTE[DIFF]: DB-MTL then brings the tasks' gradients to equal norms. That second part is not
    here; a gradient balancer does the like.

    References
    ----------
    B. Lin, W. Jiang, F. Ye, Y. Zhang, P. Chen, Y. Chen, S. Liu, I. W. Tsang, J. T. Kwok:
    Dual-Balancing for Multi-Task Learning. arXiv 2308.12029.

    Examples
    --------
    >>> import torch
    >>> LogBalancer()(torch.tensor([1.0, 4.0]))
    tensor(1.3863)
    """

    def forward(self, losses: Tensor, present: Tensor | None = None) -> Tensor:
        """Sum the log losses, (K,) -> scalar."""
        return logarithms(losses, mask(losses, present), EPS).sum()
