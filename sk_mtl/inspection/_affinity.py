"""What a step for one task does to the losses of the others."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sk_mtl._checks import check_count, check_number
from sk_mtl._training import Criterion
from sk_mtl.balancing.gradients import differentiate
from sk_mtl.base import MultiTaskEstimator
from sk_mtl.data import Batch, Batches
from sk_mtl.inspection._labeled import labeled_rows, shared_by_name, term_means, term_sums
from sk_mtl.inspection._matrix import draw_matrix
from sk_mtl.nn import MultiTaskModule


def task_affinity(
    estimator: MultiTaskEstimator,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    lr: float | None = None,
    batch_size: int | None = 256,
    random_state: Any = None,
) -> pd.DataFrame:
    r"""Measure what a step for one task, in what the tasks share, does to each task's loss.

    .. math:: Z_{i \to j} = 1 - \frac{L_j(\theta_s - \eta \nabla_{\theta_s} L_i,\, \theta_j)}
        {L_j(\theta_s,\, \theta_j)}

    with shared parameters :math:`\theta_s` and the parameters :math:`\theta_j` of task :math:`j`,
    both losses over the same batch; the mean over batches. Above zero, task :math:`i` helps task
    :math:`j`; below, it harms it. Unlike a cosine it is not symmetric, and counts how far each loss
    moves.

    Parameters
    ----------
    estimator : MultiTaskEstimator
        A fitted estimator (of a pipeline its last step). It is not changed.
    X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
        Rows as the estimator takes them (in a pipeline: transformed by the steps before).
    y : array-like of shape (n_samples,) or (n_samples, n_tasks)
        Their labels, missing ones included.
    sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), default=None
        Weights of rows, or of single labels.
    lr : float, default=None
        Size :math:`\eta` of the step, one of plain gradient descent; None: the estimator's `lr`.
    batch_size : int or None, default=256
        Rows per batch; None: all rows in one batch.
    random_state : int, RandomState instance or None, default=None
        Seed of the order of rows.

    Returns
    -------
    DataFrame of shape (n_tasks, n_tasks)
        :math:`Z_{i \to j}` in row i, the task that the step is for, and column j. NaN where no
        batch has labels of both.

    Raises
    ------
    ValueError
        If a parameter is not valid, the tasks share no parameters, or X and y do not suit the
        estimator.

    See Also
    --------
    gradient_conflict : The angles between the tasks' gradients.

    Notes
    -----
    A batch costs one backward pass for each task, and as many forward passes and one. They are
    done in float64 on a copy of the network: of a small step little is left in float32. Of
    embedding tables with sparse gradients only the rows looked up are moved.

    NOTE[DIFF]: the paper averages over the steps of training from the start; here over batches at
    the network as fitted, no unit dropped, which does not train on. Fit with few epochs, or use
    `partial_fit`, to look at earlier stages.

    References
    ----------
    C. Fifty, E. Amid, Z. Zhao, T. Yu, R. Anil, C. Finn: Efficiently Identifying Task Groupings for
    Multi-Task Learning. NeurIPS 2021, equation 1, arXiv 2109.04617.

    Examples
    --------
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> from sk_mtl.inspection import task_affinity
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = MMoE(n_experts=4, max_epochs=2, random_state=0).fit(X, Y)
    >>> affinity = task_affinity(model, X, Y, lr=0.01, random_state=0)
    >>> bool(affinity.loc["married", "married"] > 0)
    True
    """
    check_is_fitted(estimator)
    lr = _check_step(estimator, lr)
    device = torch.device(estimator.net_.device)
    if device.type == "mps":  # which has no float64
        device = torch.device("cpu")
    rows = labeled_rows(estimator, X, y, sample_weight, torch.float64, device)
    batch_size = _check_batch_size(batch_size, len(rows))
    module = deepcopy(estimator.module_).to(device, torch.float64).eval()
    shared = list(shared_by_name(estimator, module).values())
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    generator = torch.Generator().manual_seed(seed)
    batches = Batches(rows, batch_size, shuffle=True, generator=generator)
    batches.prepare = module.prepare
    criterion = estimator.net_.criterion_
    found = [_affinity(module, criterion, shared, lr, batch) for batch in batches]
    return pd.DataFrame(
        torch.stack(found).nanmean(0).cpu().numpy(),
        index=pd.Index(criterion.names, name="step for"),
        columns=pd.Index(criterion.names, name="loss of"),
    )


def _check_step(estimator: MultiTaskEstimator, lr: Any) -> float:
    """Return the size of the step."""
    if lr is None:
        return float(estimator._fitted_.params["lr"])
    return check_number("lr", lr, 0, above=True, remedy="None takes the estimator's")


def _check_batch_size(batch_size: Any, n: int) -> int:
    """Return the number of rows per batch."""
    if batch_size is None:
        return n
    return check_count("batch_size", batch_size, remedy="None takes all rows in one batch")


def _affinity(
    module: MultiTaskModule,
    criterion: Criterion,
    shared: Sequence[nn.Parameter],
    lr: float,
    batch: Batch,
) -> Tensor:
    """Return the affinities of one batch, (K, K), NaN where one of the tasks has no label."""
    with torch.enable_grad():
        sums, weights = term_sums(module, criterion, batch)
        present = weights.nonzero().flatten().tolist()
        losses = sums / torch.where(weights > 0, weights, 1.0)
        gradients, _ = differentiate(losses, present, shared, [])
    before = losses.detach()
    before = torch.where(before > 0, before, torch.nan)
    affinity = before.new_full((len(before), len(before)), torch.nan)
    with torch.no_grad():
        for position, k in enumerate(present):
            with _moved(shared, [layer[position] for layer in gradients], lr):
                affinity[k] = 1 - term_means(module, criterion, batch) / before
    return affinity


@contextmanager
def _moved(
    tensors: Sequence[nn.Parameter], gradients: Sequence[Tensor | None], lr: float
) -> Iterator[None]:
    """Take a step of gradient descent, and take it back."""
    kept: list[tuple[Tensor, Any, Tensor]] = []
    pairs = [(t, g) for t, g in zip(tensors, gradients, strict=True) if g is not None]
    for parameter, gradient in pairs:
        where: Any = ...
        change = gradient
        if gradient.is_sparse:  # only the rows touched: a table may be large
            touched = gradient.coalesce()
            where, change = touched.indices()[0], touched.values()
        old = parameter[where].clone()
        kept.append((parameter, where, old))
        parameter[where] = old - lr * change
    try:
        yield
    finally:
        for tensor, where, old in kept:
            tensor[where] = old


class TaskAffinityDisplay:
    """Heat map of the tasks' affinities.

    Parameters
    ----------
    affinity : DataFrame of shape (n_tasks, n_tasks)
        As `task_affinity` returns it.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure drawn on.
    ax_ : matplotlib Axes
        The axes drawn on.
    image_ : matplotlib AxesImage
        The heat map.
    """

    def __init__(self, affinity: pd.DataFrame) -> None:
        self.affinity = affinity

    @classmethod
    def from_estimator(
        cls,
        estimator: MultiTaskEstimator,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        lr: float | None = None,
        batch_size: int | None = 256,
        random_state: Any = None,
        ax: Any = None,
    ) -> "TaskAffinityDisplay":
        """Compute `task_affinity` and draw it.

        Parameters
        ----------
        estimator : MultiTaskEstimator
            A fitted estimator.
        X, y, sample_weight, lr, batch_size, random_state
            As in `task_affinity`.
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        TaskAffinityDisplay
        """
        affinity = task_affinity(
            estimator,
            X,
            y,
            sample_weight,
            lr=lr,
            batch_size=batch_size,
            random_state=random_state,
        )
        return cls(affinity).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> "TaskAffinityDisplay":
        """Draw a square per pair of tasks: red where the step harms, blue where it helps.

        The colors end at the largest affinity between two tasks; a task's own goes beyond.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        TaskAffinityDisplay
        """
        # A step helps its own task most: on that scale the others could not be told apart.
        between = np.abs(self.affinity.to_numpy(copy=True))
        if len(between) > 1:
            np.fill_diagonal(between, np.nan)
        limit = float(np.max(between, where=~np.isnan(between), initial=0.0)) or 1.0
        self.image_ = draw_matrix(self.affinity, ax, limit=limit, title="task affinity", form=".2g")
        self.ax_, self.figure_ = self.image_.axes, self.image_.figure
        return self
