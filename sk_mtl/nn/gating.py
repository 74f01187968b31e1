"""Softmax gates, the weighted sums they make of experts, and a penalty for unused experts."""

from collections.abc import Sequence
from typing import Any

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
    experts : sequence of sequences of int, optional
        For each gate the numbers, within its level, of the `n_experts` experts it chooses among.
        Default: all gates choose among the same experts.
    balance : float, default=0.0
        Weight of the penalty for unused experts, see `ExpertBalance`; at 0.0 there is none.
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
        experts: Sequence[Sequence[int]] | None = None,
        balance: float = 0.0,
        activation: str = "relu",
        n_members: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.streams = tuple(range(n_gates) if streams is None else streams)
        self.experts = which_experts(n_gates, n_experts, experts)
        self.balance = ExpertBalance(self.experts, balance, n_members) if balance else None
        n_gates = n_gates * n_members
        self.hidden = StackedMLP(
            n_gates, in_features, units, activation=activation, generator=generator
        )
        self.scores = StackedLinear(
            n_gates, self.hidden.out_features, n_experts, bias=False, generator=generator
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the gates' weights, (B, M * n_gates, n_experts)."""
        weights = self.hidden.then(x, self.scores, "softmax")
        if self.balance is not None and self.training:
            self.balance(weights)
        return weights


class BatchPenalty(nn.Module):
    """Base of penalties that a part of a network takes on the batches it sees in training.

    The part holds one only if it has a penalty, and calls it with what the penalty is on;
    `MultiTaskModule` finds it by its method `penalty`.
    """

    _value: Tensor | None = None

    def forward(self, seen: Tensor) -> None:
        """Compute the penalty of a batch, and keep it until it is asked for."""
        self._value = self.measure(seen)

    def measure(self, seen: Tensor, /) -> Tensor:
        """Return the penalty of a batch, a scalar: the mean over rows and members."""
        raise NotImplementedError

    def penalty(self) -> Tensor:
        """Return the penalty of the last batch, which can be asked for once."""
        value, self._value = self._value, None
        if value is None:
            raise RuntimeError("no batch has passed in training mode since the last penalty()")
        return value

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the last batch's penalty: a tensor with a graph cannot be copied."""
        return {**super().__getstate__(), "_value": None}


class ExpertBalance(BatchPenalty):
    r"""Penalty for experts that the gates of a level leave unused.

    The load of an expert is the weight that it gets, averaged over the batch's rows and over the
    gates that may choose it. The penalty is the squared coefficient of variation of the loads of
    E experts, times a factor: the importance loss of Shazeer et al. (ICLR 2017, section 4).

    .. math::
        \ell_e = \frac{1}{B\,|G_e|} \sum_{b} \sum_{k \in G_e} g^k(x_b)_e, \qquad
        \lambda \,\frac{\frac1E \sum_e (\ell_e - \bar\ell)^2}{\bar\ell^{\,2}}

    Gates that read the same experts share one penalty: a task may keep to some of them as long as
    other tasks use the rest. NOTE[DIFF]: Shazeer et al. have a single gate, and sum over rows
    where we take the mean, which makes no difference to the coefficient. Over gates a load is the
    mean of those that may choose the expert, so that even gates cost nothing where some experts
    have more gates than others.

    Parameters
    ----------
    experts : sequence of sequences of int
        For each gate the numbers of the experts it chooses among.
    weight : float
        The factor.
    n_members : int, default=1
        Number M of members; the penalty is their mean.

    Notes
    -----
    Shape: (B, M * n_gates, n), the gates' weights -> None

    Examples
    --------
    >>> import torch
    >>> from sk_mtl.nn import ExpertBalance
    >>> balance = ExpertBalance([(0, 1), (0, 1)], weight=1.0)
    >>> balance(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))  # each gate has an expert of its own
    >>> balance.penalty()
    tensor(0.)
    >>> balance(torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]))
    >>> balance.penalty()
    tensor(1.)
    """

    readers: Tensor

    def __init__(self, experts: Sequence[Sequence[int]], weight: float, n_members: int = 1) -> None:
        super().__init__()
        self.weight, self.n_members = weight, n_members
        numbers = torch.tensor(experts).flatten()
        readers = torch.zeros(len(numbers), int(numbers.max()) + 1)
        readers[torch.arange(len(numbers)), numbers] = 1.0
        # The product with it sums weights by expert. It follows from arguments: no state.
        self.register_buffer("readers", readers, persistent=False)

    def measure(self, weights: Tensor, /) -> Tensor:
        """Return the penalty of the gates' weights, (B, M * n_gates, n)."""
        means = weights.mean(0).unflatten(0, (self.n_members, -1)).flatten(1)
        loads = means @ self.readers / self.readers.sum(0)  # (M, E)
        uneven = loads.var(1, correction=0) / loads.mean(1).square()
        return self.weight * uneven.mean()


def which_experts(
    n_gates: int, n_experts: int, experts: Sequence[Sequence[int]] | None
) -> tuple[tuple[int, ...], ...]:
    """Return the numbers of each gate's experts: the same for all gates unless they are given."""
    if experts is None:
        return (tuple(range(n_experts)),) * n_gates
    return tuple(tuple(of_gate) for of_gate in experts)


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
