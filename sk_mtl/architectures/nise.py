"""NISE: conversions after a click, and rows without one as unlabeled."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sk_mtl._chains import ConversionEstimator
from sk_mtl.base import Objective, Tasks
from sk_mtl.nn import binary_entropy

GREATEST = 50.0
"""Most that the second term is multiplied by, as in the authors' code."""


class SemiSupervisedObjective(Objective):
    """The loss of the click; and that of the conversion rate, its entropy where nobody clicked.

    Parameters
    ----------
    tasks : sequence of Task
        Click, and click-and-conversion.
    """

    def weigh(self, target: Tensor, weight: Tensor | None) -> Tensor | None:
        """Leave rows whose click is missing out of the second term: (B, 2) -> (B, 2)."""
        if weight is None:
            return None
        click, conversion = weight.unbind(1)
        return torch.stack([click, conversion * (click > 0)], dim=1)

    def forward(
        self, tower_logits: Tensor, logits: Tensor, target: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the sums of the two terms and of their weights, see `Objective.forward`."""
        weights = self.weigh(target, weight)
        if weights is None:
            weights = torch.ones_like(target)
        target = torch.where(weights > 0, target, 0.0)
        each = self.row_losses(tower_logits, target)
        rate = torch.where(target[:, 0] > 0, each[:, 1], binary_entropy(tower_logits[:, 1]))
        losses = torch.stack([each[:, 0], rate], dim=1)
        if self.training:
            losses = losses * self.factors(losses.detach(), weights)
        return (losses * weights).sum(0), weights.sum(0)

    def factors(self, losses: Tensor, weights: Tensor) -> Tensor:
        """Return what to multiply the rows' losses by, for each member from its own: (B, 2)."""
        # (B, 2) -> (rows, M, 2): the members of a row stand one after the other.
        of_member = [part.unflatten(0, (-1, self.n_members)) for part in (losses, weights)]
        total = (of_member[0] * of_member[1]).sum(0)
        least = torch.finfo(losses.dtype).tiny
        click, rate = (total / of_member[1].sum(0).clamp(min=least)).unbind(-1)
        factor = (click / rate.clamp(min=least)).clamp(max=GREATEST)
        pair = torch.stack([torch.ones_like(factor), factor], dim=-1)
        return pair.expand(of_member[0].shape).flatten(0, 1)


@dataclass(kw_only=True, eq=False, repr=False)
class NISE(ConversionEstimator):
    r"""Non-click samples improved semi-supervised method (NISE) for conversion rates.

    The conversion rate is learned from clicked rows. Rows without a click are unlabeled: there
    the rate is its own target, which makes it decided, towards 0 or 1. The product of rates, which
    `ESMM` learns from, has no loss, because it counts rows that nobody clicked as no conversions.

    Entropy sharpens the rates: look at their calibration before you take them for probabilities.

    Parameters
    ----------
    positive : label, list or dict, default=None
        The class that says "reached", such as "click": one label for both tasks, or one per task
        as a list or a dict by name. None: the second class in sorted order, of booleans True.
    bottom : estimator, default=None
        The architecture before the towers, such as ``MMoE(n_experts=4)``: of this estimator only
        the parameters of its bottom count. None: the towers read the shared embedding itself.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}

    See Also
    --------
    ESCM2 : Weighs clicked rows so that they stand for all.

    Notes
    -----
    With the click o, the rate :math:`p_{CVR}` and its entropy H in nats, over the n rows with both
    labels:

    .. math::
        L_{CVR} = \tfrac{1}{n} \sum_i \big[o_i\, \mathrm{BCE}(r_i, p_{CVR,i}) + (1 - o_i)\,
        H(p_{CVR,i})\big], \qquad
        L = L_{CTR} + w\, L_{CVR}, \quad w = \mathrm{sg}(\min(L_{CTR} / L_{CVR},\, 50))

    The second term has the second task's name. In each step w makes it as large as the first, or
    50 times as large as it is: so ``train_loss_<task>`` tells nothing of the rates.

    NOTE[DIFF]: on rows to validate on w is 1, so that ``valid_loss_<task>`` is the rates' loss.
    Of several members each has a w of its own.

    The entropy is least where rates are 0 or 1, so that it drives them there: look at their mean.
    Where one row in twenty is clicked, some runs of ours ended with rates near 1
    (docs/results/architectures.md).

    References
    ----------
    J. Huang et al., "Utilizing Non-click Samples via Semi-supervised Learning for Conversion Rate
    Prediction", RecSys 2024, and the authors' code.

    Examples
    --------
    >>> from sk_mtl import NISE
    >>> from sk_mtl.datasets import make_click_conversion
    >>> world = make_click_conversion(500, random_state=0)
    >>> model = NISE(max_epochs=2, random_state=0).fit(world.data, world.target)
    >>> model.predict_conversion_rate(world.data).shape
    (500,)
    """

    n_tasks: ClassVar[tuple[int, int | None]] = (2, 2)

    def _build_objective(self, tasks: Tasks) -> Objective:
        return SemiSupervisedObjective(tasks)
