"""ESCM2: conversions after a click, weighed by how likely the click was."""

from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sk_mtl._chains import ConversionEstimator
from sk_mtl.base import NON_NEGATIVE, Interval, Objective, Range, StrOptions, Tasks, parameter
from sk_mtl.nn import doubly_robust, inverse_propensity


class CounterfactualObjective(Objective):
    """The loss of the click; and those of the conversion after a click and of both together.

    Parameters
    ----------
    tasks : sequence of Task
        Click, and click-and-conversion.
    method : {"ips", "dr"}
        How the loss over clicked rows becomes one over all rows; "dr" needs an extra output.
    cvr_weight, ctcvr_weight : float
        Weights of the two losses in the second term.
    clip : float
        Least propensity.
    """

    def __init__(
        self, tasks: Tasks, method: str, cvr_weight: float, ctcvr_weight: float, clip: float
    ) -> None:
        super().__init__(tasks)
        self.cvr_weight, self.ctcvr_weight, self.clip = cvr_weight, ctcvr_weight, clip
        self.extra_outputs = int(method == "dr")
        self.may_be_negative = method == "dr" and cvr_weight > 0

    def forward(
        self, tower_logits: Tensor, logits: Tensor, target: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the sums of the two terms and of their weights, see `Objective.forward`."""
        if weight is not None:
            target = torch.where(weight > 0, target, 0.0)
        click, joint = self.row_losses(logits, target).unbind(1)
        risk = self.risk(tower_logits, target)
        if weight is not None:
            # NOTE[DIFF]: a row whose click is missing counts in the mean with a risk of zero, as
            # long as it has the second label: the sources know no missing clicks.
            risk = risk * (weight[:, 0] > 0)
        second = torch.add(self.ctcvr_weight * joint, risk, alpha=self.cvr_weight)
        if weight is None:
            return torch.stack([click.sum(), second.sum()]), self._full(logits, len(target))
        return (torch.stack([click, second], dim=1) * weight).sum(0), weight.sum(0)

    def risk(self, tower_logits: Tensor, target: Tensor) -> Tensor:
        """Return each row's part in the loss of the conversion after a click: (B, 2) -> (B,)."""
        delta = self.tasks[1].loss(tower_logits[:, 1:2], target[:, 1])
        inverse = inverse_propensity(tower_logits[:, 0], self.clip)
        if not self.extra_outputs:
            return target[:, 0] * inverse * delta
        # NOTE[DIFF]: codes squash the imputed loss by a sigmoid, but a cross-entropy has no bound.
        imputed = F.softplus(tower_logits[:, 2])
        error, imputation = doubly_robust(delta, imputed, target[:, 0], inverse)
        return error + imputation


@dataclass(kw_only=True, eq=False, repr=False)
class ESCM2(ConversionEstimator):
    r"""Entire space counterfactual multi-task model (ESCM2): `ESMM`, its conversion rate unbiased.

    ESMM learns the conversion rate from a product alone. ESCM2 adds the loss of the rate itself on
    clicked rows, each weighed by one over the probability of its click, so that they stand for all
    rows ("ips"); or a model of that loss on all rows, corrected on clicked ones ("dr").

    Parameters
    ----------
    method : {"ips", "dr"}, default="ips"
        Inverse propensity score, or doubly robust. Readers found "dr" the less stable one.
    cvr_weight : float, default=0.1
        Weight :math:`\lambda_c` of the conversion rate's loss.
    ctcvr_weight : float, default=1.0
        Weight :math:`\lambda_g` of the product's loss.
    propensity_clip : float, default=0.1
        Least propensity :math:`c`, from above 0 to 1: no row weighs more than :math:`1 / c`.
    positive : label, list or dict, default=None
        The class that says "reached", such as "click": one label for both tasks, or one per task
        as a list or a dict by name. None: the second class in sorted order, of booleans True.
    bottom : estimator, default=None
        The architecture before the towers, as in `ESMM`; the paper's is ``MMoE()``.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}

    Notes
    -----
    With the click o, :math:`\hat o = \max(\mathrm{sg}(p_{CTR}), c)` and the cross-entropy
    :math:`\delta` of :math:`p_{CVR}`, as means over all n rows with a label of the second task:

    .. math::
        L_{IPS} = \tfrac{1}{n} \sum_i \tfrac{o_i}{\hat o_i} \delta_i, \qquad
        L_{DR} = \tfrac{1}{n} \sum_i \big[\hat\delta_i + \tfrac{o_i}{\hat o_i} (\delta_i -
        \hat\delta_i)\big] + \tfrac{o_i}{\hat o_i} (\mathrm{sg}(\delta_i) - \hat\delta_i)^2

    The terms are :math:`L_{CTR}`, and :math:`\lambda_c L_{IPS/DR} + \lambda_g L_{CTCVR}` under the
    name of the second task, with the weights of its labels. :math:`L_{DR}` may be negative:
    balancers that compare losses refuse it. Where tasks sample their negatives
    (`negative_fraction`), the propensities are those of the sample, and nothing is unbiased.

    NOTE[DIFF]: reconstructed from readers' notes and later papers, the paper's text was not at
    hand. They leave open the range of :math:`\hat\delta`, here a softplus, and what is detached.

    References
    ----------
    H. Wang et al., "ESCM2: Entire Space Counterfactual Multi-Task Model for Post-Click Conversion
    Rate Estimation", SIGIR 2022, arXiv 2204.05125.

    Examples
    --------
    >>> from sk_mtl import ESCM2, MMoE
    >>> from sk_mtl.datasets import make_click_conversion
    >>> world = make_click_conversion(500, random_state=0)
    >>> model = ESCM2(bottom=MMoE(n_experts=2), max_epochs=2, random_state=0)
    >>> model.fit(world.data, world.target).predict_conversion_rate(world.data).shape
    (500,)
    """

    n_tasks: ClassVar[tuple[int, int | None]] = (2, 2)

    method: str = parameter("ips", StrOptions({"ips", "dr"}))
    cvr_weight: float = parameter(0.1, NON_NEGATIVE, search=Range(0.01, 1.0, log=True))
    ctcvr_weight: float = parameter(1.0, NON_NEGATIVE)
    propensity_clip: float = parameter(0.1, Interval(Real, 0, 1, closed="right"))

    def _build_objective(self, tasks: Tasks) -> Objective:
        weights = self.cvr_weight, self.ctcvr_weight
        return CounterfactualObjective(tasks, self.method, *weights, self.propensity_clip)
