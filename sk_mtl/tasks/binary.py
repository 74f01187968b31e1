"""Two classes."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sk_mtl.tasks.base import Task, shorten
from sk_mtl.tasks.classification import ClassificationTask, check_focus


class BinaryTask(ClassificationTask):
    r"""Two classes, one logit: that of the positive class.

    .. math::
        \ell = -\alpha\, t\, (1-p)^\gamma \log p - (1-t)\, p^\gamma \log(1-p), \qquad
        t = y (1 - \epsilon) + \epsilon / 2, \quad p = \sigma(z - \log r)

    with :math:`y = 1` for the positive class. With the options left alone it is the
    cross-entropy.

    Parameters
    ----------
    name : str, default=""
        Name of the task.
    class_weight : "balanced", dict or None, default=None
        Factors of the labels' weights, see `ClassificationTask`: they count in the sum of weights
        that the loss is divided by.
    positive : label or None, default=None
        The positive class; None: the second one in sorted order, of booleans True. Columns of
        `predict_proba` stand in sorted order in any case, and decision values above zero mean
        the second one.
    pos_weight : float or None, default=None
        :math:`\alpha`, a factor of the positive class's loss; nothing is divided by it.
    focal_gamma : float, default=0.0
        :math:`\gamma` of the focal loss: the greater, the less the rows count that are already
        predicted well.
    label_smoothing : float, default=0.0
        :math:`\epsilon`, from 0 up to 1: the share of each label that goes to both classes alike.
    negative_fraction : float or None, default=None
        :math:`r`, above 0 and up to 1: the probability with which a fit keeps a negative label,
        drawn from the estimator's `random_state` anew at each fit. A label not kept counts as not
        observed, and a row left without any label is not trained on, so that it costs nothing; a
        `partial_fit` on no other rows changes nothing. Where several tasks of a row sample with
        one fraction, they keep and drop their labels together.

    Notes
    -----
    Among the labels kept the odds of the positive class are those of all labels divided by
    :math:`r`. The loss is therefore taken of :math:`z - \log r`: the :math:`z` that it fits is
    the logit over all labels. So predictions are calibrated as they are, and a product of
    probabilities, such as ESMM's, holds while training. Class weights, `pos_weight`,
    `focal_gamma` and `label_smoothing` do change the probabilities. ``class_weight="balanced"``
    counts the labels before any is dropped.

    References
    ----------
    T.-Y. Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 3.

    C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
    section 7.

    X. He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD 2014,
    section 6.3, for the sampling of negatives and its correction.

    Examples
    --------
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_click_conversion
    >>> from sk_mtl.tasks import BinaryTask
    >>> world = make_click_conversion(500, random_state=0)
    >>> kinds = BinaryTask(negative_fraction=0.2)
    >>> model = MMoE(task_types=kinds, max_epochs=2, random_state=0)
    >>> model.fit(world.data, world.target).predict_proba(world.data).shape
    (500, 4)
    """

    kind = "binary"
    _first_is_positive = False
    loss_options = ("pos_weight", "focal_gamma", "label_smoothing", "negative_fraction")

    def __init__(
        self,
        name: str = "",
        *,
        class_weight: Any = None,
        positive: Any = None,
        pos_weight: float | None = None,
        focal_gamma: float = 0.0,
        label_smoothing: float = 0.0,
        negative_fraction: float | None = None,
    ) -> None:
        super().__init__(name, class_weight=class_weight)
        self.positive = positive
        self.pos_weight = pos_weight
        self.focal_gamma = focal_gamma
        self.label_smoothing = label_smoothing
        self.negative_fraction = negative_fraction

    def fit(self, values: NDArray, weights: NDArray | None, classes: NDArray | None) -> "Task":
        """Learn the two classes."""
        super().fit(values, weights, classes)
        assert self.classes_ is not None
        if len(self.classes_) != 2:
            raise ValueError(
                f"Task {self.name!r} is declared 'binary' and has {len(self.classes_)} classes: "
                f"{shorten(self.classes_)}. Pass 'multiclass' or 'classification' for it."
            )
        return self

    @property
    def positive_class(self) -> Any:
        """The positive class."""
        assert self.classes_ is not None
        return self.classes_[0 if self._first_is_positive else 1]

    def _find_classes(self, values: NDArray, classes: NDArray | None) -> NDArray:
        found = super()._find_classes(values, classes)
        if self.positive is not None and self.positive not in found.tolist():
            raise ValueError(
                f"`positive` of task {self.name!r} is {self.positive!r}, which is none of its "
                f"classes {shorten(found)}."
            )
        self._first_is_positive = self.positive is not None and bool(self.positive == found[0])
        return found

    def encode(self, values: NDArray) -> NDArray:
        """Return one for each label of the positive class, zero for the others."""
        position = super().encode(values)
        return 1.0 - position if self._first_is_positive else position

    def labels(self, target: NDArray) -> NDArray:
        """Return the labels that were encoded, (n,) of 0 and 1 -> (n,)."""
        assert self.classes_ is not None
        return self.classes_[target.astype(int) ^ int(self._first_is_positive)]

    def _check_options(self) -> None:
        if self.pos_weight is not None:
            above = "a finite number above 0, or None"
            self._check_option("pos_weight", lambda v: 0 < v < np.inf, above)
        check_focus(self)
        if self.negative_fraction is not None:
            share = "a number above 0 and up to 1, or None"
            self._check_option("negative_fraction", lambda v: 0 < v <= 1, share)

    def keep_rate(self, target: NDArray) -> NDArray | None:
        """Return `negative_fraction` for each negative label and one for each positive one."""
        if self.negative_fraction is None:
            return None
        return np.where(target == 0, self.negative_fraction, 1.0)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of each row, or what the options make of it."""
        z = logits.squeeze(-1)
        if self.negative_fraction is not None:
            z = z - math.log(self.negative_fraction)
        if self.label_smoothing:
            target = target * (1 - self.label_smoothing) + self.label_smoothing / 2
        if not self.focal_gamma and self.pos_weight is None:
            return F.binary_cross_entropy_with_logits(z, target, reduction="none")
        positive, negative = -F.logsigmoid(z), -F.logsigmoid(-z)
        by_positive = positive if self.pos_weight is None else positive * self.pos_weight
        by_negative = negative
        if self.focal_gamma:
            # (1 - p)^gamma from log(1 - p): no power of a number that has been rounded to zero.
            by_positive = by_positive * (-self.focal_gamma * negative).exp()
            by_negative = by_negative * (-self.focal_gamma * positive).exp()
        return target * by_positive + (1 - target) * by_negative

    def link(self, logits: Tensor) -> Tensor:
        """Return the two classes' probabilities, in sorted order: (B, 1) -> (B, 2)."""
        second = -logits if self._first_is_positive else logits
        return torch.cat([-second, second], dim=1).sigmoid()

    def decision(self, logits: NDArray) -> NDArray:
        """Return the logit of the second class in sorted order."""
        return -logits if self._first_is_positive else logits
