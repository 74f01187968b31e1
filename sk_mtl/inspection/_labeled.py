"""What the diagnostics of tasks share: rows with labels, losses, and shared parameters by name."""

from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sk_mtl._inputs import check_labels, check_rows, check_same_tasks
from sk_mtl._training import MultiTaskLoss, Rows
from sk_mtl.base import MultiTaskEstimator
from sk_mtl.nn import MultiTaskModule
from sk_mtl.tasks import encode_targets, sample_labels, weigh_labels


def labeled_rows(
    estimator: MultiTaskEstimator,
    X: Any,
    y: Any,
    sample_weight: Any,
    dtype: torch.dtype,
    device: torch.device,
) -> Rows:
    """Return rows and labels as a fitted estimator's `fit` would train on them.

    Raises
    ------
    ValueError
        If X, y or the weights do not suit the estimator.
    """
    check_is_fitted(estimator)
    X = check_rows(estimator, X, reset=False)
    X, labels = check_labels(y, sample_weight, X, estimator)
    tasks, fitted = estimator.tasks_, estimator._fitted_
    check_same_tasks(tasks, labels)
    targets = encode_targets(tasks, labels.columns)
    weight = weigh_labels(tasks, targets, labels.weight)
    # The loss of a task that samples its negatives is that of a sample.
    generator = torch.Generator().manual_seed(fitted.seed)
    sample = sample_labels(tasks, targets, weight, generator, at_least_one=False)
    numeric, categorical = fitted.encoder.transform(X)
    if sample is not None:
        kept, targets, weight = sample
        numeric, categorical = numeric[kept], categorical[kept]
    return Rows(numeric, categorical, targets, weight, dtype=dtype, device=device)


def shared_by_name(estimator: MultiTaskEstimator, module: MultiTaskModule) -> dict[str, Any]:
    """Return the parameters that several tasks move, by name.

    Raises
    ------
    ValueError
        If there are none.
    """
    known = {id(p) for p in module.shared_parameters() if p.requires_grad}
    shared = {name: p for name, p in module.named_parameters() if id(p) in known}
    if not shared:
        raise ValueError(
            f"This {type(estimator).__name__} has no parameters that several tasks train: its "
            "tasks share embeddings at most, and X has no categorical columns. Pass an estimator "
            "with a shared bottom or experts."
        )
    return shared


def task_losses(
    module: MultiTaskModule, criterion: MultiTaskLoss, inputs: dict[str, Tensor], target: Tensor
) -> Tensor:
    """Return the plain losses of a batch that is prepared for the module, (K,)."""
    logits = module.read(module.represent(inputs["dense"], inputs["rows"]))
    return criterion(logits, target, inputs.get("weight"))


def label_weight(target: Tensor, weight: Tensor | None) -> Tensor:
    """Return the total weight of each task's labels, (K,)."""
    if weight is None:
        return target.new_full((target.shape[1],), len(target))
    return weight.sum(0)
