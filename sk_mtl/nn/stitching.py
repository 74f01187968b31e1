"""Linear combinations of the tasks' activations, the units of cross-stitch networks."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

OWN = 0.9
"""What a task's own activations weigh at first: the best of the paper's four."""


class Stitch(nn.Module):
    r"""Combine what the networks of several tasks give at one layer.

    .. math:: \tilde x_k = \sum_j \alpha_{kj}\, x_j

    Parameters
    ----------
    n_tasks : int
        Number of tasks K.
    units : int or None, default=None
        Width H, for an :math:`\alpha_{kj}` of each unit; None: one for all units.
    rate : float, default=1.0
        Factor of alpha's learning rate.
    n_members : int, default=1
        Number M of members that have a combination each.

    Attributes
    ----------
    alpha : Parameter of shape (M * K, K) or (M * K, K, H)
        The weights: .9 of a task's own activations and .1 / (K - 1) of each other's at first. With
        one task 1.

    Notes
    -----
    Shape: (B, M * K, H) -> (B, M * K, H)
    """

    def __init__(
        self, n_tasks: int, units: int | None = None, *, rate: float = 1.0, n_members: int = 1
    ) -> None:
        super().__init__()
        self.n_tasks, self.n_members, self.rate = n_tasks, n_members, rate
        alpha = torch.full((n_tasks, n_tasks), (1 - OWN) / max(n_tasks - 1, 1))
        alpha.fill_diagonal_(OWN if n_tasks > 1 else 1.0)
        alpha = alpha.repeat(n_members, 1)
        self.alpha = nn.Parameter(
            alpha if units is None else alpha.unsqueeze(2).repeat(1, 1, units)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the combinations."""
        alpha = self.alpha.unflatten(0, (self.n_members, self.n_tasks))
        # Networks come first in memory: a product of each member's alpha with long rows.
        by_task = x.unflatten(1, (self.n_members, self.n_tasks)).permute(1, 2, 0, 3)
        if alpha.ndim == 3:
            combined = torch.bmm(alpha, by_task.flatten(2)).view(by_task.shape)
        else:
            # Products of K by K matrices for each unit take five to ten times as long.
            of_unit, read = alpha.unsqueeze(3), by_task.unsqueeze(1)
            combined = of_unit[:, :, 0] * read[:, :, 0]
            for j in range(1, self.n_tasks):
                combined = torch.addcmul(combined, of_unit[:, :, j], read[:, :, j])
        return combined.permute(2, 0, 1, 3).flatten(1, 2)

    def rate_factors(self) -> dict[nn.Parameter, float]:
        """Return alpha's factor on the learning rate."""
        return {self.alpha: self.rate}

    def undecayed_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what weight decay leaves alone: alpha, which it would draw to zero."""
        yield self.alpha
