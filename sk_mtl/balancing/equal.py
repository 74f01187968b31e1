"""Equal weights: the sum of the task losses."""

import torch
from torch import Tensor

from sk_mtl.balancing.base import LossBalancer, Step


class EqualBalancer(LossBalancer):
    r"""Every task counts alike: :math:`L = \sum_k L_k`.

    Examples
    --------
    >>> import torch
    >>> EqualBalancer()(torch.tensor([1.0, 2.5]))
    tensor(3.5000)
    """

    needs_positive = False
    takes_penalty = True

    def forward(self, losses: Tensor, present: Tensor | None = None) -> Tensor:
        """Sum the task losses, (K,) -> scalar."""
        return losses.sum()

    def backward(self, losses: Tensor, step: Step) -> Tensor:
        """Accumulate the gradients of the sum, and return the sum."""
        # The weights are always ones: no gradient with respect to the losses is needed.
        if self.weights is None or self.weights.device != losses.device:
            self.weights = torch.ones_like(losses.detach())
        loss = losses.sum()
        (loss if step.penalty is None else loss + step.penalty).backward()
        return loss.detach()
