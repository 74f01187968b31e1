"""Several classes without an order."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from sk_mtl.tasks.base import Task
from sk_mtl.tasks.classification import ClassificationTask, check_focus


class MulticlassTask(ClassificationTask):
    r"""C classes, C logits, softmax.

    .. math::
        \ell = -\sum_c t_c\, (1-p_c)^\gamma \log p_c, \qquad
        t_c = (1 - \epsilon)\, [y = c] + \epsilon / C, \quad p = \mathrm{softmax}(z)

    With the options left alone it is the cross-entropy. Decision values are the logits, (n, C);
    of two classes their difference, (n, 1).

    Parameters
    ----------
    name : str, default=""
        Name of the task.
    class_weight : "balanced", dict or None, default=None
        Factors of the labels' weights, see `ClassificationTask`.
    focal_gamma : float, default=0.0
        :math:`\gamma` of the focal loss: the greater, the less the rows count that are already
        predicted well.
    label_smoothing : float, default=0.0
        :math:`\epsilon`, from 0 up to 1: the share of each label that goes to all classes alike.

    References
    ----------
    T.-Y. Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 3.

    C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
    section 7.
    """

    kind = "multiclass"
    loss_options = ("focal_gamma", "label_smoothing")

    def __init__(
        self,
        name: str = "",
        *,
        class_weight: Any = None,
        focal_gamma: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(name, class_weight=class_weight)
        self.focal_gamma = focal_gamma
        self.label_smoothing = label_smoothing

    def fit(self, values: NDArray, weights: NDArray | None, classes: NDArray | None) -> "Task":
        """Learn the classes, and with them the number of logits."""
        super().fit(values, weights, classes)
        assert self.classes_ is not None
        self.n_logits = len(self.classes_)
        return self

    def _check_options(self) -> None:
        check_focus(self)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of each row, or what the options make of it."""
        log_p = logits.log_softmax(-1)
        each = self._focus(log_p) if self.focal_gamma else log_p
        loss = -each.gather(-1, target.long().unsqueeze(-1)).squeeze(-1)
        if self.label_smoothing:
            loss = torch.lerp(loss, -each.mean(-1), self.label_smoothing)
        return loss

    def _focus(self, log_p: Tensor) -> Tensor:
        """Return (1 - p)^gamma log p of each class."""
        # The clamp: at p = 1 a power below one has an infinite derivative, and log p is zero.
        rest = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
        return rest**self.focal_gamma * log_p

    def link(self, logits: Tensor) -> Tensor:
        """Return the classes' probabilities: (B, C) -> (B, C)."""
        return logits.softmax(dim=1)

    def decision(self, logits: NDArray) -> NDArray:
        """Return the logits, of two classes their difference."""
        return logits[:, 1:] - logits[:, :1] if self.n_logits == 2 else logits
