"""One level of customized gate control, the piece that CGC has once and PLE several times."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sk_mtl.nn.dselect import DSelectGates, DSelectK, make_gates
from sk_mtl.nn.gating import Gates, mix
from sk_mtl.nn.members import fold_members, unfold_members
from sk_mtl.nn.stacked import StackedMLP


class ExtractionLevel(nn.Module):
    r"""Task experts, shared experts, and a gate per task over its own and the shared ones.

    With the level's inputs :math:`x^k` for task k and :math:`x^s` for the shared stream
    (Tang et al., RecSys 2020, equations 1 to 6):

    .. math::
        S^k = [E_{k,1}(x^k) \dots E_{k,m_k}(x^k); E_{s,1}(x^s) \dots E_{s,m_s}(x^s)], \qquad
        g^k = \mathrm{softmax}(W^k x^k)\, S^k

    and, unless it is the last level, a shared gate reads :math:`x^s` and mixes *all* experts.

    Parameters
    ----------
    in_features : int
        Width D of the level's inputs.
    n_tasks : int
        Number of tasks K.
    n_task_experts, n_shared_experts : int
        Experts of each task, and experts shared by all. One of them may be zero.
    expert_units : sequence of int
        Widths of each expert's layers.
    gate_units : sequence of int, default=()
        Widths of the gates' hidden layers; none in the paper.
    gate : "softmax", "dselect_k" or DSelectK, default="softmax"
        Kind of the gates, see `Gates` and `DSelectGates`.
    expert_balance : float, default=0.0
        Weight of the penalties for unused experts, see `ExpertBalance`: one for the tasks' gates
        and one for the shared gate.
    last : bool, default=True
        Whether no level follows: then there is no shared gate.
    activation, dropout, batch_norm, n_members, generator
        As in `StackedMLP`.

    Attributes
    ----------
    out_features : int
        Width H of the outputs.

    Notes
    -----
    Shape: task inputs (B, D) or (B, M * K, D), shared input (B, D) or (B, M, D) ->
    (B, M * K, H), and (B, M, H) or None; with one member (B, H).
    """

    def __init__(
        self,
        in_features: int,
        n_tasks: int,
        *,
        n_task_experts: int,
        n_shared_experts: int,
        expert_units: Sequence[int],
        gate_units: Sequence[int] = (),
        gate: str | DSelectK = "softmax",
        expert_balance: float = 0.0,
        last: bool = True,
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        n_members: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.n_tasks, self.n_task_experts = n_tasks, n_task_experts
        self.n_shared_experts, self.n_members = n_shared_experts, n_members

        def experts(n: int) -> StackedMLP | None:
            if n == 0:
                return None
            return StackedMLP(
                n,
                in_features,
                expert_units,
                activation=activation,
                dropout=dropout,
                batch_norm=batch_norm,
                n_members=n_members,
                generator=generator,
            )

        def gates(
            experts: list[list[int]], streams: tuple[str, ...] | None = None
        ) -> Gates | DSelectGates:
            return make_gates(
                gate,
                len(experts),
                in_features,
                len(experts[0]),
                units=gate_units,
                streams=streams,
                experts=experts,
                balance=expert_balance,
                activation=activation,
                n_members=n_members,
                generator=generator,
            )

        n_own = n_tasks * n_task_experts
        self.task_experts = experts(n_own)
        self.shared_experts = experts(n_shared_experts)
        numbers = list(range(n_own + n_shared_experts))
        own = [numbers[k * n_task_experts :][:n_task_experts] for k in range(n_tasks)]
        self.task_gates = gates([of_task + numbers[n_own:] for of_task in own])
        # Without shared experts no stream is shared, so nothing would read a shared gate.
        has_shared_gate = not last and n_shared_experts > 0
        self.shared_gate = None
        if has_shared_gate:
            self.shared_gate = gates([numbers], ("<shared>",))
        self.out_features = expert_units[-1]

    def forward(self, task_x: Tensor, shared_x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the fused tasks (B, M * K, H), and the shared stream if a level follows."""
        # Every member of a row is a row here: the shapes are those of one member.
        weights = self._fold(self.task_gates(task_x))  # (B, K, m + s): own experts come first
        own, shared = weights.split([self.n_task_experts, self.n_shared_experts], dim=2)
        # One row of weights per stream over every task's experts: zero for those of others.
        blocks = torch.diag_embed(own.transpose(1, 2), dim1=1, dim2=2).flatten(2)  # (B, K, K * m)
        if self.shared_gate is not None:
            over_all = self._fold(self.shared_gate(shared_x))
            n_own = blocks.shape[2]
            blocks = torch.cat([blocks, over_all[..., :n_own]], dim=1)
            shared = torch.cat([shared, over_all[..., n_own:]], dim=1)
        parts = []
        if self.task_experts is not None:
            parts.append(mix(blocks, self._fold(self.task_experts(task_x))))
        if self.shared_experts is not None:
            parts.append(mix(shared, self._fold(self.shared_experts(shared_x))))
        streams = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        if self.shared_gate is None:
            return unfold_members(streams, self.n_members), None
        tasks, last = streams[:, : self.n_tasks], streams[:, self.n_tasks]
        if self.n_members > 1:
            last = last.unflatten(0, (-1, self.n_members))
        return unfold_members(tasks, self.n_members), last

    def _fold(self, x: Tensor) -> Tensor:
        return fold_members(x, self.n_members)
