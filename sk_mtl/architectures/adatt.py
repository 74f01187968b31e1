"""AdaTT: levels of task units, which fuse the experts of all tasks with their own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from sk_mtl.base import (
    AT_LEAST_ONE,
    AT_LEAST_ZERO,
    NON_EMPTY_UNITS,
    NON_NEGATIVE,
    UNITS,
    MultiTaskEstimator,
    Range,
    Units,
    parameter,
)
from sk_mtl.nn import FusionLevel


class AdaTTBottom(nn.Module):
    """Fusion levels in a row; all units enter the first one with the input.

    Parameters
    ----------
    in_features : int
        Width D of the input.
    n_tasks : int
        Number of tasks K.
    expert_units : sequence of int
        Width of the experts in each level.
    **level
        Further parameters of `sk_mtl.nn.FusionLevel`.

    Notes
    -----
    Shape: (B, D) -> (B, M * K, H)
    """

    def __init__(
        self, in_features: int, n_tasks: int, *, expert_units: Sequence[int], **level: Any
    ) -> None:
        super().__init__()
        widths = [in_features, *expert_units]
        self.levels = nn.ModuleList(
            FusionLevel(width, n_tasks, expert_units=(unit,), last=i == len(expert_units), **level)
            for i, (width, unit) in enumerate(pairwise(widths), start=1)
        )
        self.out_features = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Return each task's stream after the last level."""
        for level in self.levels:
            x = level(x)
        return x

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what a single task moves: its gate and its residual in the last level."""
        last: Any = self.levels[-1]
        yield from last.own_parameters()


@dataclass(kw_only=True, eq=False, repr=False)
class AdaTT(MultiTaskEstimator):
    r"""Adaptive task-to-task fusion (AdaTT): each task fuses all tasks' experts with its own.

    Level by level each task has experts of its own, and a gate over the experts of *all* tasks.
    What the gate mixes adds to the task's own experts, so that a task begins from its own and
    takes from others what helps. Without shared experts this is the paper's AdaTT-sp.

    Parameters
    ----------
    n_task_experts : int, default=2
        Experts of each task, in each level.
    n_shared_experts : int, default=0
        Experts of a shared unit, in each level; it fuses as the tasks do. 0: AdaTT-sp.
    expert_units : tuple of int, default=(128, 64)
        Width of the experts in each level: there are as many levels as widths, and an expert is
        one layer, as in the paper, which has (256, 128).
    gate_units : tuple of int, default=()
        Widths of hidden layers in the gates. The paper's gates are linear, without a bias.
    expert_balance : float, default=0.0
        Weight of a penalty for experts that no gate uses, see `sk_mtl.nn.ExpertBalance`; the
        paper has none.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}

    See Also
    --------
    PLE : A task's gate weighs its own and the shared experts, no other task's.
    MLMMoE : Levels of experts that belong to no task.

    Notes
    -----
    With :math:`f^0_u = x` for all tasks and the shared unit u, and levels l = 1, 2, ...:

    .. math::
        f^l_u = \mathrm{softmax}(W^l_u f^{l-1}_u)\, [E^l_{1,1} \dots E^l_{U,m_U}]
        + \sum_i v^l_{u,i} E^l_{u,i}, \qquad E^l_{u,i} = h^l_{u,i}(f^{l-1}_u)

    The last level has no gate of the shared unit. :math:`v` starts uniform within
    :math:`\pm 1 / \sqrt{m_u}`. NOTE[DIFF]: it is the constant 1 for each unit with one expert; the
    authors' code learns it for all units as soon as one unit has several. The gates have no bias,
    as in the paper; in the code they have one.

    References
    ----------
    D. Li et al., "AdaTT: Adaptive Task-to-Task Fusion Network for Multitask Learning in
    Recommendations", KDD 2023, section 3, and the authors' code; read in translation.

    Examples
    --------
    >>> from sk_mtl import AdaTT
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = AdaTT(expert_units=(16, 8), max_epochs=2, random_state=0).fit(X, Y)
    >>> model.predict(X).shape
    (500, 3)
    """

    n_task_experts: int = parameter(2, AT_LEAST_ONE, search=Range(1, 4))
    n_shared_experts: int = parameter(0, AT_LEAST_ZERO, search=Range(0, 4))
    expert_units: Units = parameter(
        (128, 64), NON_EMPTY_UNITS, search=[(64,), (64, 32), (128, 64), (256, 128)]
    )
    gate_units: Units = parameter((), UNITS)
    expert_balance: float = parameter(0.0, NON_NEGATIVE, search=Range(0.0, 0.1))

    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any) -> nn.Module:
        return AdaTTBottom(
            in_features,
            n_tasks,
            n_task_experts=self.n_task_experts,
            n_shared_experts=self.n_shared_experts,
            expert_units=self.expert_units,
            gate_units=self.gate_units,
            expert_balance=self.expert_balance,
            **network,
        )
