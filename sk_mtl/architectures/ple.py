"""PLE: several extraction levels, with a shared stream between them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sk_mtl.base import (
    AT_LEAST_ONE,
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


class PLEBottom(nn.Module):
    """Extraction levels in a row: one stream per task, and a shared one.

    All streams enter the first level with the input. From then on a task's experts and its gate
    read that task's stream, the shared experts and the shared gate read the shared stream.

    Parameters
    ----------
    in_features, n_tasks, n_levels : int
        Width D of the input, number of tasks K, and number of levels.
    **level
        Further parameters of `sk_mtl.nn.ExtractionLevel`.

    Notes
    -----
    Shape: (B, D) -> (B, M * K, H)
    """

    def __init__(self, in_features: int, n_tasks: int, *, n_levels: int, **level: Any) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        for index in range(n_levels):
            one = ExtractionLevel(in_features, n_tasks, last=index == n_levels - 1, **level)
            self.levels.append(one)
            in_features = one.out_features
        self.out_features = in_features

    def forward(self, x: Tensor) -> Tensor:
        """Return each task's stream after the last level."""
        task_x, shared_x = x, x
        for level in self.levels:
            task_x, shared_x = level(task_x, shared_x)
        return task_x

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what a single task moves: gates and task experts that no shared gate follows."""
        followed = False
        levels: list[Any] = list(self.levels)
        for level in reversed(levels):
            gated = level.shared_gate is not None
            if not followed:
                yield from level.task_gates.parameters()
                if not gated and level.task_experts is not None:
                    yield from level.task_experts.parameters()
            followed = followed or gated


@dataclass(kw_only=True, eq=False, repr=False)
class PLE(MultiTaskEstimator):
    r"""Progressive layered extraction (PLE): levels of task and shared experts.

    What is shared and what belongs to one task is separated step by step: from the second level
    on, gates and experts read what the level before extracted, not the raw input.

    Parameters
    ----------
    n_levels : int, default=2
        Number of extraction levels. With one level the model is a `CGC`.
    n_task_experts : int, default=4
        Experts of each task, in each level.
    n_shared_experts : int, default=4
        Experts shared by all tasks, in each level.
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
    CGC : A single level.

    Notes
    -----
    With :math:`g^{k,0} = g^{s,0} = x`, task k's experts :math:`E^{j}_{k,i}`, the shared ones
    :math:`E^{j}_{s,i}` and level j = 1, 2, ...:

    .. math::
        S^{k,j} &= [E^{j}_{k,\cdot}(g^{k,j-1}); E^{j}_{s,\cdot}(g^{s,j-1})] \\
        g^{k,j} &= \mathrm{softmax}(W^{k,j} g^{k,j-1})\, S^{k,j}

    The shared gate, softmax of :math:`W^{s,j} g^{s,j-1}`, mixes the experts of *all* tasks and the
    shared ones into :math:`g^{s,j}`; the last level has none.

    References
    ----------
    H. Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning Model for
    Personalized Recommendations", RecSys 2020, section 4.2, equations 5 to 7.

    Examples
    --------
    >>> from sk_mtl import PLE
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = PLE(expert_units=(16,), max_epochs=2, random_state=0).fit(X, Y)
    >>> model.predict(X).shape
    (500, 3)
    """

    n_levels: int = parameter(2, AT_LEAST_ONE)
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
        sizes = ("n_levels", "n_task_experts", "n_shared_experts", "expert_units", "gate_units")
        given: dict[str, Any] = {n: getattr(self, n) for n in (*sizes, "gate", "expert_balance")}
        return PLEBottom(in_features, n_tasks, **given, **network)
