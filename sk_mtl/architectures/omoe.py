"""OMoE: experts mixed by one gate, the same for all tasks."""

from collections.abc import Sequence
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
from sk_mtl.nn import Gates, StackedMLP, mix, repeat_per_task


class OMoEBottom(nn.Module):
    """Experts that read the input, and one softmax gate over all of them for all tasks.

    Parameters
    ----------
    in_features : int
        Width D of the input.
    n_tasks : int
        Number of tasks K.
    n_experts, expert_units, gate_units, expert_balance
        As in `OMoE`.
    activation, n_members, generator
        As in `sk_mtl.nn.StackedMLP`.
    **network
        Further parameters of the experts' `sk_mtl.nn.StackedMLP`.

    Notes
    -----
    Shape: (B, D) -> (B, M * K, H)
    """

    one_representation = True

    def __init__(
        self,
        in_features: int,
        n_tasks: int,
        *,
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
        self.n_tasks = n_tasks
        common: Any = {"activation": activation, "n_members": n_members, "generator": generator}
        self.experts = StackedMLP(n_experts, in_features, expert_units, **common, **network)
        self.gate = Gates(
            1,
            in_features,
            n_experts,
            gate_units,
            streams=("<shared>",),
            balance=expert_balance,
            **common,
        )
        self.out_features = self.experts.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixture of the experts once per task."""
        return repeat_per_task(mix(self.gate(x), self.experts(x)), self.n_tasks)


@dataclass(kw_only=True, eq=False, repr=False)
class OMoE(MultiTaskEstimator):
    r"""One-gate mixture-of-experts (OMoE): shared experts, and one gate for all tasks.

    The gate reads the input, so that experts can divide the rows among them, but not the tasks:
    all tasks get the same mixture. Beside `MMoE` it shows what a gate of each task is worth.

    Parameters
    ----------
    n_experts : int, default=8
        Number of experts.
    expert_units : tuple of int, default=(64,)
        Widths of each expert's layers.
    gate_units : tuple of int, default=()
        Widths of hidden layers in the gate. The paper's gate is linear, without a bias.
    expert_balance : float, default=0.0
        Weight of a penalty for experts that no gate uses, see `sk_mtl.nn.ExpertBalance`.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}

    See Also
    --------
    MMoE : A gate for each task.

    Notes
    -----
    .. math::
        g(x) = \mathrm{softmax}(W x), \qquad y_k = t_k\Big(\sum_i g(x)_i f_i(x)\Big)

    `sk_mtl.inspection.gate_weights` has the gate under ``"<shared>"``.

    References
    ----------
    J. Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate
    Mixture-of-Experts", KDD 2018, section 4.1 and figure 1 (b), where it is a baseline.

    Examples
    --------
    >>> from sk_mtl import OMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = OMoE(n_experts=4, expert_units=(16,), max_epochs=2, random_state=0).fit(X, Y)
    >>> model.predict(X).shape
    (500, 3)
    """

    n_experts: int = parameter(8, AT_LEAST_ONE, search=Range(2, 12))
    expert_units: Units = parameter((64,), NON_EMPTY_UNITS, search=WIDTHS)
    gate_units: Units = parameter((), UNITS)
    expert_balance: float = parameter(0.0, NON_NEGATIVE, search=Range(0.0, 0.1))

    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any) -> nn.Module:
        return OMoEBottom(
            in_features,
            n_tasks,
            n_experts=self.n_experts,
            expert_units=self.expert_units,
            gate_units=self.gate_units,
            expert_balance=self.expert_balance,
            **network,
        )
