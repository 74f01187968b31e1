"""The base of balancers that work on the tasks' gradients, one backward pass for each task."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from sk_mtl._checks import check_choice
from sk_mtl.balancing.base import LossBalancer, Partners, Step, mask

PLACES = ("auto", "features", "parameters")
"""Where gradients can be compared."""

COLLINEAR = 1e-5
"""Squared sine between gradients below which they count as one in `coefficients`."""


class TaskGradients(NamedTuple):
    """The gradients of several tasks in one tensor, as rows of a matrix.

    Of a sparse gradient only the rows touched are in it, so no cost depends on a table's size.
    """

    rows: Tensor
    shape: torch.Size
    indices: Tensor | None = None

    @classmethod
    def of(cls, gradients: Sequence[Tensor | None], like: Tensor) -> Self:
        """Stack gradients of one tensor, None being zero; without any there are no columns."""
        known = [g for g in gradients if g is not None]
        if not known:
            return cls(like.new_zeros(len(gradients), 0), like.shape)
        if known[0].is_sparse:
            return cls._of_sparse(gradients, known)
        rows = torch.stack([torch.zeros_like(known[0]) if g is None else g for g in gradients])
        return cls(rows.flatten(1), like.shape)

    @classmethod
    def _of_sparse(cls, gradients: Sequence[Tensor | None], known: Sequence[Tensor]) -> Self:
        # TorchJD's own Jacobians (0.18) refuse sparse gradients, with an error of torch's.
        # All tasks look up the same rows: as a rule their indices are equal, and one sort serves
        # for all, the tasks side by side in a further axis.
        first, shape = known[0]._indices(), known[0].shape
        if len(known) == len(gradients) and all(
            torch.equal(g._indices(), first) for g in known[1:]
        ):
            indices, values = first, torch.stack([g._values() for g in known], 1)
        else:
            indices = torch.cat([g._indices() for g in known], 1)
            values = known[0]._values().new_zeros(indices.shape[1], len(gradients), *shape[1:])
            start = 0
            for k, g in enumerate(gradients):
                if g is not None:
                    stop = start + g._nnz()
                    values[start:stop, k] = g._values()
                    start = stop
        return cls._of_entries(indices, values, shape)

    @classmethod
    def _of_entries(cls, indices: Tensor, values: Tensor, shape: torch.Size) -> Self:
        """Add up entries of equal slots: (1, n), (n, K, ...) -> rows of K tasks."""
        size = (shape[0], *values.shape[1:])
        together = _sparse(indices, values, size).coalesce()
        rows = together.values().transpose(0, 1).flatten(1)
        return cls(rows, shape, together.indices())

    def join_slots(self, partners: Partners) -> Self:
        """Return the gradients of all processes added up, of a tensor with sparse ones."""
        assert self.indices is not None
        values = self.rows.view(len(self.rows), -1, *self.shape[1:]).transpose(0, 1)
        slots, values = partners.join_slots(self.indices[0], values.contiguous())
        return self._of_entries(slots.unsqueeze(0), values, self.shape)

    def join_rows(self, partners: Partners) -> Self:
        """Return the gradients of all rows of the batch, of features that each has a share of."""
        values = self.rows.view(len(self.rows), *self.shape).transpose(0, 1)
        whole = partners.join_rows(values.contiguous()).transpose(0, 1)
        return type(self)(whole.flatten(1), whole[0].shape)

    def restore(self, row: Tensor) -> Tensor | None:
        """Return one row as a gradient of the tensor: dense, sparse, or None without columns."""
        if not self.rows.shape[1]:
            return None
        if self.indices is None:
            return row.view(self.shape)
        values = row.view(-1, *self.shape[1:])
        return _sparse(self.indices, values, self.shape, is_coalesced=True)


class GradientBalancer(LossBalancer):
    """Base of the methods that combine the gradients of the tasks in what they share.

    A step costs about one backward pass for each task. Parameters that a single task moves get
    the sum of the gradients, as without a balancer.

    Notes
    -----
    A subclass defines `combine`. The reported `weights` are the coefficients of the tasks'
    gradients in the step: exact where the step is a combination of them, else the nearest one. They
    are 1 where no parameter is shared.
    """

    needs_positive = False
    on: str = "parameters"

    def begin(self, generator: torch.Generator | None) -> None:
        """Check where gradients are to be compared."""
        check_choice("balancer__on", self.on, PLACES)

    def forward(self, losses: Tensor, present: Tensor | None = None) -> Tensor:
        """Sum the task losses, (K,) -> scalar: what is reported of a step."""
        return losses.sum()

    @abstractmethod
    def combine(self, rows: Sequence[Tensor], present: Sequence[int]) -> Sequence[Tensor]:
        """Combine the tasks' gradients.

        Parameters
        ----------
        rows : sequence of Tensor of shape (P, n)
            For each shared tensor the gradients of the P tasks present in the batch.
        present : sequence of int
            Which tasks these are.

        Returns
        -------
        sequence of Tensor of shape (n,)
            For each shared tensor what its gradient shall be.
        """

    def backward(self, losses: Tensor, step: Step) -> Tensor:
        """Accumulate the combined gradients, and return the sum of the losses.

        Parameters
        ----------
        losses : Tensor of shape (K,)
            The task losses, times `loss_weights`.
        step : Step
            Parameters and features that the losses come from.

        Returns
        -------
        Tensor
            A detached scalar, the sum of the losses.
        """
        values = losses.detach()
        self.weights = torch.full_like(values, torch.nan)
        present = mask(values, step.present).nonzero().flatten().tolist()
        # With a loss that is not finite the net stops training; a solver would hide that.
        if not present or not values.isfinite().all():
            return values.sum()
        features = choose_features(self.on, step)
        shared = step.shared if features is None else [features]
        shared = [tensor for tensor in shared if tensor.requires_grad]
        own = [p for p in step.own if p.requires_grad]
        gradients, own_gradients = differentiate(losses, present, shared, own)
        if features is not None:
            # One representation stands in all K slices: its gradient is the sum of theirs.
            gradients = [[None if g is None else g.sum(1) for g in task] for task in gradients]
        parts = [
            TaskGradients.of(task, features[:, 0] if features is not None else tensor)
            for task, tensor in zip(gradients, shared, strict=True)
        ]
        if step.partners is not None:
            parts = add_up(parts, step.partners, of_rows=features is not None)
        rows = [part.rows for part in parts]
        with torch.no_grad():
            combined = rows if not rows else self._combined(rows, present)
            # Without shared parameters nothing is combined: each task keeps its own gradient.
            self.weights[present] = coefficients(rows, combined).to(values) if rows else 1.0
        found = [part.restore(row) for part, row in zip(parts, combined, strict=True)]
        if features is not None:
            if step.partners is not None:
                own_rows, like = step.partners.own_rows, features[:, 0]
                found = [None if g is None else own_rows(g, like) for g in found]
            found = [None if g is None else in_first_slice(g, features) for g in found]
        elif step.partners is not None:
            step.partners.leave(step.shared)
        accumulate([*shared, *own], [*found, *own_gradients])
        return values.sum()

    def _combined(self, rows: Sequence[Tensor], present: Sequence[int]) -> Sequence[Tensor]:
        # A single task has nothing to be balanced with.
        return [row[0] for row in rows] if len(present) == 1 else self.combine(rows, present)


def choose_features(on: str, step: Step) -> Tensor | None:
    """Return the features to compare gradients at, or None for the shared parameters."""
    if on == "features" and step.features is None:
        raise ValueError(
            "`balancer__on` is 'features', but this architecture has no representation that all "
            "tasks share (SharedBottom, OMoE and ESMM do, with n_members=1); pass 'auto' or "
            "'parameters'."
        )
    return None if on == "parameters" else step.features


def differentiate(
    losses: Tensor,
    present: Sequence[int],
    shared: Sequence[Tensor],
    own: Sequence[nn.Parameter],
) -> tuple[list[list[Tensor | None]], list[Tensor | None]]:
    """Differentiate the losses one by one.

    Parameters
    ----------
    losses : Tensor of shape (K,)
        The task losses.
    present : sequence of int
        The tasks to differentiate.
    shared, own : sequence of Tensor
        With respect to what.

    Returns
    -------
    shared : list of lists
        For each shared tensor the gradients of the tasks, None where a task does not reach it.
    own : list
        For each other tensor the sum of the gradients.
    """
    gradients: list[list[Tensor | None]] = [[] for _ in shared]
    sums: list[Tensor | None] = [None] * len(own)
    for k in present:
        found = torch.autograd.grad(
            losses[k], [*shared, *own], retain_graph=k != present[-1], allow_unused=True
        )
        for task, gradient in zip(gradients, found[: len(shared)], strict=True):
            task.append(gradient)
        for i, gradient in enumerate(found[len(shared) :]):
            if gradient is not None:
                before = sums[i]
                sums[i] = gradient if before is None else before + gradient
    return gradients, sums


def add_up(
    parts: Sequence[TaskGradients], partners: Partners, *, of_rows: bool = False
) -> list[TaskGradients]:
    """Return the tasks' gradients of whole batches.

    Parameters
    ----------
    parts : sequence of TaskGradients
        The gradients of the own share, by tensor.
    partners : Partners
        Who has the other shares.
    of_rows : bool, default=False
        Whether the tensors are features, of which each process has those of its own rows.
    """
    if of_rows:
        return [part.join_rows(partners) if part.rows.shape[1] else part for part in parts]
    dense = [part for part in parts if part.indices is None and part.rows.shape[1]]
    sums = iter(partners.sum_all([part.rows for part in dense]))
    found = []
    for part in parts:
        if part.indices is not None:
            part = part.join_slots(partners)
        elif part.rows.shape[1]:
            part = part._replace(rows=next(sums))
        found.append(part)
    return found


def accumulate(tensors: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Send gradients backward from tensors, into ``.grad`` where these are parameters."""
    pairs = [(t, g) for t, g in zip(tensors, gradients, strict=True) if g is not None]
    if pairs:
        torch.autograd.backward([t for t, _ in pairs], [g for _, g in pairs])


