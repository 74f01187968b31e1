"""Classes in an order."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sk_mtl.tasks.base import Task
from sk_mtl.tasks.classification import ClassificationTask


class OrdinalTask(ClassificationTask):
    r"""C classes in an order, C - 1 logits: cumulative probabilities that fall along the order.

    .. math::
        P(y > j) = \sigma(a_j), \qquad a_0 = z_0, \quad
        a_j = a_{j-1} - \mathrm{softplus}(z_j), \qquad \ell = -\log P(y)

    Predicted is the most probable class. Decision values are the logarithms of the classes'
    probabilities, (n, C); of two classes the logit of the second, (n, 1).

    Parameters
    ----------
    name : str, default=""
        Name of the task.
    order : list or None, default=None
        All classes from the lowest to the highest; None: in the order of an ordered Categorical,
        else sorted. A class that no label has is one nevertheless. Columns of `predict_proba`
        stand in sorted order in any case.
    class_weight : "balanced", dict or None, default=None
        Factors of the labels' weights, see `ClassificationTask`.

    Notes
    -----
    A class between two thresholds has the probability

    .. math::
        \sigma(a_{j-1}) - \sigma(a_j) = \sigma(a_{j-1})\, \sigma(-a_j)\, \sigma(z_j),

    since :math:`1 - e^{-\mathrm{softplus}(z)} = \sigma(z)`; so its logarithm is a sum of three
    terms that are finite for every logit.

    NOTE[DIFF]: in McCullagh's model the distances between thresholds are the same for all rows.
    Here they are outputs of the network as the first threshold is.

    References
    ----------
    P. McCullagh, "Regression Models for Ordinal Data", JRSS B 42(2), 1980, section 2.

    Examples
    --------
    >>> from sk_mtl import SharedBottom
    >>> from sk_mtl.tasks import OrdinalTask
    >>> X, size = [[0.1], [0.5], [0.9]], ["small", "medium", "large"]
    >>> model = SharedBottom(task_types=OrdinalTask(order=size), max_epochs=2, random_state=0)
    >>> model.fit(X, size).get_proba_names_out().tolist()
    ['y=large', 'y=medium', 'y=small']
    """

    kind = "ordinal"
    loss_options: ClassVar[tuple[str, ...]] = ()
    _rank: list[int] | None = None
    """Place in the order of each class in sorted order; None: the same."""

    def __init__(
        self,
        name: str = "",
        *,
        order: Sequence[Any] | None = None,
        class_weight: Any = None,
    ) -> None:
        super().__init__(name, class_weight=class_weight)
        self.order = order

    def fit(self, values: NDArray, weights: NDArray | None, classes: NDArray | None) -> "Task":
        """Learn the classes and their order, and with them the number of logits."""
        super().fit(values, weights, classes)
        assert self.classes_ is not None
        self.n_logits = len(self.classes_) - 1
        return self

    def _find_classes(self, values: NDArray, classes: NDArray | None) -> NDArray:
        self._rank = None
        found = super()._find_classes(values, classes)
        if self.order is None:
            return found
        order = self._read_order()
        outside = [label for label in found.tolist() if label not in order]
        if outside:
            raise ValueError(
                f"`order` of task {self.name!r} lacks the label {outside[0]!r}; it is {order}. "
                "Pass every label, from the lowest to the highest."
            )
        labels = np.array(order, dtype=object if found.dtype == object else None)
        self._rank = np.argsort(labels).tolist()
        return np.sort(labels)

    def _read_order(self) -> list[Any]:
        given: Any = self.order
        is_list = isinstance(given, list | tuple | np.ndarray)
        order = np.asarray(given, dtype=object).tolist() if is_list else []
        kinds = {isinstance(label, str) for label in order}
        if len(order) < 2 or len(kinds) != 1 or len(set(order)) != len(order):
            raise ValueError(
                f"`order` of task {self.name!r} is {given!r}; pass a list of its labels from the "
                "lowest to the highest, two or more, each once."
            )
        return order

    def encode(self, values: NDArray) -> NDArray:
        """Return the place of each label in the order."""
        position = super().encode(values)
        if self._rank is None:
            return position
        return np.array(self._rank, dtype=np.float64)[position.astype(int)]

    def _log_p(self, logits: Tensor) -> Tensor:
        """Return the logarithm of each class's probability, in order: (..., C-1) -> (..., C)."""
        step = F.logsigmoid(logits[..., 1:])
        # softplus(z) = z - log sigmoid(z)
        falls = (logits[..., 1:] - step).cumsum(-1)
        thresholds = torch.cat([logits[..., :1], logits[..., :1] - falls], dim=-1)
        above, below = F.logsigmoid(thresholds), F.logsigmoid(-thresholds)
        return F.pad(above, (1, 0)) + F.pad(below, (0, 1)) + F.pad(step, (1, 1))

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the negative log-likelihood of each row's class."""
        return -self._log_p(logits).gather(-1, target.long().unsqueeze(-1)).squeeze(-1)

    def link(self, logits: Tensor) -> Tensor:
        """Return the classes' probabilities, in sorted order: (B, C - 1) -> (B, C)."""
        return self._sorted(self._log_p(logits)).exp()

    def _sorted(self, log_p: Tensor) -> Tensor:
        return log_p if self._rank is None else log_p[:, self._rank]

    def decision(self, logits: NDArray) -> NDArray:
        """Return the logarithms of the probabilities, of two classes the second one's logit."""
        log_p = self._sorted(self._log_p(torch.from_numpy(logits))).numpy()
        return log_p[:, 1:] - log_p[:, :1] if log_p.shape[1] == 2 else log_p
