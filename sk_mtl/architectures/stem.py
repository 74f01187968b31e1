"""STEM: an embedding of each task beside the shared one, and gates that stop gradients."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sk_mtl.base import (
    AT_LEAST_ZERO,
    NON_EMPTY_UNITS,
    NON_NEGATIVE,
    UNITS,
    WIDTHS,
    MultiTaskEstimator,
    Range,
    Units,
    parameter,
)
from sk_mtl.nn import IsolatedLevel


class STEMBottom(nn.Module):
    """Experts of each task on its own copy of the input, shared ones, gates over all of them.

    Parameters
    ----------
    in_features : int
        Width D of each copy of the input.
    n_tasks : int
        Number of tasks K.
    **level
        Further parameters of `sk_mtl.nn.IsolatedLevel`.

    Notes
    -----
    Shape: (B, K + 1, D), the tasks' copies of the input and then the shared one ->
    (B, M * K, H)
    """

    def __init__(self, in_features: int, n_tasks: int, **level: Any) -> None:
        super().__init__()
        self.level = IsolatedLevel(in_features, n_tasks, **level)
        self.out_features = self.level.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Return each task's mixture of all experts."""
        return self.level(x[:, :-1], x[:, -1])

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what a single task moves: its gate and its experts."""
        return self.level.own_parameters()


@dataclass(kw_only=True, eq=False, repr=False)
class STEM(MultiTaskEstimator):
    r"""Shared and task-specific embeddings (STEM-Net): a copy of the embeddings for each task.

    For tasks that disagree on what a category means. Each task has embeddings and experts of its
    own beside the shared ones, and its gate weighs the experts of *all* tasks, but its loss trains
    no other task's: they pass on what they know, and are left alone. Embedding tables are
    K + 1 times as large. Columns without weights, standardized numbers, are the same in each copy.

    Parameters
    ----------
    n_task_experts : int, default=1
        Experts of each task.
    n_shared_experts : int, default=4
        Experts shared by all tasks.
    expert_units : tuple of int, default=(64,)
        Widths of each expert's layers.
    gate_units : tuple of int, default=(32,)
        Widths of hidden layers in the gates; (128, 64) in the authors' code.
    expert_balance : float, default=0.0
        Weight of a penalty for experts that no gate uses, see `sk_mtl.nn.ExpertBalance`; the
        paper has none. `sk_mtl.inspection.expert_use` tells whether there are any.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}

    See Also
    --------
    CGC : A gate covers its own task's experts and the shared ones, on one embedding.

    Notes
    -----
    With task k's embedding :math:`x_k`, the shared :math:`x_s` and sg for a stopped gradient:

    .. math::
        g_k = \mathrm{softmax}(\mathrm{MLP}_k(x_k + x_s)), \qquad
        h_k = \sum_{i} g_{ki} E_{k,i}(x_k) + \sum_{i} g_{ki} E_{s,i}(x_s)
        + \sum_{j \ne k, i} g_{ki}\, \mathrm{sg}(E_{j,i}(x_j))

    There is one level, as by default in the authors' code: with more of them a shared stream would
    carry each task's gradient to all experts. The last layer of a gate has no bias, as in all
    architectures of this package.

    References
    ----------
    L. Su et al., "STEM: Unleashing the Power of Embeddings for Multi-task Recommendation",
    AAAI 2024; the equations are those of the authors' code.

    Examples
    --------
    >>> from sk_mtl import STEM
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = STEM(expert_units=(16,), max_epochs=2, random_state=0).fit(X, Y)
    >>> model.predict(X).shape
    (500, 3)
    """

    n_task_experts: int = parameter(1, AT_LEAST_ZERO, search=Range(1, 4))
    n_shared_experts: int = parameter(4, AT_LEAST_ZERO, search=Range(1, 8))
    expert_units: Units = parameter((64,), NON_EMPTY_UNITS, search=WIDTHS)
    gate_units: Units = parameter((32,), UNITS)
    expert_balance: float = parameter(0.0, NON_NEGATIVE, search=Range(0.0, 0.1))

    def _check_architecture(self) -> None:
        self._check_any_positive("n_task_experts", "n_shared_experts")

    def _embedding_copies(self, n_tasks: int) -> tuple[int, bool]:
        return n_tasks, True

    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any) -> nn.Module:
        return STEMBottom(
            in_features,
            n_tasks,
            n_task_experts=self.n_task_experts,
            n_shared_experts=self.n_shared_experts,
            expert_units=self.expert_units,
            gate_units=self.gate_units,
            expert_balance=self.expert_balance,
            **network,
        )
