"""Dynamic weight average: weights from how fast each loss falls."""

import torch
from torch import Tensor

from sk_mtl._checks import check_number
from sk_mtl.balancing.base import LossBalancer


class DWABalancer(LossBalancer):
    r"""Weigh the more a task whose loss fell the less over the last two epochs.

    .. math:: \lambda_k(t) = \frac{K \exp(w_k(t-1) / T)}{\sum_i \exp(w_i(t-1) / T)}, \qquad
        w_k(t-1) = \frac{L_k(t-1)}{L_k(t-2)}

    with :math:`L_k(t)` the mean training loss of epoch :math:`t`. The weights sum to :math:`K`; in
    the first two epochs they are one. A task's last two epochs are those in which it had labels.

    Parameters
    ----------
    temperature : float, default=2.0
        :math:`T`; the larger, the more even the weights.

    References
    ----------
    S. Liu, E. Johns, A. J. Davison: End-to-End Multi-Task Learning with Attention. CVPR 2019,
    eq. 7.

    Examples
    --------
    >>> import torch
    >>> balancer = DWABalancer()
    >>> balancer.setup(["click", "buy"], [False, False])
    >>> for epoch in ([1.0, 1.0], [0.5, 1.0]):
    ...     balancer.end_epoch(torch.tensor(epoch))
    >>> balancer.task_weights()
    tensor([0.8756, 1.1244])
    """

    last: Tensor
    before_last: Tensor

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        self.temperature = temperature

    def begin(self, generator: torch.Generator | None) -> None:
        """Forget all epochs."""
        check_number("balancer__temperature", self.temperature, 0, above=True)
        for name in ("last", "before_last"):
            self.register_buffer(name, torch.full((len(self.names),), torch.nan))

    def task_weights(self) -> Tensor:
        """Return the weights of the current epoch, (K,)."""
        known = self.before_last > 0
        ratio = torch.where(known, self.last / self.before_last, 1.0)
        ratio = ratio.clamp(max=torch.finfo(ratio.dtype).max)  # softmax of infinity is NaN
        return len(ratio) * torch.softmax(ratio / self.temperature, 0)

    def forward(self, losses: Tensor, present: Tensor | None = None) -> Tensor:
        """Sum the weighted task losses, (K,) -> scalar."""
        return (self.task_weights() * losses).sum()

    def end_epoch(self, losses: Tensor) -> None:
        """Remember the epoch's mean losses."""
        losses = losses.to(self.last)
        seen = ~losses.isnan()
        self.before_last = torch.where(seen, self.last, self.before_last)
        self.last = torch.where(seen, losses, self.last)
