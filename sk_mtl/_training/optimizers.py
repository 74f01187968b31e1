"""Which optimizer moves what."""

import inspect
from typing import Any

import torch

from sk_mtl._training.optim import LazyAdam
from sk_mtl._training.optim_rowwise import RowwiseAdagrad
from sk_mtl._training.settings import Training

OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adam": (LazyAdam, {}),
    "adamw": (LazyAdam, {"decoupled_weight_decay": True}),
    "sgd": (torch.optim.SGD, {}),
    "adagrad": (torch.optim.Adagrad, {}),
    "rowwise_adagrad": (RowwiseAdagrad, {}),
}
"""The optimizers that estimators accept by name; all of them take sparse gradients."""


def find_optimizer(training: Training) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """Return the optimizer's class and the options that it gets beside the learning rate.

    Raises
    ------
    ValueError
        If it cannot train a network here: it needs a closure, or sparse gradients only, or lacks
        a weight decay that is asked for.
    """
    if isinstance(training.optimizer, str):
        kind, options = OPTIMIZERS[training.optimizer]
        return kind, {**options, "weight_decay": training.weight_decay}
    kind = training.optimizer
    remedy = f"pass one of {list(OPTIMIZERS)}, or a subclass such as torch.optim.RAdam."
    closure = inspect.signature(kind.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise ValueError(
            f"`optimizer` is {kind.__name__}, which evaluates the loss several times in a step; "
            f"{remedy}"
        )
    if issubclass(kind, torch.optim.SparseAdam):
        raise ValueError(
            f"`optimizer` is {kind.__name__}, which takes sparse gradients only; {remedy}"
        )
    if "weight_decay" in inspect.signature(kind).parameters:
        return kind, {"weight_decay": training.weight_decay}
    if training.weight_decay:
        raise ValueError(
            f"`weight_decay` is {training.weight_decay} and `optimizer` {kind.__name__} has none; "
            f"pass weight_decay=0, or {remedy.removeprefix('pass ')}"
        )
    return kind, {}


def may_be_sparse(training: Training) -> bool:
    """Whether the optimizer takes sparse gradients."""
    return isinstance(training.optimizer, str)
