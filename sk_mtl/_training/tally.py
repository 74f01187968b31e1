"""Sums of losses over an epoch, and errors of those that are not finite."""

import math
from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor

from sk_mtl._training.signals import NonFiniteLossError

ROUNDING = 1e-6
"""How far below zero rounding may bring a loss."""

CHECK_STEPS = 64
"""Steps on a GPU between two looks at their losses: a look waits for the GPU."""


STACKED = ("sums", "weights", "balance", "penalties", "losses")
"""What a tally keeps of each step: tensors of one shape."""


PILE = 1024
"""Tensors of steps that are joined to one: small tensors take many times the room of numbers."""


class Pile:
    """Tensors of one shape, one after another."""

    def __init__(self) -> None:
        self.joined: list[Tensor] = []
        self.last: list[Tensor] = []
        self.n = 0

    def __len__(self) -> int:
        return self.n

    def append(self, tensor: Tensor) -> None:
        """Add one."""
        self.last.append(tensor)
        self.n += 1
        if len(self.last) >= PILE:
            self.joined.append(torch.stack(self.last))
            self.last = []

    def stack(self) -> Tensor:
        """Return all of them as one, (n, ...)."""
        return torch.cat([*self.joined, torch.stack(self.last)] if self.last else self.joined)

    def set(self, tensors: Tensor) -> None:
        """Hold these and no others, (n, ...)."""
        self.joined, self.last, self.n = [tensors], [], len(tensors)


class Tally:
    """Sums over the batches of an epoch, and a look at their losses from time to time."""

    def __init__(self, net: NeuralNet, prefix: str) -> None:
        self.net, self.prefix, self.criterion = net, prefix, net.criterion_
        self.sums, self.weights, self.balance = Pile(), Pile(), Pile()
        self.penalties, self.losses = Pile(), Pile()
        self.rows: list[int] = []
        self.unseen: list[tuple[Tensor, Tensor]] = []
        self.every = 1 if torch.device(net.device).type == "cpu" else CHECK_STEPS

    def add(self, step: dict[str, Any], training: bool) -> Any:
        """Take a step's sums; return its loss, on a GPU as a tensor."""
        self.sums.append(step["sums"])
        self.weights.append(step["weights"])
        if training:
            if self.criterion.balancer.weights is not None:
                self.balance.append(self.criterion.balancer.weights)
            if step["penalty"] is not None:
                self.penalties.append(step["penalty"])
                self.rows.append(step["n_rows"])
        loss = step["loss"].detach()
        self.unseen.append((loss, step["losses"]))
        if len(self.unseen) >= self.every:
            self.look()
        if self.every == 1:
            return loss.item()
        self.losses.append(loss)
        return loss

    def get_state(self) -> dict[str, Any]:
        """Return the sums up to now, for `set_state`."""
        piles = {name: getattr(self, name) for name in STACKED}
        stacked = {name: pile.stack() for name, pile in piles.items() if len(pile)}
        return {**stacked, "rows": torch.tensor(self.rows, dtype=torch.int64)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Undo `get_state`."""
        for name in STACKED:
            if name in state:
                getattr(self, name).set(state[name].to(self.net.device))
        self.rows = state["rows"].tolist()

    def look(self) -> None:
        """Refuse losses that are not finite, or below zero where a balancer takes none."""
        steps, self.unseen = self.unseen, []
        if not steps:
            return
        one = len(steps) == 1
        total = steps[0][0] if one else torch.stack([loss for loss, _ in steps]).sum()
        if not math.isfinite(total.item()):
            raise self._non_finite(steps)
        if self.prefix == "train" and self.criterion.balancer.needs_positive:
            each = [losses for _, losses in steps]
            self._check_not_negative(each[0] if one else torch.stack(each).amin(0))

    def read_batches(self, batches: list[dict[str, Any]]) -> None:
        """Put numbers for the losses that were left on the GPU."""
        if len(self.losses):
            key = f"{self.prefix}_loss"
            recorded = [batch for batch in batches if key in batch]
            values = self.losses.stack().tolist()
            for batch, value in zip(recorded, values, strict=True):
                batch[key] = value

    def _non_finite(self, steps: list[tuple[Tensor, Tensor]]) -> NonFiniteLossError:
        loss, losses = next(step for step in steps if not step[0].isfinite())
        finite = zip(self.criterion.names, losses.isfinite().tolist(), strict=True)
        which = ", ".join(repr(name) for name, fine in finite if not fine) or "all tasks together"
        return NonFiniteLossError(
            f"The {self.prefix} loss of task {which} became {loss.item()} in epoch "
            f"{len(self.net.history)}. {causes(self.net)}"
        )

    def _check_not_negative(self, losses: Tensor) -> None:
        lowest = int(losses.argmin())
        value = losses[lowest].item()
        if value < -ROUNDING:
            raise ValueError(
                f"The loss of task {self.criterion.names[lowest]!r} is {value}, below zero: this "
                "balancer needs losses of at least 0. Add a constant to the loss of its kind, or "
                "pass balancer='equal'."
            )

    def means(self) -> Tensor:
        """Return each term's mean over the epoch, (M,) float64 on the CPU, NaN without labels."""
        return _total(self.sums) / _total(self.weights)

    def penalty(self) -> float:
        """Return the mean penalty over the epoch's rows."""
        each = self.penalties.stack().double().cpu()
        rows = torch.tensor(self.rows, dtype=torch.float64)
        return float((each * rows).sum() / rows.sum())

    def row(self) -> dict[str, float]:
        """Return the losses as a row of the history has them."""
        means = self.means()
        # A term without a label in the rows has no loss and does not count.
        total = self.criterion.weigh(means.to(self.net.device)).nansum().item()
        row = {f"{self.prefix}_loss": total}
        for term, mean in zip(self.criterion.names, means.tolist(), strict=True):
            row[f"{self.prefix}_loss_{term}"] = mean
        return row


def causes(net: NeuralNet) -> str:
    """Return what makes losses and weights infinite."""
    return (
        f"The usual causes are a learning rate that is too high (lr={net.lr}), values of a very "
        "large scale with numeric_features='passthrough', or extreme sample weights."
    )


def _total(parts: Pile) -> Tensor:
    return parts.stack().double().sum(0).cpu()


def mean_weights(weights: Pile) -> list[float]:
    """Return each term's mean weight over an epoch's steps, without those it was absent from.

    Empty for a balancer that reports no weights.
    """
    return weights.stack().double().nanmean(0).tolist() if len(weights) else []
