"""What ordered tasks hand on to the next one: representations and logits."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sk_mtl.nn.chain import linear, spread
from sk_mtl.nn.stacked import StackedLinear, StackedMLP


class StepAttention(nn.Module):
    r"""Attention of a step over two vectors: its own, and the one handed on by the step before.

    Xi et al., KDD 2021 (AITM): for each of the two vectors u

    .. math:: a_u = \frac{\langle u W_1, u W_2 \rangle}{\sqrt H}, \qquad
        z = \sum_u \mathrm{softmax}(a)_u\; u W_3

    Parameters
    ----------
    features : int
        Width H of the vectors.
    init : float or "glorot", default=0.01
        How the three matrices start: normal with this standard deviation, or Glorot uniform.
    n_members : int, default=1
        Number M of members that have three matrices each.
    generator : torch.Generator, optional
        Source of the initial weights.

    Notes
    -----
    Shape: own (B, M, H), handed on (B, M, H) -> (B, M, H). One instance may serve several steps.
    `share` is a module, (B, M) -> (B, M), so that a hook can read the weight of the own vector.
    """

    def __init__(
        self,
        features: int,
        *,
        init: float | str = 0.01,
        n_members: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.maps = StackedLinear(
            3 * n_members, features, features, bias=False, generator=generator
        )
        if not isinstance(init, str):
            with torch.no_grad():
                self.maps.weight.normal_(0.0, init, generator=generator)
        self.share = nn.Sigmoid()  # the softmax over two, of the difference of their scores

    def forward(self, own: Tensor, handed: Tensor) -> Tensor:
        """Return the mixture of the two."""
        w1, w2, w3 = self.maps.weight.unflatten(0, (-1, 3)).unbind(1)  # (M, H, H) each
        # <u W1, u W2> is a quadratic form. The difference of two, q S q' - p S p', is one product,
        # (q - p) S (q + p)', and W3 of a mixture is another: a third of those of the equations.
        form = torch.bmm(w1.transpose(1, 2), w2)
        form = (form + form.transpose(1, 2)) / (2.0 * math.sqrt(own.shape[-1]))
        apart = own - handed
        share = self.share((_apply(own + handed, form) * apart).sum(-1))
        return _apply(handed + share.unsqueeze(-1) * apart, w3)


def _apply(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply each member's vectors by its matrix: (B, M, in), (M, out, in) -> (B, M, out)."""
    return linear(spread(x, len(weight)), weight, None).transpose(0, 1)


class StepTransfer(nn.Module):
    r"""Each step fused with what the step before hands on, one after the other.

    .. math:: z_1 = q_1, \qquad z_t = \mathrm{attention}(q_t,\, g_{t-1}(z_{t-1}))

    A transfer :math:`g` is a layer H to H of its step's own, and reads the fused vector; the
    attention is one for all steps.

    Parameters
    ----------
    n_steps : int
        Number of steps K, at least two.
    features : int
        Width H.
    init, n_members, generator
        As in `StepAttention`.
    **network
        `activation`, `dropout` and `batch_norm` of the transfers, as in `StackedMLP`.

    Notes
    -----
    Shape: a list of the K steps, (B, M, H) each -> (B, M, K, H)
    """

    def __init__(
        self,
        n_steps: int,
        features: int,
        *,
        init: float | str = 0.01,
        n_members: int = 1,
        generator: torch.Generator | None = None,
        **network: Any,
    ) -> None:
        super().__init__()
        shared: dict[str, Any] = {"n_members": n_members, "generator": generator}
        self.transfers = nn.ModuleList(
            StackedMLP(1, features, (features,), **shared, **network) for _ in range(n_steps - 1)
        )
        self.attention = StepAttention(features, init=init, **shared)

    def forward(self, steps: Sequence[Tensor]) -> Tensor:
        """Fuse all steps but the first."""
        fused = [steps[0]]
        for own, transfer in zip(steps[1:], self.transfers, strict=True):
            fused.append(self.attention(own, transfer(fused[-1])))
        return torch.stack(fused, dim=2)

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what the last step alone moves: its transfer and, of two steps, the attention."""
        yield from self.transfers[-1].parameters()
        if len(self.transfers) == 1:
            yield from self.attention.parameters()


class CumulativeLogits(nn.Module):
    r"""A head that adds to each task's first logit those of all tasks before it.

    .. math:: z_k \leftarrow z_k + z_{k-1} \quad \text{for } k = 2, 3, \ldots, \qquad
        \text{so } z_k \leftarrow \sum_{j \le k} z_j

    Parameters
    ----------
    n_logits : sequence of int, one per task
        Number of logits of each task. Only the first one of a task takes part.

    Notes
    -----
    Shape: (B, L) -> (B, L)

    Examples
    --------
    >>> import torch
    >>> CumulativeLogits([1, 2, 1])(torch.tensor([[1.0, 10.0, 7.0, 100.0]]))
    tensor([[  1.,  11.,   7., 111.]])
    """

    starts: Tensor | None

    def __init__(self, n_logits: Sequence[int]) -> None:
        super().__init__()
        starts = torch.tensor([0, *n_logits[:-1]]).cumsum(0)
        all_single = all(width == 1 for width in n_logits)
        self.register_buffer("starts", None if all_single else starts, persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        """Add up the tasks' first logits."""
        if self.starts is None:
            return logits.cumsum(1)
        return logits.index_copy(1, self.starts, logits[:, self.starts].cumsum(1))
