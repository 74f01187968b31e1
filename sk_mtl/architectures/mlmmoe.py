"""ML-MMoE: levels of shared experts, each of which reads a mixture of the level before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sk_mtl.base import (
    AT_LEAST_ONE,
    NON_EMPTY_UNITS,
    NON_NEGATIVE,
    UNITS,
    WIDTHS,
    MultiTaskEstimator,
    Range,
    Units,
    parameter,
)
from sk_mtl.nn import Gates, StackedMLP, mix


class MLMMoEBottom(nn.Module):
    """Levels of experts; gates that read the input mix them for the next experts, then for tasks.

    Parameters
    ----------
    in_features : int
        Width D of the input.
    n_tasks : int
        Number of tasks K.
    n_levels, n_experts, expert_units, gate_units, expert_balance
        As in `MLMMoE`.
    activation, n_members, generator
        As in `sk_mtl.nn.StackedMLP`.
    **network
        Further parameters of the experts' `sk_mtl.nn.StackedMLP`.

    Notes
    -----
    Shape: (B, D) -> (B, M * K, H)
    """

    def __init__(
        self,
        in_features: int,
        n_tasks: int,
        *,
        n_levels: int,
        n_experts: int,
        expert_units: Sequence[int],
        gate_units: Sequence[int] = (),
        expert_balance: float = 0.0,
        activation: str = "relu",
        n_members: int = 1,
        generator: torch.Generator | None = None,
        **network: Any,
    ) -> None:
        super().__init__()
        common: Any = {"activation": activation, "n_members": n_members, "generator": generator}
        self.experts, self.gates = nn.ModuleList(), nn.ModuleList()
        width = in_features
        for level in range(1, n_levels + 1):
            experts = StackedMLP(n_experts, width, expert_units, **common, **network)
            streams: Sequence[int | str] = range(n_tasks)
            if level < n_levels:
                streams = [f"<level {level + 1}, expert {i}>" for i in range(n_experts)]
            self.experts.append(experts)
            own: Any = {"streams": streams, "balance": expert_balance, **common}
            self.gates.append(Gates(len(streams), in_features, n_experts, gate_units, **own))
            width = experts.out_features
        self.out_features = width

    def forward(self, x: Tensor) -> Tensor:
        """Return each task's mixture of the last level's experts."""
        h = x
        for experts, gates in zip(self.experts, self.gates, strict=True):
            h = mix(gates(x), experts(h))
        return h

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what a single task moves: the last level's gates."""
        return self.gates[-1].parameters()


@dataclass(kw_only=True, eq=False, repr=False)
class MLMMoE(MultiTaskEstimator):
    r"""Multi-level MMoE (ML-MMoE): several levels of shared experts, a gate per task at the end.

    An expert reads a mixture of the level before by a gate of its own. All gates read the input.

    Parameters
    ----------
    n_levels : int, default=2
        Number of levels; with one the model is an `MMoE`.
    n_experts : int, default=8
        Number of experts in each level, all shared.
    expert_units : tuple of int, default=(64,)
        Widths of each expert's layers.
    gate_units : tuple of int, default=()
        Widths of hidden layers in the gates. Without any they are linear, without a bias.
    expert_balance : float, default=0.0
        Weight of a penalty for experts that no gate uses, see `sk_mtl.nn.ExpertBalance`.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}

    See Also
    --------
    PLE : Levels of task and shared experts.
    AdaTT : Levels of experts that each belong to a task.

    Notes
    -----
    With :math:`z^{1}_i = x`, levels l = 1 to N, and :math:`z^{N+1}_k` for task k:

    .. math:: z^{l+1}_j = \sum_i \mathrm{softmax}(W^{l}_j x)_i\, f^{l}_i(z^{l}_i), \qquad
        y_k = t_k(z^{N+1}_k)

    This is the baseline in the code to the reference. NOTE[DIFF]: levels there may differ in size.

    References
    ----------
    D. Li et al., "AdaTT: Adaptive Task-to-Task Fusion Network for Multitask Learning in
    Recommendations", KDD 2023.

    Examples
    --------
    >>> from sk_mtl import MLMMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = MLMMoE(n_experts=4, expert_units=(16,), max_epochs=2, random_state=0).fit(X, Y)
    >>> model.predict(X).shape
    (500, 3)
    """

    n_levels: int = parameter(2, AT_LEAST_ONE)
    n_experts: int = parameter(8, AT_LEAST_ONE, search=Range(2, 12))
    expert_units: Units = parameter((64,), NON_EMPTY_UNITS, search=WIDTHS)
    gate_units: Units = parameter((), UNITS)
    expert_balance: float = parameter(0.0, NON_NEGATIVE, search=Range(0.0, 0.1))

    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any) -> nn.Module:
        sizes = ("n_levels", "n_experts", "expert_units", "gate_units", "expert_balance")
        given: dict[str, Any] = {name: getattr(self, name) for name in sizes}
        return MLMMoEBottom(in_features, n_tasks, **given, **network)
