"""Uncertainty weighting: a trained variance per task."""

import torch
from torch import Tensor, nn

from sk_mtl.balancing.base import LossBalancer, mask


class UncertaintyBalancer(LossBalancer):
    r"""Weights from homoscedastic uncertainty, trained with the network.

    .. math:: L = \sum_k c_k\, e^{-s_k} L_k + \tfrac{1}{2} s_k

    with the log variance :math:`s_k = \log \sigma_k^2`, and :math:`c_k = 1` for classification,
    :math:`c_k = 1/2` for regression. The weights :math:`c_k e^{-s_k}` are not normalized; at the
    start they are :math:`c_k`. :math:`L` can be negative.

    Attributes
    ----------
    log_variance : nn.Parameter of shape (K,)
        The :math:`s_k`, zero at the start, unbounded. The optimizer of the network moves them.

    References
    ----------
    A. Kendall, Y. Gal, R. Cipolla: Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
    Geometry and Semantics. CVPR 2018, eq. 7 and 10.

    Examples
    --------
    >>> import torch
    >>> balancer = UncertaintyBalancer()
    >>> balancer.setup(["click", "price"], [False, True])
    >>> balancer(torch.tensor([1.0, 1.0])).item()
    1.5
    """

    log_variance: nn.Parameter
    scale: Tensor

    def begin(self, generator: torch.Generator | None) -> None:
        """Create the log variances."""
        self.register_buffer(
            "scale", torch.tensor([0.5 if real else 1.0 for real in self.regression])
        )
        self.log_variance = nn.Parameter(torch.zeros(len(self.names)))

    def forward(self, losses: Tensor, present: Tensor | None = None) -> Tensor:
        """Reduce the task losses, (K,) -> scalar."""
        s = self.log_variance
        terms = self.scale * torch.exp(-s) * losses + 0.5 * s
        # A variance learns from labels only: without one its penalty would shrink it.
        return torch.where(mask(losses, present), terms, 0.0).sum()
