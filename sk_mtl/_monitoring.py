"""What early stopping watches: a loss, or a scorer over the rows held out."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sk_mtl._prediction import Fitted, PredictionMixin
from sk_mtl._training import MultiTaskNet
from sk_mtl.data import Rows, StreamedRows
from sk_mtl.tasks import Task


class HeldOut(PredictionMixin):
    """The network as it stands, as an estimator that knows the rows held out and no others.

    Its X are positions of such rows, (n, 1), so that a scorer may leave some out.
    """

    def __init__(self, tasks: Sequence[Task], fitted: Fitted, logits: Tensor) -> None:
        self._fitted_, self.logits = fitted, logits
        self._describe_tasks(tuple(tasks))

    def _each(
        self,
        X: Any,
        function: Callable[[Tensor], list[NDArray]],
        method: str = "forward",
        axis: int = 0,
    ) -> list[NDArray]:
        return function(self.logits[np.asarray(X)[:, 0]])


def resolve_monitor(
    monitor: Any, terms: Sequence[str], tasks: Sequence[Task], fitted: Any, scored: Any
) -> Any:
    """Return a column of the history, or a function of the net that is lower where it is better.

    Parameters
    ----------
    monitor : str or scorer
        As the user passed it.
    terms : sequence of str
        Names of the objective's terms.
    tasks, fitted
        The estimator's.
    scored : (labels, weights)
        The labels of the rows held out as they were passed, and their weights or None.

    Raises
    ------
    ValueError
        If a string is no column of validation losses.
    """
    if isinstance(monitor, str):
        known = ["valid_loss", *(f"valid_loss_{term}" for term in terms)]
        if monitor not in known:
            raise ValueError(
                f"`monitor` is {monitor!r}; pass one of {known}, or a scorer such as "
                "sk_mtl.metrics.task_scorer('roc_auc', 'click')."
            )
        return monitor

    def watch(net: MultiTaskNet) -> float:
        model, X, y, weights = stand_in(tasks, fitted, scored, net)
        more = {} if weights is None else {"sample_weight": weights}
        score = float(monitor(model, X, y, **more))
        if math.isnan(score):
            raise ValueError(
                f"`monitor` is {monitor!r} and gives NaN for the rows held out: they lack a label "
                "or a class that it needs. Pass X_val and y_val, or a greater validation_fraction."
            )
        return -score

    return watch


def stand_in(tasks: Sequence[Task], fitted: Any, scored: Any, net: MultiTaskNet) -> tuple:
    """Return what a scorer takes for the rows held out: estimator, X, y, and weights or None."""
    y, weights = scored
    return HeldOut(tasks, fitted, logits_of(net)), np.arange(len(y))[:, None], y, weights


def logits_of(net: MultiTaskNet) -> Tensor:
    """Return the logits of the rows held out, (n, M * L) float64 on the CPU."""
    assert net.valid_batches is not None
    net.module_.eval()
    with torch.inference_mode():
        parts = [net.infer(batch.parts) for batch in net.valid_batches]
        return torch.cat(parts).cpu().to(torch.float64)


def check_held_out(tasks: Sequence[Task], valid: Rows | StreamedRows | None) -> None:
    """Warn of tasks that the rows held out have no label of: early stopping does not see them."""
    assert valid is not None
    any_seen = torch.zeros(len(tasks), dtype=torch.bool)
    for target, weight in valid.labels():
        seen = ~target.isnan()
        if weight is not None:
            seen &= weight > 0
        any_seen |= seen.any(0).cpu()
    unseen = [task.name for task, any_ in zip(tasks, any_seen.tolist(), strict=True) if not any_]
    if unseen:
        warnings.warn(
            f"The rows held out have no label of task {', '.join(map(repr, unseen))}: early "
            "stopping does not see it. Pass X_val and y_val that have some, or a greater "
            "validation_fraction.",
            UserWarning,
            stacklevel=2,
        )
