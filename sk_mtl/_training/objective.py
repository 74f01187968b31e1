"""What is minimized: named terms, each a weighted mean over the rows."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sk_mtl.balancing import LossBalancer
from sk_mtl.data.rows import Rows
from sk_mtl.data.windows import StreamedRows
from sk_mtl.nn import fold_members
from sk_mtl.tasks import Task, logit_slices


class Objective(nn.Module):
    r"""The terms of the loss: by default one for each task.

    .. math:: S_m = \sum_i w_{im}\, \ell_m(z_i, y_i), \qquad W_m = \sum_i w_{im}

    Training minimizes the terms' means :math:`S_m / W_m` over all rows; a balancer, the history
    and `loss_weights` go by term. To write another objective, set `names` in the constructor, and
    override `forward` and, where weights differ from those of the labels, `weigh`.

    Parameters
    ----------
    tasks : sequence of Task
        The tasks, in the order of their logits.

    Attributes
    ----------
    names : tuple of str
        Names of the M terms.
    regression : tuple of bool
        Whether each term is the loss of real values.
    extra_outputs : int
        Number of towers without a label. They have one logit each, after the tasks' logits, and a
        representation each, after the tasks' representations.
    may_be_negative : bool
        Whether a term may be below zero although no task's loss is. Balancers that compare losses
        are refused then.
    n_members : int
        Number of members of the network, as `make_net` finds it: `forward` takes one row for each
        member of a row, all members of a row one after the other.
    row_penalty : callable or None
        A method that some objectives have, ``row_penalty(tower_logits, logits) -> (B,)``: what
        training adds to the loss for each row, whatever its labels, outside the balancer. Its
        mean over the rows counts, by their weights: a row weighs what its heaviest label does.
    """

    extra_outputs: int = 0
    may_be_negative: bool = False
    n_members: int = 1
    row_penalty: Callable[[Tensor, Tensor], Tensor] | None = None

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.names = tuple(task.name for task in tasks)
        self.regression = tuple(task.classes_ is None for task in tasks)
        groups: dict[tuple, list[int]] = {}
        for k, task in enumerate(tasks):
            groups.setdefault(task.loss_key(), []).append(k)
        slices = logit_slices(tasks)
        # Tasks of one kind and width compute their losses in one call: their logits' columns.
        self.groups = [
            (members, [c for k in members for c in range(slices[k].start, slices[k].stop)])
            for members in groups.values()
        ]
        self._ones: dict[tuple[Any, ...], Tensor] = {}

    def row_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return every row's loss for every task: (B, L), (B, K) -> (B, K)."""
        losses: list[Tensor] = [logits] * len(self.tasks)
        for members, columns in self.groups:
            alone = len(self.groups) == 1
            z = logits if alone else logits[:, columns]
            y = target if alone else target[:, members]
            group = self.tasks[members[0]].loss(z.view(z.shape[0], len(members), -1), y)
            if alone:
                return group
            for position, k in enumerate(members):
                losses[k] = group[:, position]
        return torch.stack(losses, dim=1)

    def weigh(self, target: Tensor, weight: Tensor | None) -> Tensor | None:
        """Return each row's weight in each term, from its labels alone.

        Parameters
        ----------
        target : Tensor of shape (B, K)
            Encoded labels, NaN where not observed.
        weight : Tensor of shape (B, K) or None
            Weights of the labels, zero where not observed; None: all one.

        Returns
        -------
        Tensor of shape (B, M) or None
            None: all one.
        """
        return weight

    def forward(
        self, tower_logits: Tensor, logits: Tensor, target: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the sums of the terms over a batch.

        Parameters
        ----------
        tower_logits : Tensor of shape (B, L + extra_outputs)
            What the towers returned, those without a label last.
        logits : Tensor of shape (B, L)
            What the network returned: the tasks' logits after the head.
        target : Tensor of shape (B, K)
            Encoded labels; NaN is a label that was not observed.
        weight : Tensor of shape (B, K) or None
            Weight of each label, zero where not observed. None: every label is observed and
            counts alike.

        Returns
        -------
        sums : Tensor of shape (M,)
            Each term's sum of weighted losses, zero without a label.
        weights : Tensor of shape (M,)
            Each term's sum of weights; zero says that the batch has no label of the term.
        """
        if weight is None:
            return self.row_losses(logits, target).sum(0), self._full(logits, target.shape[0])
        # Before the loss, not after: NaN times zero is NaN, in the loss and in its gradient.
        target = torch.where(weight > 0, target, 0.0)
        return (self.row_losses(logits, target) * weight).sum(0), weight.sum(0)

    def _full(self, like: Tensor, n_rows: int) -> Tensor:
        """Return the sums of weights that are all one."""
        key = n_rows, like.device, like.dtype
        if key not in self._ones:
            self._ones = {key: like.new_full((len(self.names),), n_rows)}
        return self._ones[key]


class Criterion(nn.Module):
    r"""The objective while it is trained: estimates of its terms from single batches.

    A batch of B rows gives

    .. math:: L_m = \frac{S_m}{B\, \bar w_m}, \qquad \bar w_m = \frac{1}{n} \sum_{i=1}^n w_{im}

    with the mean weight :math:`\bar w_m` over all n rows to train on: an unbiased estimate of the
    mean over them, so that a weight means the same at any batch size. (The ratio :math:`S_m / W_m`
    of a batch is none: the fewer rows with a large weight a batch has, the less they would count.)

    Parameters
    ----------
    objective : Objective
        The terms.
    balancer : LossBalancer
        Reduces the vector of losses in training.
    loss_weights : sequence of float, optional
        Fixed weights of the terms, see `weigh`; all one if None.

    Attributes
    ----------
    total_weight : Tensor of shape (M,), float64
        Each term's sum of weights over the rows counted.
    n_rows : int
        Number of rows counted.
    row_weight : float
        Sum of the weights of the rows counted, where the objective has a penalty for rows.
    n_members : int
        Number of members of the network, as `make_net` finds it: a term is the mean of their
        losses.
    """

    loss_weights: Tensor | None
    mean_weight: Tensor | None
    total_weight: Tensor
    n_members: int = 1

    def __init__(
        self,
        objective: Objective,
        balancer: LossBalancer,
        loss_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.objective, self.balancer = objective, balancer
        weights = None
        if loss_weights is not None:
            weights = torch.tensor(loss_weights, dtype=torch.float64)
        self.register_buffer("loss_weights", weights)
        self.register_buffer("mean_weight", None)
        self.total_weight = torch.zeros(len(objective.names), dtype=torch.float64)
        self.n_rows, self.row_weight = 0, 0.0
        self.muted = loss_weights is not None and not all(loss_weights)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the terms."""
        return self.objective.names

    @torch.no_grad()
    def count(self, rows: Rows | StreamedRows, device: Any, *, goes_on: bool = False) -> None:
        """Take the terms' mean weights over rows to train on.

        Parameters
        ----------
        rows : Rows or StreamedRows
            The rows.
        device : torch.device
            Where they are trained on.
        goes_on : bool, default=False
            Whether the rows are further ones of a stream: those before count too.
        """
        if not goes_on:
            self.total_weight, self.n_rows = torch.zeros_like(self.total_weight), 0
            self.row_weight = 0.0
        all_one, dtype = True, torch.float32
        for target, given in rows.labels():
            n, dtype = target.shape[0], target.dtype
            if self.objective.row_penalty is not None:
                self.row_weight += n if given is None else given.amax(1).sum().item()
            weight = self.objective.weigh(target, given)
            all_one = all_one and weight is None
            more = n if weight is None else weight.sum(0, dtype=torch.float64).cpu()
            # Not in place: what a failed run goes back to may be this very tensor.
            self.total_weight = self.total_weight + more
            self.n_rows += n
        mean = self.total_weight / max(self.n_rows, 1)
        if all_one and bool((mean == 1).all()):
            self.mean_weight = None
            return
        # A term without any label has sums of zero, whatever they are divided by.
        self.mean_weight = torch.where(mean > 0, mean, 1.0).to(device, dtype)

    def forward(
        self, tower_logits: Tensor, logits: Tensor, target: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the sums of the terms and of their weights; see `Objective.forward`.

        The objective sees each member of a row as a row; the sums are means over the members.
        """
        n_members = self.n_members
        if n_members == 1:
            return self.objective(tower_logits, logits, target, weight)
        sums, weights = self.objective(
            fold_members(tower_logits, n_members),
            fold_members(logits, n_members),
            target.repeat_interleave(n_members, 0),
            None if weight is None else weight.repeat_interleave(n_members, 0),
        )
        return sums / n_members, weights / n_members

    def penalty(self, tower_logits: Tensor, logits: Tensor, weight: Tensor | None) -> Tensor | None:
        """Return a batch's estimate of the objective's mean penalty over all rows, or None.

        Parameters
        ----------
        tower_logits, logits, weight : Tensor
            As in `forward`.
        """
        if self.objective.row_penalty is None:
            return None
        n_members = self.n_members
        towers, joint = fold_members(tower_logits, n_members), fold_members(logits, n_members)
        each = self.objective.row_penalty(towers, joint)
        if weight is None:
            return each.mean()
        of_row = weight.amax(1).repeat_interleave(n_members, 0)
        return (each * of_row).mean() * (self.n_rows / (self.row_weight or 1.0))

    def estimate(self, sums: Tensor, n_rows: int) -> Tensor:
        """Return the estimates that a batch of `n_rows` gives of the terms' means: (M,) -> (M,)."""
        return sums / (n_rows if self.mean_weight is None else self.mean_weight * n_rows)

    def present(self, weights: Tensor, *, complete: bool) -> Tensor | None:
        """Return which terms a batch says something of, (M,) -> (M,) of bool; None: all.

        Parameters
        ----------
        weights : Tensor of shape (M,)
            The terms' sums of weights.
        complete : bool
            Whether it is known that every label was observed.
        """
        if complete and not self.muted:
            return None
        found = weights > 0
        if self.muted and self.loss_weights is not None:
            found &= self.loss_weights > 0
        return found

    def weigh(self, losses: Tensor) -> Tensor:
        """Multiply the terms' losses by their fixed weights: (M,) -> (M,)."""
        return losses if self.loss_weights is None else losses * self.loss_weights
