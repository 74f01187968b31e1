"""One step of several processes: what they add up, so that all of them move alike."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sk_mtl._training.ranks import Ranks
from sk_mtl._training.signals import StopTraining

Gradients = list[tuple[nn.Parameter, Tensor]]


class _Shared(torch.autograd.Function):
    """The value of all ranks, and the gradient of the own share."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, of_all: Tensor) -> Tensor:
        # Not own + (of_all - own): its last bit would differ between ranks, and with it what a
        # balancer decides.
        return of_all.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad, None


class Exchange:
    """What the ranks of a run tell each other in each step.

    Each rank computes the terms of its own share of a batch. Their sums are added up before the
    balancer sees them, so that it decides alike on every rank; its gradients are those of the own
    share, and are added up after it. Balancers that look at gradients take part by the methods of
    `sk_mtl.balancing.Partners`.

    Parameters
    ----------
    ranks : Ranks
        The processes.
    module : nn.Module
        The network.
    objective : nn.Module
        The terms, which may have parameters too.
    sparse : set of str
        Names of the network's parameters that have sparse gradients.

    Raises
    ------
    ValueError
        If the network normalizes by the statistics of a batch.
    """

    def __init__(
        self, ranks: Ranks, module: nn.Module, objective: nn.Module, sparse: Iterable[str]
    ) -> None:
        for name, part in module.named_modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                raise ValueError(
                    f"`batch_norm` is True, or the network has another batch normalization "
                    f"({name}), and {ranks.size} processes train together: each would normalize "
                    "by the statistics of its own share of a batch. Pass batch_norm=False."
                )
        self.ranks = ranks
        named, sparse = dict(module.named_parameters()), set(sparse)
        self.sparse = [p for name, p in named.items() if name in sparse and p.requires_grad]
        others = [p for name, p in named.items() if name not in sparse]
        self.dense = [p for p in (*others, *objective.parameters()) if p.requires_grad]
        self._summed: set[int] = set()
        self._n_own = 0

    # Before the balancer ------------------------------------------------------------------------

    def terms(
        self, sums: Tensor, weights: Tensor, n_rows: int, penalty: Tensor | None = None
    ) -> tuple[Tensor, Tensor, int, Tensor | None]:
        """Add up the terms of a batch.

        Parameters
        ----------
        sums, weights : Tensor of shape (M,)
            The terms' sums over the own share, and those of their weights.
        n_rows : int
            Number of rows of the own share.
        penalty : Tensor, optional
            The network's own penalty, the mean over the own share.

        Returns
        -------
        sums, weights, n_rows, penalty
            The same of the whole batch, with the gradients of the own share. A penalty that is not
            linear in the rows becomes the mean of the shares', by their numbers of rows.

        Raises
        ------
        StopTraining
            On all ranks, if one of them wants training to end at once.
        """
        m = len(sums)
        self._n_own = n_rows
        more = sums.new_tensor([n_rows, self.ranks.wants_end], dtype=torch.float64)
        of_rows = more.new_zeros(1)
        if penalty is not None and n_rows:
            of_rows = penalty.detach().double().reshape(1) * n_rows
        own = torch.cat([sums.detach().double(), weights.double(), more, of_rows])
        total = self.ranks.sum(own)
        *_, rows, wants_end, _ = total.tolist()
        if wants_end:
            raise StopTraining
        n_all = round(rows)
        if penalty is not None:
            value = (total[-1] / n_all).to(penalty.dtype)
            penalty = _Shared.apply(penalty * (n_rows / n_all), value)
        sums = _Shared.apply(sums, total[:m].to(sums.dtype))
        return sums, total[m : 2 * m].to(weights.dtype), n_all, penalty

    def end_pass(self) -> None:
        """Raise StopTraining on all ranks if one of them wants training to end at once."""
        if self.ranks.any(self.ranks.wants_end):
            raise StopTraining

    # For balancers, see `sk_mtl.balancing.Partners` ---------------------------------------------

    def sum_all(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Add up tensors over all ranks."""
        return self.ranks.sum_all(tensors)

    def join_slots(self, slots: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the slots of all ranks, and their values."""
        all_slots, all_values = self.ranks.gather(slots, values)
        return torch.cat(all_slots), torch.cat(all_values)

    def join_rows(self, values: Tensor) -> Tensor:
        """Return the values of all rows of the batch."""
        (found,) = self.ranks.gather(values[: self._n_own])
        return torch.cat(found)

    def own_rows(self, values: Tensor, like: Tensor) -> Tensor:
        """Return those of the own rows: what `join_rows` did, undone."""
        n_all, part = len(values), self.ranks.rank
        own = values.new_zeros(like.shape)  # the row that stands in, if there is no own one
        start, stop = (n_all * p // self.ranks.size for p in (part, part + 1))
        own[: stop - start] = values[start:stop]
        return own

    def leave(self, parameters: Iterable[nn.Parameter]) -> None:
        """Take note that the gradients of parameters are added up already in this step."""
        self._summed = {id(p) for p in parameters}

    # After the balancer -------------------------------------------------------------------------

    def take_gradients(self) -> Gradients:
        """Add up the gradients that are there, and take them off the parameters."""
        self.add_gradients()
        found = [(p, p.grad) for p in (*self.dense, *self.sparse) if p.grad is not None]
        for p, _ in found:
            p.grad = None
        return found

    @torch.no_grad()
    def add_gradients(self, more: Gradients | None = None) -> None:
        """Replace the gradients by their sums over the ranks.

        Parameters
        ----------
        more : list of pairs, optional
            Parameters, and what to add to their gradients: sums already.
        """
        dense = [p for p in self.dense if id(p) not in self._summed]
        if dense:
            # A gradient that no rank has stays none: optimizers then leave the parameter alone.
            known = dense[0].new_tensor([p.grad is not None for p in dense])
            own = [torch.zeros_like(p) if p.grad is None else p.grad for p in dense]
            known, *sums = self.ranks.sum_all([known, *own])
            for p, total, count in zip(dense, sums, known.tolist(), strict=True):
                p.grad = total if count else None
        for p in self.sparse:
            if id(p) not in self._summed:
                self._add_sparse(p)
        self._summed = set()
        for p, gradient in more or ():
            p.grad = gradient if p.grad is None else p.grad + gradient

    def _add_sparse(self, p: nn.Parameter) -> None:
        """Replace a sparse gradient by the entries of all ranks."""
        if p.grad is None:
            slots, values = p.new_zeros(0, dtype=torch.int64), p.new_zeros(0, *p.shape[1:])
        else:
            # Slots that stand in a share several times are sent once.
            gradient = p.grad.coalesce()
            slots, values = gradient.indices()[0], gradient.values()
        slots, values = self.join_slots(slots, values)
        p.grad = None
        if len(slots):
            p.grad = torch.sparse_coo_tensor(
                slots.unsqueeze(0), values, p.shape, check_invariants=False
            )


class SharedCounts:
    """Counts of what each rank has seen of its share of the rows, added up at the end.

    Parameters
    ----------
    ranks : Ranks
        The processes.
    counts : sequence of Tensor
        Numbers that grow, and marks that are set, the same on every rank now.
    """

    def __init__(self, ranks: Ranks, counts: Sequence[Tensor]) -> None:
        self.ranks, self.counts = ranks, counts
        self.before = [tensor.clone() for tensor in counts]

    @torch.no_grad()
    def add_up(self) -> None:
        """Give every rank what all have counted since."""
        for tensor, before in zip(self.counts, self.before, strict=True):
            if tensor.dtype == torch.bool:
                tensor.copy_(self.ranks.sum(tensor.to(torch.int32)) > 0)
            else:
                tensor.copy_(before + self.ranks.sum(tensor - before))
