"""Geometric loss strategy."""

import torch
from torch import Tensor

from sk_mtl.balancing.base import LossBalancer, logarithms, mask


class GLSBalancer(LossBalancer):
    r"""The geometric mean of the task losses.

    .. math:: L = \prod_{k=1}^K L_k^{1/K}

    A task weighs :math:`L / (K L_k)`: the scale of one task's loss changes no task's share. Tasks
    without a label in the batch are left out of the product and of :math:`K`.

    References
    ----------
    S. Chennupati, G. Sistu, S. Yogamani, S. A. Rawashdeh: MultiNet++: Multi-Stream Feature
    Aggregation and Geometric Loss Strategy for Multi-Task Learning. CVPR Workshops 2019.

    Examples
    --------
    >>> import torch
    >>> GLSBalancer()(torch.tensor([1.0, 4.0])).item()
    2.0
    """

    def forward(self, losses: Tensor, present: Tensor | None = None) -> Tensor:
        """Take the geometric mean, (K,) -> scalar."""
        present = mask(losses, present)
        mean = logarithms(losses, present).sum() / present.sum().clamp(min=1)
        return torch.where(present.any(), mean.exp(), 0.0)
