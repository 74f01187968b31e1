"""The criterion: one loss per task, over the rows whose label was observed."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sk_mtl.balancing import LossBalancer
from sk_mtl.tasks import Task, logit_slices


class MultiTaskLoss(nn.Module):
    r"""Weighted mean loss of each task over its observed rows.

    .. math:: L_k = \frac{\sum_i w_{ik}\, \ell_k(z_{ik}, y_{ik})}{\sum_i w_{ik}}

    with :math:`w_{ik} = 0` where the label was not observed. A task without an observed label in
    the batch has loss zero.

    Parameters
    ----------
    tasks : sequence of Task
        The tasks, in the order of their logits.
    balancer : LossBalancer
        Reduces the vector of losses in training.
    loss_weights : sequence of float, optional
        Fixed weights of the tasks' losses, see `weigh`; all one if None.
    """

    loss_weights: Tensor | None

    def __init__(
        self,
        tasks: Sequence[Task],
        balancer: LossBalancer,
        loss_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.tasks, self.balancer = tasks, balancer
        weights = None if loss_weights is None else torch.tensor(loss_weights)
        self.register_buffer("loss_weights", weights)
        groups: dict[tuple, list[int]] = {}
        for k, task in enumerate(tasks):
            groups.setdefault(task.loss_key(), []).append(k)
        slices = logit_slices(tasks)
        # Tasks of one kind and width compute their losses in one call: their logits' columns.
        self.groups = [
            (members, [c for k in members for c in range(slices[k].start, slices[k].stop)])
            for members in groups.values()
        ]

    def row_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return every row's loss for every task: (B, L), (B, K) -> (B, K)."""
        losses: list[Tensor] = [logits] * len(self.tasks)
        for members, columns in self.groups:
            alone = len(self.groups) == 1
            z = logits if alone else logits[:, columns]
            y = target if alone else target[:, members]
            group = self.tasks[members[0]].loss(z.view(len(z), len(members), -1), y)
            if alone:
                return group
            for position, k in enumerate(members):
                losses[k] = group[:, position]
        return torch.stack(losses, dim=1)

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the mean loss of each task, without `loss_weights`.

        Parameters
        ----------
        logits : Tensor of shape (B, L)
            What the network returned.
        target : Tensor of shape (B, K)
            Encoded labels; NaN is a label that was not observed.
        weight : Tensor of shape (B, K), optional
            Weight of each label, zero where not observed. None: every label is observed and
            counts alike.

        Returns
        -------
        Tensor of shape (K,)
        """
        if weight is None:
            return self.row_losses(logits, target).mean(0)
        # Before the loss, not after: NaN times zero is NaN, in the loss and in its gradient.
        target = torch.where(weight > 0, target, 0.0)
        weighted = (self.row_losses(logits, target) * weight).sum(0)
        total = weight.sum(0)
        return weighted / torch.where(total > 0, total, 1.0)

    def weigh(self, losses: Tensor) -> Tensor:
        """Multiply the tasks' losses by their fixed weights: (K,) -> (K,)."""
        return losses if self.loss_weights is None else losses * self.loss_weights
