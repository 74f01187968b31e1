"""What the diagnostics of tasks share: rows with labels, losses, and shared parameters by name."""

from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sk_mtl._training import Criterion
from sk_mtl.base import MultiTaskEstimator
from sk_mtl.data import Batch, Rows, check_labels
from sk_mtl.nn import MultiTaskModule
from sk_mtl.tasks import drawing, sample_labels


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
    table = estimator._read_rows(X)
    names = estimator.task_names_
    table, labels = check_labels(y, sample_weight, table, estimator, names)
    tasks, fitted = estimator.tasks_, estimator._fitted_
    targets, weight = estimator._encode_labels(tasks, estimator._complete_labels(tasks, labels))
    weight = None if weight is None else weight / (weight.max(initial=0.0) or 1.0)
    # The loss of a task that samples its negatives is that of a sample.
    generator = torch.Generator().manual_seed(fitted.seed)
    sample = sample_labels(tasks, targets, weight, drawing(generator), at_least_one=False)
    if sample is not None:
        kept, targets, weight = sample
        table = table.take(kept)
    parts = fitted.encoder.transform(table)
    return Rows(parts, targets, weight, dtype=dtype, device=device)


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
            "tasks share neither layers nor, on the columns of this X, embeddings. Pass an "
            "estimator with a shared bottom or experts."
        )
    return shared


def term_sums(module: MultiTaskModule, criterion: Criterion, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the terms' sums and weights over a batch that is prepared for the module, (M,)."""
    tower_logits = module.towers(module.represent(batch.parts))
    return criterion(tower_logits, module.join(tower_logits), batch.target, batch.weight)


def term_means(module: MultiTaskModule, criterion: Criterion, batch: Batch) -> Tensor:
    """Return the terms' mean losses over a batch, zero without a label: (M,)."""
    sums, weights = term_sums(module, criterion, batch)
    return sums / torch.where(weights > 0, weights, 1.0)
