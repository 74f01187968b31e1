"""MetaBalance: auxiliary gradients of the magnitude of the target task's."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from sk_mtl._checks import check_number
from sk_mtl.balancing.gradients import GradientBalancer


class MetaBalanceBalancer(GradientBalancer):
    r"""Bring the auxiliary tasks' gradients to the magnitude of the target task's.

    For each shared parameter :math:`\theta`, with moving averages :math:`m` of gradient norms,

    .. math:: m_k \leftarrow \beta\, m_k + (1 - \beta) \lVert G_k \rVert, \qquad
        G_k \leftarrow r\, \frac{m_{\text{target}}}{m_k} G_k + (1 - r)\, G_k

    with :math:`G_k = \nabla_\theta L_k`. The gradient of :math:`\theta` is the sum of the
    :math:`G_k`; the target's own keeps its size. With :math:`r = 1` the scale of an auxiliary loss
    does not matter.

    Parameters
    ----------
    target : str or int, default=0
        Name or index of the task that counts; the others are there to help it.
    relax : float, default=0.7
        The relax factor :math:`r` in [0, 1]: 0 is no balancing, 1 equal magnitudes.
    beta : float, default=0.9
        :math:`\beta`, how slowly the moving averages move.

    Notes
    -----
    NOTE[DIFF]: averages are corrected for their start at zero, which changes nothing as long as
    all tasks have labels in all batches. Parameters that the target task does not reach get the
    plain sum. Embedding tables with sparse gradients take part.

    References
    ----------
    Y. He, X. Feng, C. Cheng, G. Ji, Y. Guo, J. Caverlee: MetaBalance: Improving Multi-Task
    Recommendations via Adapting Gradient Magnitudes of Auxiliary Tasks. WWW 2022, Algorithm 1.

    Examples
    --------
    >>> import torch
    >>> from sk_mtl.balancing import Step
    >>> balancer = MetaBalanceBalancer(target="buy", relax=1.0)
    >>> balancer.setup(["click", "buy"], [False, False])
    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> balancer.backward(torch.stack([8 * w[0], 2 * w[1]]), Step([w], [])).item()
    10.0
    >>> w.grad
    tensor([2., 2.])
    """

    magnitudes: Tensor | None
    counts: Tensor

    def __init__(self, target: Any = 0, relax: float = 0.7, beta: float = 0.9) -> None:
        super().__init__()
        self.target, self.relax, self.beta = target, relax, beta

    def begin(self, generator: torch.Generator | None) -> None:
        """Find the target task, and forget all magnitudes."""
        super().begin(generator)
        check_number("balancer__relax", self.relax, 0, 1)
        check_number("balancer__beta", self.beta, 0, 1, below=True)
        self.position = self._find_target()
        self.register_buffer("magnitudes", None)
        self.register_buffer("counts", torch.zeros(len(self.names)))

    def _find_target(self) -> int:
        target = self.target
        if target in self.names:
            return self.names.index(target)
        if isinstance(target, Integral) and not isinstance(target, bool):
            index = int(target)
            if 0 <= index < len(self.names):
                return index
        raise ValueError(
            f"`balancer__target` is {target!r}, which is no task; pass one of "
            f"{list(self.names)} or its index."
        )

    def combine(self, rows: Sequence[Tensor], present: Sequence[int]) -> Sequence[Tensor]:
        """Scale the auxiliary gradients and sum all."""
        norms = torch.stack([torch.linalg.vector_norm(g, dim=1) for g in rows])
        if self.magnitudes is None:
            self.magnitudes = norms.new_zeros(len(rows), len(self.names))
        self.counts[present] += 1
        self.magnitudes[:, present] = (
            self.beta * self.magnitudes[:, present] + (1 - self.beta) * norms
        )
        mean = self.magnitudes / (1 - self.beta ** self.counts.clamp(min=1))
        aim, mean = mean[:, [self.position]], mean[:, present]
        ratio = torch.where((aim > 0) & (mean > 0), aim / mean, 1.0)
        factors = self.relax * ratio + 1 - self.relax
        return [factor @ g for factor, g in zip(factors, rows, strict=True)]
