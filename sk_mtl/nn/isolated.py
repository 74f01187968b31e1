"""Experts of all tasks for every gate, and gradients for a task's own and the shared ones only."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sk_mtl.nn.gating import Gates, mix
from sk_mtl.nn.stacked import StackedMLP


class IsolatedLevel(nn.Module):
    r"""Task experts, shared experts, and a gate per task over all of them.

    A task's loss trains its own experts and the shared ones. Other tasks' experts it only reads:
    with the inputs :math:`x^k` of task k and :math:`x^s` of the shared experts, sg for a stopped
    gradient, and :math:`g^k = \mathrm{softmax}(\mathrm{MLP}_k(x^k + x^s))`,

    .. math::
        h^k = \sum_i g^k_i E_{k,i}(x^k) + \sum_i g^k_i E_{s,i}(x^s)
        + \sum_{j \ne k, i} g^k_i\, \mathrm{sg}(E_{j,i}(x^j))

    Parameters
    ----------
    in_features : int
        Width D of the inputs.
    n_tasks : int
        Number of tasks K.
    n_task_experts, n_shared_experts : int
        Experts of each task, and experts shared by all. One of them may be zero.
    expert_units : sequence of int
        Widths of each expert's layers.
    gate_units : sequence of int, default=()
        Widths of the gates' hidden layers.
    expert_balance : float, default=0.0
        Weight of the penalty for unused experts, see `ExpertBalance`.
    activation, dropout, batch_norm, n_members, generator
        As in `StackedMLP`.

    Attributes
    ----------
    out_features : int
        Width H of the outputs.

    Notes
    -----
    Shape: task inputs (B, K, D), shared input (B, D) -> (B, M * K, H). A gate's weights are those
    of the tasks' experts in task order, then of the shared ones.
    """

    trained: Tensor

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
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        n_members: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.n_members = n_members
        n_own = n_tasks * n_task_experts
        drawn: dict[str, Any] = {
            "activation": activation,
            "n_members": n_members,
            "generator": generator,
        }

        def experts(n: int) -> StackedMLP | None:
            if n == 0:
                return None
            return StackedMLP(
                n, in_features, expert_units, dropout=dropout, batch_norm=batch_norm, **drawn
            )

        self.task_experts, self.shared_experts = experts(n_own), experts(n_shared_experts)
        n_experts = n_own + n_shared_experts
        self.gates = Gates(
            n_tasks, in_features, n_experts, gate_units, balance=expert_balance, **drawn
        )
        trained = torch.ones(n_tasks, n_experts)
        trained[:, :n_own] = torch.eye(n_tasks).repeat_interleave(n_task_experts, 1)
        self.register_buffer("trained", trained.repeat(n_members, 1), persistent=False)
        self.out_features = expert_units[-1]

    def forward(self, task_x: Tensor, shared_x: Tensor) -> Tensor:
        """Return each task's mixture of all experts, (B, M * K, H)."""
        if self.n_members > 1:
            task_x = task_x.repeat(1, self.n_members, 1)
        weights = self.gates(task_x + shared_x.unsqueeze(1))  # (B, M * K, E)
        parts = []
        if self.task_experts is not None:
            parts.append(self.task_experts(task_x).unflatten(1, (self.n_members, -1)))
        if self.shared_experts is not None:
            parts.append(self.shared_experts(shared_x).unflatten(1, (self.n_members, -1)))
        experts = torch.cat(parts, dim=2).flatten(1, 2)  # (B, M * E, H)
        trained = weights * self.trained
        # The second mixture is that of other tasks' experts: the gates learn from it.
        return mix(trained, experts) + mix(weights - trained, experts.detach())

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what a single task moves: its gate and its experts."""
        yield from self.gates.parameters()
        if self.task_experts is not None:
            yield from self.task_experts.parameters()
