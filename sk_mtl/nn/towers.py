"""The task towers: from one representation per task to the flat logits."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sk_mtl.nn.stacked import StackedLinear, StackedMLP


class Towers(nn.Module):
    """One tower per task; towers of the same shape run as one.

    Parameters
    ----------
    in_features : int
        Width H of each task's representation.
    units : sequence of sequences of int, one per task
        Widths of each tower's hidden layers; empty: a linear output layer alone.
    n_logits : sequence of int, one per task
        Number of logits of each task.
    n_members : int, default=1
        Number M of members that have these towers each, member after member.
    activation, dropout, batch_norm, generator
        As in `StackedMLP`. The output layer is linear with a bias.

    Notes
    -----
    Shape: (B, M * K, H) -> (B, M * L), a member's logits side by side in task order.
    """

    def __init__(
        self,
        in_features: int,
        units: Sequence[Sequence[int]],
        n_logits: Sequence[int],
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        n_members: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        units, n_logits = [*units] * n_members, [*n_logits] * n_members
        self.n_inputs = len(units)
        groups: dict[tuple[tuple[int, ...], int], list[int]] = {}
        for task, shape in enumerate(zip(map(tuple, units), n_logits, strict=True)):
            groups.setdefault(shape, []).append(task)
        self.groups = list(groups.values())
        self.towers = nn.ModuleList()
        for (hidden, width), tasks in groups.items():
            mlp = StackedMLP(
                len(tasks),
                in_features,
                hidden,
                activation=activation,
                dropout=dropout,
                batch_norm=batch_norm,
                generator=generator,
            )
            output = StackedLinear(len(tasks), mlp.out_features, width, generator=generator)
            self.towers.append(nn.Sequential(mlp, output))
        # Column of the concatenated groups that holds each logit in task order.
        starts, position = {}, 0
        for tasks in self.groups:
            for task in tasks:
                starts[task] = position
                position += n_logits[task]
        order = [starts[k] + j for k, width in enumerate(n_logits) for j in range(width)]
        self.order: Tensor | None
        in_order = order == list(range(len(order)))
        self.register_buffer("order", None if in_order else torch.tensor(order), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of all tasks, (B, M * K, H) -> (B, M * L)."""
        if x.shape[1] != self.n_inputs:
            raise ValueError(
                f"The bottom gives {x.shape[1]} representations for {self.n_inputs} towers, one "
                "for each task and member; pass `n_tasks` and `n_members` on to the bottom's parts."
            )
        if len(self.towers) == 1:
            return self._run(0, x).flatten(1)
        logits = [
            self._run(group, x[:, tasks]).flatten(1) for group, tasks in enumerate(self.groups)
        ]
        flat = torch.cat(logits, dim=1)
        return flat if self.order is None else flat[:, self.order]

    def _run(self, group: int, x: Tensor) -> Tensor:
        """Return the logits of the towers of one shape: (B, k, H) -> (B, k, width)."""
        tower: Any = self.towers[group]
        return tower[0].then(x, tower[1], "linear")
