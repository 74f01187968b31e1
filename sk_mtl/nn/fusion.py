"""One level of adaptive task-to-task fusion, the piece that AdaTT has several times."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sk_mtl.nn.gating import Gates, mix
from sk_mtl.nn.stacked import StackedMLP


class FusionLevel(nn.Module):
    r"""Units of experts: each unit mixes the experts of all units, and adds its own to that.

    There is a unit for each task and, with shared experts, a shared one. Unit u with the input
    :math:`x_u` and the experts :math:`E_{u,i}(x_u)` gives

    .. math::
        \mathrm{softmax}(W_u x_u)\, [E_{1,1} \dots E_{U,m_U}] + \sum_i v_{u,i} E_{u,i}

    where :math:`v_{u,i}` is learned, of a unit with one expert the constant 1.

    Parameters
    ----------
    in_features : int
        Width D of the inputs.
    n_tasks : int
        Number of tasks K.
    n_task_experts, n_shared_experts : int
        Experts of each task, at least one, and of the shared unit, which may have none.
    expert_units : sequence of int
        Widths of each expert's layers.
    gate_units : sequence of int, default=()
        Widths of the gates' hidden layers; none in the paper.
    expert_balance : float, default=0.0
        Weight of the penalty for unused experts, see `ExpertBalance`.
    last : bool, default=True
        Whether no level follows: then the shared unit has experts and no more.
    activation, n_members, generator
        As in `StackedMLP`.
    **network
        Further parameters of the experts' `StackedMLP`.

    Attributes
    ----------
    task_factors, shared_factors : Parameter or None
        The v of the tasks, (M * K, m), and of the shared unit, (M, s); None where it is 1 or no
        unit gives an output.
    out_features : int
        Width H of the outputs.

    Notes
    -----
    Shape: (B, D), one input for all units, or (B, M * U, D) with the shared unit last ->
    (B, M * U, H), of the last level (B, M * K, H).
    """

    own: Tensor
    ones: Tensor

    def __init__(
        self,
        in_features: int,
        n_tasks: int,
        *,
        n_task_experts: int,
        n_shared_experts: int,
        expert_units: Sequence[int],
        gate_units: Sequence[int] = (),
        expert_balance: float = 0.0,
        last: bool = True,
        activation: str = "relu",
        n_members: int = 1,
        generator: torch.Generator | None = None,
        **network: Any,
    ) -> None:
        super().__init__()
        self.n_tasks, self.n_members, self.last = n_tasks, n_members, last
        self.n_own, self.n_shared_experts = n_tasks * n_task_experts, n_shared_experts
        common: Any = {"activation": activation, "n_members": n_members, "generator": generator}

        def experts(n: int) -> StackedMLP | None:
            return StackedMLP(n, in_features, expert_units, **common, **network) if n else None

        def factors(n: int, n_experts: int) -> nn.Parameter | None:
            if n == 0 or n_experts <= 1:
                return None
            drawn = torch.empty(n * n_members, n_experts)
            return nn.Parameter(drawn.uniform_(-1, 1, generator=generator) / n_experts**0.5)

        self.task_experts, self.shared_experts = experts(self.n_own), experts(n_shared_experts)
        n_outputs_shared = int(n_shared_experts > 0 and not last)
        n_units, n_experts = n_tasks + n_outputs_shared, self.n_own + n_shared_experts
        self.gates = Gates(
            n_units,
            in_features,
            n_experts,
            gate_units,
            streams=[*range(n_tasks), "<shared>"][:n_units],
            balance=expert_balance,
            **common,
        )
        self.task_factors = factors(n_tasks, n_task_experts)
        self.shared_factors = factors(n_outputs_shared, n_shared_experts)
        # Which experts a unit adds: its own, which stand in the units' order.
        unit = torch.tensor([*range(n_tasks)]).repeat_interleave(n_task_experts)
        unit = torch.cat([unit, unit.new_full((n_shared_experts,), n_tasks)])
        own = (unit == torch.arange(n_units).unsqueeze(1)).to(torch.get_default_dtype())
        self.register_buffer("own", own, persistent=False)
        self.register_buffer("ones", torch.ones(n_members, n_experts), persistent=False)
        self.out_features = expert_units[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Return each unit's output, of the last level each task's."""
        task_x = shared_x = x
        if self.shared_experts is not None and x.ndim == 3:
            by_member = x.unflatten(1, (self.n_members, -1))
            task_x = by_member[:, :, : self.n_tasks].flatten(1, 2)
            shared_x = by_member[:, :, self.n_tasks]
        # A unit's own experts count by both of its terms: one product does for both.
        weights = self.gates(task_x if self.last else x) + self.residual()
        assert self.task_experts is not None
        if self.shared_experts is None:
            return mix(weights, self.task_experts(task_x))
        over_own, over_shared = weights.split([self.n_own, self.n_shared_experts], dim=2)
        own = mix(over_own, self.task_experts(task_x))
        return own + mix(over_shared, self.shared_experts(shared_x))

    def residual(self) -> Tensor:
        """Return the factor v of each expert in each unit, zero of others' experts: (M * U, E)."""
        own, shared = self.ones.split([self.n_own, self.n_shared_experts], dim=1)
        if self.task_factors is not None:
            own = self.task_factors.view(own.shape)
        if self.shared_factors is not None:
            shared = self.shared_factors
        return (self.own * torch.cat([own, shared], dim=1).unsqueeze(1)).flatten(0, 1)

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what a single task moves, in a last level: gates and factors of the residual."""
        yield from self.gates.parameters()
        if self.task_factors is not None:
            yield self.task_factors

    def undecayed_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what weight decay leaves alone: the factors of the residual."""
        yield from (p for p in (self.task_factors, self.shared_factors) if p is not None)
