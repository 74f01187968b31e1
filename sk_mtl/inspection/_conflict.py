"""Whether the tasks' gradients point the same way."""

from typing import Any

import pandas as pd
import torch
from numpy.typing import ArrayLike
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sk_mtl.balancing.gradients import TaskGradients, differentiate
from sk_mtl.base import MultiTaskEstimator
from sk_mtl.data import Batches, Rows
from sk_mtl.inspection._labeled import labeled_rows, shared_by_name, term_sums
from sk_mtl.inspection._matrix import draw_matrix

ROWS = 4096
"""Rows per batch; the gradients are those of all rows together."""


def gradient_conflict(
    estimator: MultiTaskEstimator,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
) -> Bunch:
    r"""Compare the gradients of the tasks' losses in what the tasks share.

    .. math:: c_{ij} = \frac{\langle \nabla_\theta L_i, \nabla_\theta L_j \rangle}
        {\lVert \nabla_\theta L_i \rVert \, \lVert \nabla_\theta L_j \rVert}

    with the shared parameters :math:`\theta` as fitted and the losses :math:`L` over all rows
    given. Below zero, a step that lowers one task's loss raises the other's; at one, either task
    asks for the same step. Neither balancer nor `loss_weights` play a part, and no unit is dropped.

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

    Returns
    -------
    Bunch
        cosine : DataFrame of shape (n_tasks, n_tasks)
            Over all shared parameters at once.
        layers : dict of str to DataFrame of shape (n_tasks, n_tasks)
            Over each shared parameter of `module_` by its name.
        norms : DataFrame of shape (n_layers, n_tasks)
            Length of each task's gradient in each of them.

        A cosine is NaN where one of the gradients is zero: a task without labels, or one that
        does not reach the layer.

    Raises
    ------
    ValueError
        If the tasks share no parameters, or X and y do not suit the estimator.

    See Also
    --------
    task_affinity : What a step of one task does to the losses of the others.

    Notes
    -----
    At the end of training the gradients of tasks that fit their labels are small, and their
    angles those of noise: `norms` tells. Rows that were not trained on tell more.

    Of embedding tables with sparse gradients only the rows looked up take part.

    References
    ----------
    T. Yu, S. Kumar, A. Gupta, S. Levine, K. Hausman, C. Finn: Gradient Surgery for Multi-Task
    Learning. NeurIPS 2020, definition 1.

    Examples
    --------
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> from sk_mtl.inspection import gradient_conflict
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = MMoE(n_experts=4, max_epochs=2, random_state=0).fit(X, Y)
    >>> found = gradient_conflict(model, X, Y)
    >>> found.cosine.shape, "bottom.experts.layers.0.weight" in found.layers
    ((3, 3), True)
    """
    check_is_fitted(estimator)
    module, device = estimator.module_, estimator.net_.device
    dtype = getattr(torch, estimator._fitted_.params["dtype"])
    rows = labeled_rows(estimator, X, y, sample_weight, dtype, torch.device(device))
    shared = shared_by_name(estimator, module)
    gradients = _sum_gradients(estimator, rows, list(shared.values()))
    parts = [part.rows.double().cpu() for part in gradients]
    gramians = dict(zip(shared, (part @ part.T for part in parts), strict=True))
    names = pd.Index(estimator.net_.criterion_.names, name="task")
    norms = torch.stack([gramian.diagonal().sqrt() for gramian in gramians.values()])
    index = pd.Index(list(shared), name="layer")
    return Bunch(
        cosine=_cosine(torch.stack(list(gramians.values())).sum(0), names),
        layers={layer: _cosine(gramian, names) for layer, gramian in gramians.items()},
        norms=pd.DataFrame(norms.numpy(), index=index, columns=names),
    )


def _sum_gradients(
    estimator: MultiTaskEstimator, rows: Rows, shared: list[nn.Parameter]
) -> list[TaskGradients]:
    """Return the gradients of the mean losses over all rows, one entry per shared parameter."""
    module, criterion = estimator.module_.eval(), estimator.net_.criterion_
    batches = Batches(rows, ROWS)
    batches.prepare = module.prepare
    n_terms = len(criterion.names)
    total = torch.zeros(n_terms, dtype=torch.float64)
    sums: list[list[Tensor | None]] = [[None] * n_terms for _ in shared]
    with torch.enable_grad():
        for batch in batches:
            losses, weights = term_sums(module, criterion, batch)
            total += weights.detach().cpu()
            present = weights.nonzero().flatten().tolist()
            found, _ = differentiate(losses, present, shared, [])
            for layer, gradients in zip(sums, found, strict=True):
                for k, gradient in zip(present, gradients, strict=True):
                    before = layer[k]
                    layer[k] = before if gradient is None else _add(before, gradient)
    # Sums so far; of means over all rows the gradients are shorter by the terms' total weights.
    scale = (1 / torch.where(total > 0, total, 1.0)).tolist()
    for layer in sums:
        layer[:] = [None if g is None else g * s for g, s in zip(layer, scale, strict=True)]
    return [TaskGradients.of(layer, p) for layer, p in zip(sums, shared, strict=True)]


def _add(before: Tensor | None, gradient: Tensor) -> Tensor:
    return gradient if before is None else before + gradient


def _cosine(gramian: Tensor, names: pd.Index) -> pd.DataFrame:
    """Return the cosines of vectors by their inner products, NaN where one is zero."""
    length = gramian.diagonal().sqrt()
    cosine = (gramian / torch.outer(length, length)).clamp(-1.0, 1.0)
    return pd.DataFrame(cosine.numpy(), index=names, columns=names)


class GradientConflictDisplay:
    """Heat map of the cosines of the tasks' gradients.

    Parameters
    ----------
    cosine : DataFrame of shape (n_tasks, n_tasks)
        As `gradient_conflict` returns it.
    layer : str, default=None
        Name of the layer, for the title; None: all that is shared.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure drawn on.
    ax_ : matplotlib Axes
        The axes drawn on.
    image_ : matplotlib AxesImage
        The heat map.
    """

    def __init__(self, cosine: pd.DataFrame, layer: str | None = None) -> None:
        self.cosine, self.layer = cosine, layer

    @classmethod
    def from_estimator(
        cls,
        estimator: MultiTaskEstimator,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        layer: str | None = None,
        ax: Any = None,
    ) -> "GradientConflictDisplay":
        """Compute `gradient_conflict` and draw it.

        Parameters
        ----------
        estimator : MultiTaskEstimator
            A fitted estimator.
        X, y, sample_weight
            As in `gradient_conflict`.
        layer : str, default=None
            Name of the shared parameter to draw; None: all of them at once.
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        GradientConflictDisplay
        """
        found = gradient_conflict(estimator, X, y, sample_weight)
        if layer is None:
            return cls(found.cosine).plot(ax=ax)
        if layer not in found.layers:
            raise ValueError(f"`layer` is {layer!r}; pass None or one of {list(found.layers)}.")
        return cls(found.layers[layer], layer).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> "GradientConflictDisplay":
        """Draw a square per pair of tasks: red where they conflict, blue where they agree.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        GradientConflictDisplay
        """
        title = "cosine of gradients" + ("" if self.layer is None else f"\n{self.layer}")
        self.image_ = draw_matrix(self.cosine, ax, limit=1.0, title=title, form=".2f")
        self.ax_, self.figure_ = self.image_.axes, self.image_.figure
        return self
