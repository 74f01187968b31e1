"""The training budget, by the size of the data: rows per step, early stopping, learning rates."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, LRScheduler
from torch.optim import lr_scheduler

SCHEDULES = ("constant", "cosine", "one-cycle", "plateau")
"""The schedules of the learning rate that estimators accept."""

BATCH_SIZES = (
    (300, 4), (1_400, 8), (2_800, 16), (6_000, 32), (12_000, 64), (30_000, 128), (200_000, 256),
    (math.inf, 1024),
)  # fmt: skip
"""Rows per step for up to so many rows to train on: about 75 steps an epoch and more."""

STOPPING_ROWS = 10_000
"""Above how many rows ``early_stopping="auto"`` holds some out."""

MEMBER_ROWS = 10_000
"""Up to how many rows ``n_members="auto"`` trains several members."""


def auto_batch_size(n_rows: int) -> int:
    """Return the rows per step that ``batch_size="auto"`` means.

    Small data takes small batches, so that an epoch has steps enough; large data takes large ones,
    which use the processor better.
    """
    return next(size for limit, size in BATCH_SIZES if n_rows <= limit)


def auto_members(n_rows: int) -> int:
    """Return the number of members that ``n_members="auto"`` means.

    Several steady what little data says; with more of it one is as good, in a third of the time.
    """
    return 4 if n_rows <= MEMBER_ROWS else 1


def make_schedule(
    name: str, rates: Sequence[float], n_steps: int, is_validated: bool
) -> list[tuple[str, Callback]]:
    """Return the callback that moves the learning rate, or none.

    Parameters
    ----------
    name : str
        One of `SCHEDULES`.
    rates : sequence of float
        The learning rate of each group of parameters: where "cosine" and "plateau" begin, the
        highest of "one-cycle".
    n_steps : int
        Number of steps if training runs through all epochs.
    is_validated : bool
        Whether there is a validation loss for "plateau" to watch, or the training loss only.
    """
    by_batch = {"step_every": "batch", "event_name": None}
    policy: Any
    if name == "cosine":
        policy = lr_scheduler.CosineAnnealingLR
        return [("schedule", LRScheduler(policy, T_max=n_steps, **by_batch).initialize())]
    if name == "one-cycle":
        # Adam's betas stay as they are.
        options = {"max_lr": list(rates), "total_steps": max(n_steps, 2), "cycle_momentum": False}
        policy = lr_scheduler.OneCycleLR
        return [("schedule", LRScheduler(policy, **options, **by_batch).initialize())]
    if name == "plateau":
        policy = lr_scheduler.ReduceLROnPlateau
        monitor = "valid_loss" if is_validated else "train_loss"
        watch = {"monitor": monitor, "factor": 0.3, "patience": 3}
        return [("schedule", LRScheduler(policy, event_name=None, **watch).initialize())]
    return []


class ClipNorm(Callback):
    """Shorten the gradient of a step that is longer than a limit.

    Gradients of tables that pass sparse ones are shortened with the others, and do not count in
    the length.

    Parameters
    ----------
    limit : float
        The greatest length.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def on_grad_computed(self, net: NeuralNet, named_parameters: Any, **kwargs: Any) -> None:
        """Shorten the gradients in place."""
        found: Sequence[Any] = [p.grad for _, p in named_parameters if p.grad is not None]
        dense = [g for g in found if not g.is_sparse]
        factor = (self.limit / (torch.nn.utils.get_total_norm(dense) + 1e-6)).clamp(max=1.0)
        for gradient in found:
            gradient.mul_(factor)