def in_first_slice(gradient: Tensor, features: Tensor) -> Tensor:
    """Return a gradient (B, H) of the one representation as one of its K copies: (B, K, H)."""
    full = features.new_zeros(features.shape)
    full[:, 0] = gradient
    return full


def coefficients(rows: Sequence[Tensor], combined: Sequence[Tensor]) -> Tensor:
    """Return the combination of the rows that is nearest to the combined ones.

    Parameters
    ----------
    rows : sequence of Tensor of shape (P, n)
        The tasks' gradients, of one shared tensor at least.
    combined : sequence of Tensor of shape (n,)
        What they were combined to.

    Returns
    -------
    Tensor of shape (P,)
        In float64, on the CPU.
    """
    gramian = torch.stack([g @ g.T for g in rows]).sum(0).double().cpu()
    target = torch.stack([g @ c for g, c in zip(rows, combined, strict=True)]).sum(0).double().cpu()
    # Of unit length first, so that the scale of one task's gradient decides nothing.
    length = gramian.diagonal().sqrt()
    length = torch.where(length > 0, length, 1.0)
    unit = gramian / torch.outer(length, length)
    if not unit.isfinite().all():
        return torch.full_like(length, torch.nan)
    return torch.linalg.pinv(unit, rtol=COLLINEAR, hermitian=True) @ (target / length) / length


def _sparse(
    indices: Tensor, values: Tensor, shape: Sequence[int], is_coalesced: bool | None = None
) -> Tensor:
    # Saying so keeps torch from warning that it does not check.
    return torch.sparse_coo_tensor(
        indices, values, tuple(shape), is_coalesced=is_coalesced, check_invariants=False
    )
