"""Softmax gates and the weighted sums they make of experts."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sk_mtl.nn.members import fold_members, unfold_members
from sk_mtl.nn.stacked import StackedLinear, StackedMLP


class Gates(nn.Module):
    """``n_gates`` softmax gates over ``n_experts`` experts each.

    The papers' gate: softmax(W x), linear and without a bias. Hidden layers are optional.

    Parameters
    ----------
    n_gates : int
        Number of gates, as a rule one per task.
    in_features : int
        Width of the gates' input.
    n_experts : int
        Number of experts that each gate chooses among.
    units : sequence of int, default=()
        Widths of hidden layers before the softmax layer.
    streams : sequence of (int or str), optional
        What each gate's mixture goes to: the position of a task, or the name of a stream that is
        no task's own. Default: the tasks in order.
    activation : str, default="relu"
        Activation of the hidden layers.
    n_members : int, default=1
        Number M of members that have `n_gates` gates each, member after member.
    generator : torch.Generator, optional
        Source of the initial weights.

    Notes
    -----
    Shape: (B, D) or (B, g, D) with g dividing M * n_gates -> (B, M * n_gates, n_experts),
    non-negative, rows sum to one. A row's gate depends on that row only.
    """

    def __init__(
        self,
        n_gates: int,
        in_features: int,
        n_experts: int,
        units: Sequence[int] = (),
        *,
        streams: Sequence[int | str] | None = None,
        activation: str = "relu",
        n_members: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.streams = tuple(range(n_gates) if streams is None else streams)
        n_gates = n_gates * n_members
        self.hidden = StackedMLP(
            n_gates, in_features, units, activation=activation, generator=generator
        )
        self.scores = StackedLinear(
            n_gates, self.hidden.out_features, n_experts, bias=False, generator=generator
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the gates' weights, (B, M * n_gates, n_experts)."""
        return self.hidden.then(x, self.scores, "softmax")


def mix(weights: Tensor, experts: Tensor) -> Tensor:
    """Sum experts by the weights of each gate.

    Parameters
    ----------
    weights : Tensor of shape (B, M * K, E)
        The gates' weights.
    experts : Tensor of shape (B, M * E, H)
        The experts; a member's gates read that member's experts.

    Returns
    -------
    Tensor of shape (B, M * K, H)
    """
    n_members = experts.shape[1] // weights.shape[2]
    if n_members > 1:
        weights, experts = fold_members(weights, n_members), fold_members(experts, n_members)
        return unfold_members(torch.bmm(weights, experts), n_members)
    # Gates keep rows last in memory; `bmm` needs each row's weights contiguous.
    return torch.bmm(weights.contiguous(), experts)
