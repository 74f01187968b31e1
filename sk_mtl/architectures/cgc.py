"""CGC: experts of each task beside shared ones, in a single extraction level."""

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
    StrOptions,
    Units,
    parameter,
)
from sk_mtl.nn import DSelectK, ExtractionLevel, check_gate


class CGCBottom(nn.Module):
    """A single extraction level that all tasks enter with the same input.

    Parameters
    ----------
    in_features : int
        Width D of the input.
    n_tasks : int
        Number of tasks K.
    **level
        Further parameters of `sk_mtl.nn.ExtractionLevel`.

    Notes
    -----
    Shape: (B, D) -> (B, M * K, H)
    """

    def __init__(self, in_features: int, n_tasks: int, **level: Any) -> None:
        super().__init__()
        self.level = ExtractionLevel(in_features, n_tasks, **level)
        self.out_features = self.level.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Return each task's mixture of its own and the shared experts."""
        return self.level(x, x)[0]

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what a single task moves: its gate and its experts."""
        yield from self.level.task_gates.parameters()
        if self.level.task_experts is not None:
            yield from self.level.task_experts.parameters()


@dataclass(kw_only=True, eq=False, repr=False)
class CGC(MultiTaskEstimator):
    r"""Customized gate control (CGC): experts of each task beside shared ones.

    Each task's gate weighs that task's own experts and the shared ones, and no other task's: the
    loss of one task never reaches another task's experts. Less negative transfer than `MMoE` when
    tasks conflict.

    Parameters
    ----------
    n_task_experts : int, default=4
        Experts of each task.
    n_shared_experts : int, default=4
        Experts shared by all tasks. With `n_task_experts=0` the model is an `MMoE`.
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
    PLE : Several such levels.
    MMoE : Shared experts only.

    Notes
    -----
    .. math::
        S^k = [E_{k,1}(x) \dots E_{k,m_k}(x); E_{s,1}(x) \dots E_{s,m_s}(x)], \qquad
        y_k = t_k\big(\mathrm{softmax}(W_k x)\, S^k\big)

    References
    ----------
    H. Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning Model for
    Personalized Recommendations", RecSys 2020, section 4.1, equations 1 to 4.

    Examples
    --------
    >>> from sk_mtl import CGC
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = CGC(expert_units=(16,), max_epochs=2, random_state=0).fit(X, Y)
    >>> model.predict(X).shape
    (500, 3)
    """

    n_task_experts: int = parameter(4, AT_LEAST_ZERO, search=Range(1, 6))
    n_shared_experts: int = parameter(4, AT_LEAST_ZERO, search=Range(1, 6))
    expert_units: Units = parameter((64,), NON_EMPTY_UNITS, search=WIDTHS)
    gate_units: Units = parameter((), UNITS)
    gate: Any = parameter("softmax", StrOptions({"softmax", "dselect_k"}), DSelectK)
    expert_balance: float = parameter(0.0, NON_NEGATIVE, search=Range(0.0, 0.1))

    def _check_architecture(self) -> None:
        self._check_any_positive("n_task_experts", "n_shared_experts")
        check_gate(self.gate, self.gate_units)

    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any) -> nn.Module:
        return CGCBottom(
            in_features,
            n_tasks,
            n_task_experts=self.n_task_experts,
            n_shared_experts=self.n_shared_experts,
            expert_units=self.expert_units,
            gate_units=self.gate_units,
            gate=self.gate,
            expert_balance=self.expert_balance,
            **network,
        )
