"""MMoE: experts shared by all tasks, mixed by a gate of each task."""

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
    StrOptions,
    Units,
    parameter,
)
from sk_mtl.nn import DSelectK, StackedMLP, check_gate, make_gates, mix


class MMoEBottom(nn.Module):
    """Experts that read the input, and a gate per task over all of them.

    Parameters
    ----------
    in_features : int
        Width D of the input.
    n_tasks : int
        Number of tasks K.
    n_experts, expert_units, gate_units, gate, expert_balance
        As in `MMoE`.
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
        n_experts: int,
        expert_units: Sequence[int],
        gate_units: Sequence[int] = (),
        gate: str | DSelectK = "softmax",
        expert_balance: float = 0.0,
        activation: str = "relu",
        n_members: int = 1,
        generator: torch.Generator | None = None,
        **network: Any,
    ) -> None:
        super().__init__()
        common: Any = {"activation": activation, "n_members": n_members, "generator": generator}
        self.experts = StackedMLP(n_experts, in_features, expert_units, **common, **network)
        common |= {"units": gate_units, "balance": expert_balance}
        self.gates = make_gates(gate, n_tasks, in_features, n_experts, **common)
        self.out_features = self.experts.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Return each task's mixture of the experts."""
        return mix(self.gates(x), self.experts(x))

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what a single task moves: the gates."""
        return self.gates.parameters()


@dataclass(kw_only=True, eq=False, repr=False)
class MMoE(MultiTaskEstimator):
    r"""Multi-gate mixture-of-experts (MMoE): shared experts, one gate per task.

    Each task weighs the experts by a softmax gate of its own that reads the input, so that tasks
    share as much as suits them. `sk_mtl.inspection.gate_weights` shows how they do.

    Parameters
    ----------
    n_experts : int, default=8
        Number of experts, all shared.
    expert_units : tuple of int, default=(64,)
        Widths of each expert's layers.
    gate_units : tuple of int, default=()
        Widths of hidden layers in the gates. The paper's gates are linear, without a bias.
    gate : "softmax", "dselect_k" or DSelectK, default="softmax"
        Kind of the gates. Those of DSelect-k mix a few experts only; `sk_mtl.nn.DSelectK` holds
        their options, which can be set as ``gate__<option>``.
    expert_balance : float, default=0.0
        Weight of a penalty for experts that no gate uses, see `sk_mtl.nn.ExpertBalance`.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}

    See Also
    --------
    SharedBottom : One network instead of gated experts.
    CGC : Experts of each task beside the shared ones.

    Notes
    -----
    .. math::
        g^k(x) = \mathrm{softmax}(W_k x), \qquad y_k = t_k\Big(\sum_i g^k(x)_i f_i(x)\Big)

    References
    ----------
    J. Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate
    Mixture-of-Experts", KDD 2018, section 4.2.

    Examples
    --------
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = MMoE(n_experts=4, expert_units=(16,), max_epochs=2, random_state=0).fit(X, Y)
    >>> model.predict(X).shape
    (500, 3)
    """

    n_experts: int = parameter(8, AT_LEAST_ONE, search=Range(2, 12))
    expert_units: Units = parameter((64,), NON_EMPTY_UNITS, search=WIDTHS)
    gate_units: Units = parameter((), UNITS)
    gate: Any = parameter("softmax", StrOptions({"softmax", "dselect_k"}), DSelectK)
    expert_balance: float = parameter(0.0, NON_NEGATIVE, search=Range(0.0, 0.1))

    def _check_architecture(self) -> None:
        check_gate(self.gate, self.gate_units)

    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any) -> nn.Module:
        return MMoEBottom(
            in_features,
            n_tasks,
            n_experts=self.n_experts,
            expert_units=self.expert_units,
            gate_units=self.gate_units,
            gate=self.gate,
            expert_balance=self.expert_balance,
            **network,
        )
