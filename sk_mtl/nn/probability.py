"""Products of probabilities without leaving log space."""

import math

import torch
from torch import Tensor, nn


def logit_of_product(a: Tensor, b: Tensor) -> Tensor:
    r"""Return logit(sigmoid(a) * sigmoid(b)), exact for logits of any size.

    .. math::
        \mathrm{logit}(\sigma(a)\sigma(b)) = -\log(e^{-a} + e^{-b} + e^{-a-b})

    Parameters
    ----------
    a, b : Tensor
        Logits, of one shape.

    Returns
    -------
    Tensor
        Of the same shape; finite, with finite gradients, wherever ``a``, ``b``, ``a + b`` are.

    Examples
    --------
    >>> import torch
    >>> a, b = torch.tensor([0.3, -800.0]), torch.tensor([-1.2, -800.0])
    >>> logit_of_product(a, b)
    tensor([   -1.8750, -1600.0000])
    """
    return -torch.logsumexp(torch.stack([-a, -b, -a - b]), dim=0)


class ProbabilityChain(nn.Module):
    r"""Joint logits of a chain of steps, each conditional on the one before.

    Ma et al., SIGIR 2018 (ESMM): :math:`p_{CTCVR} = p_{CTR}\, p_{CVR}`; with more steps the
    probability of having come to step k is :math:`p_1 p_2 \cdots p_k`.

    Notes
    -----
    Shape: conditional logits (B, K) -> joint logits (B, K). The first column is unchanged.
    """

    def forward(self, logits: Tensor) -> Tensor:
        """Chain the steps' conditional logits into joint ones."""
        joint = [logits[:, 0]]
        for step in logits.unbind(1)[1:]:
            joint.append(logit_of_product(joint[-1], step))
        return torch.stack(joint, dim=1)


def chain_rates(logits: Tensor) -> Tensor:
    r"""Return the probability of each step given the one before, of several chains averaged.

    .. math:: r_k = \frac{\sum_m p_{m,1} \cdots p_{m,k}}{\sum_m p_{m,1} \cdots p_{m,k-1}}

    The product of a chain's averaged rates is then its averaged joint probability, which the mean
    of the rates does not give.

    Parameters
    ----------
    logits : Tensor of shape (B, M, K)
        Conditional logits of K steps of M chains.

    Returns
    -------
    Tensor of shape (B, K)
        The rates.
    """
    # The difference of two large logarithms wants float64.
    joint = nn.functional.logsigmoid(logits.double()).cumsum(2).logsumexp(1)
    first = joint[:, :1] - math.log(logits.shape[1])
    rates = torch.cat([first, joint.diff(dim=1)], dim=1)
    return rates.exp().to(logits.dtype)
