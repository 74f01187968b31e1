"""Equal weights: the sum of the task losses."""

from torch import Tensor

from sk_mtl.balancing.base import LossBalancer


class EqualBalancer(LossBalancer):
    r"""Every task counts alike: :math:`L = \sum_k L_k`.

    Examples
    --------
    >>> import torch
    >>> EqualBalancer()(torch.tensor([1.0, 2.5]))
    tensor(3.5000)
    """

    def forward(self, losses: Tensor) -> Tensor:
        """Sum the task losses, (K,) -> scalar."""
        return losses.sum()
