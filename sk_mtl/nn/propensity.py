"""Losses over rows of which only some, the clicked ones, show their label."""

import torch
import torch.nn.functional as F
from torch import Tensor


def inverse_propensity(logits: Tensor, clip: float) -> Tensor:
    r"""Return 1 / max(sigmoid(z), clip), the weight of a row whose label was seen.

    .. math:: 1 / \max(\mathrm{sg}(\sigma(z)), c)

    No gradient flows: a propensity that the weighted loss could move would grow where that loss is
    large.

    Parameters
    ----------
    logits : Tensor of shape (B,)
        Logits of the probability that a row shows its label.
    clip : float
        Least propensity :math:`c`, above 0: no row weighs more than :math:`1 / c`.

    Returns
    -------
    Tensor of shape (B,)
        From 1 to :math:`1 / c`.
    """
    return logits.detach().sigmoid().clamp(min=clip).reciprocal()


def doubly_robust(
    delta: Tensor, imputed: Tensor, seen: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Return each row's doubly robust loss, and the loss of what was imputed.

    .. math::
        e = \hat\delta + \frac{o}{\hat o} (\delta - \hat\delta), \qquad
        i = \frac{o}{\hat o} (\mathrm{sg}(\delta) - \hat\delta)^2

    Parameters
    ----------
    delta : Tensor of shape (B,)
        Losses :math:`\delta` of the rows; what stands in rows not seen does not count.
    imputed : Tensor of shape (B,)
        Estimates :math:`\hat\delta` of them, in all rows.
    seen : Tensor of shape (B,)
        Whether a row shows its label: :math:`o`, 1 or 0.
    inverse : Tensor of shape (B,)
        The inverse propensities :math:`1 / \hat o`.

    Returns
    -------
    error : Tensor of shape (B,)
        :math:`e`; it can be negative.
    imputation : Tensor of shape (B,)
        :math:`i`. Its gradient moves the estimates towards the losses, and not the losses.

    Examples
    --------
    >>> import torch
    >>> delta, imputed = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])
    >>> doubly_robust(delta, imputed, torch.tensor([1.0, 0.0]), torch.tensor([4.0, 4.0]))
    (tensor([2.5000, 0.5000]), tensor([1., 0.]))
    """
    weight = seen * inverse
    error = imputed + weight * (delta - imputed)
    return error, weight * (delta.detach() - imputed).square()


def binary_entropy(logits: Tensor) -> Tensor:
    r"""Return the entropy of a probability in nats, from its logit.

    .. math:: H(p) = -p \log p - (1 - p) \log(1 - p), \qquad p = \sigma(z)

    Parameters
    ----------
    logits : Tensor
        Logits :math:`z` of any size.

    Returns
    -------
    Tensor
        Of the same shape, from 0 to log 2.

    Examples
    --------
    >>> import torch
    >>> binary_entropy(torch.tensor([0.0, 3.0, -1000.0]))
    tensor([0.6931, 0.1909, 0.0000])
    """
    # Both terms are positive: softplus(z) - z sigmoid(z) would lose all digits of a small entropy.
    size = logits.abs()
    return F.softplus(-size) + size * torch.sigmoid(-size)
