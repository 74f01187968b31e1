"""GradNorm: weights that bring the tasks' gradients to norms set by their rates of training."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sk_mtl._checks import check_choice, check_number
from sk_mtl.balancing._adam import TaskAdam
from sk_mtl.balancing.base import LossBalancer, Partners, Step, mask
from sk_mtl.balancing.gradients import PLACES, TaskGradients, add_up, choose_features

LEAST = 1e-3
"""Smallest weight before normalization."""


class GradNormBalancer(LossBalancer):
    r"""Train weights so that slow tasks have large gradients and fast ones small.

    .. math:: L = \sum_k w_k L_k, \qquad
        L_{\text{grad}} = \sum_k \left| G_k - \bar G\, r_k^\alpha \right|

    with the gradient norm :math:`G_k = \lVert \nabla_W\, w_k L_k \rVert`, its mean
    :math:`\bar G` over tasks, and the inverse rate of training :math:`r_k`, the task's
    :math:`L_k(t) / L_k(0)` over its mean over tasks. After each step the weights move by Adam along
    :math:`\nabla_w L_{\text{grad}}`, with :math:`\bar G\, r_k^\alpha` held constant, and are
    normalized to sum to :math:`K`.

    Parameters
    ----------
    alpha : float, default=1.5
        :math:`\alpha`: how strongly the slower tasks are favored; 0 makes all norms equal.
    lr : float, default=0.025
        Step size of the weights.
    on : {"auto", "features", "parameters"}, default="auto"
        What :math:`W` is: the one representation that all tasks share, or the last layer that
        they do. "auto" takes the representation where there is one (SharedBottom, OMoE, ESMM).

    Notes
    -----
    A step costs one backward pass, and for each task one from its loss down to :math:`W`.

    The last layer is the last of the shared parameters with the most axes: a weight matrix (or a
    stack of them), not a bias, and no embedding table as long as there is any layer.

    NOTE[DIFF]: :math:`L_k(0)` is the loss of the first step in which the task has labels. Weights
    are kept above 0.001 before they are normalized, where the paper leaves them free. Tasks
    without a label in the batch are left out of the means and keep their weights.

    References
    ----------
    Z. Chen, V. Badrinarayanan, C.-Y. Lee, A. Rabinovich: GradNorm: Gradient Normalization for
    Adaptive Loss Balancing in Deep Multitask Networks. ICML 2018, eq. 1 and 2, Algorithm 1.

    Examples
    --------
    >>> import torch
    >>> from sk_mtl.balancing import Step
    >>> balancer = GradNormBalancer(lr=0.1)
    >>> balancer.setup(["click", "buy"], [False, False])
    >>> w = torch.nn.Parameter(torch.ones(1, 1))
    >>> balancer.backward(torch.cat([3 * w[0], w[0]]), Step([w], [])).item()
    4.0
    >>> balancer.factors
    tensor([0.9000, 1.1000])
    """

    factors: Tensor
    initial: Tensor

    def __init__(self, alpha: float = 1.5, lr: float = 0.025, on: str = "auto") -> None:
        super().__init__()
        self.alpha, self.lr, self.on = alpha, lr, on

    def begin(self, generator: torch.Generator | None) -> None:
        """Begin with equal weights."""
        check_number("balancer__alpha", self.alpha, 0)
        check_number("balancer__lr", self.lr, 0, above=True)
        check_choice("balancer__on", self.on, PLACES)
        self.register_buffer("factors", torch.ones(len(self.names)))
        self.register_buffer("initial", torch.full((len(self.names),), torch.nan))
        self.adam = TaskAdam(len(self.names))

    def forward(self, losses: Tensor, present: Tensor | None = None) -> Tensor:
        """Sum the weighted task losses, (K,) -> scalar."""
        return (self.factors * losses).sum()

    def backward(self, losses: Tensor, step: Step) -> Tensor:
        """Accumulate gradients with the current weights, then move these.

        Parameters
        ----------
        losses : Tensor of shape (K,)
            The task losses, times `loss_weights`.
        step : Step
            Parameters and features that the losses come from.

        Returns
        -------
        Tensor
            A detached scalar, the weighted sum of the losses.
        """
        features = choose_features(self.on, step)
        place = last_layer(step.shared) if features is None else features
        norms = gradient_norms(losses, place, step.partners)
        total = super().backward(losses, step)
        self._move(losses.detach(), norms, mask(losses, step.present))
        return total

    @torch.no_grad()
    def _move(self, losses: Tensor, norms: Tensor, present: Tensor) -> None:
        """Move the weights by the step's losses and gradient norms, all of them (K,)."""
        losses = losses.clamp(min=torch.finfo(losses.dtype).tiny)
        self.initial = torch.where(self.initial.isnan() & present, losses, self.initial)
        n = present.sum().clamp(min=1)
        ratio = torch.where(present, losses / self.initial, 0.0)
        rate = ratio / (ratio.sum() / n)
        size = torch.where(present, self.factors * norms, 0.0)
        distance = size - size.sum() / n * rate**self.alpha
        gradient = torch.where(present, distance.sign() * norms, 0.0)
        moved = self.factors + self.adam(gradient, self.lr, present)
        moved = moved.clamp(min=LEAST)
        # Those of absent tasks stay; the others keep the sum that they had.
        here = present.to(moved.dtype)
        total = (self.factors * here).sum() / (moved * here).sum().clamp(min=LEAST)
        self.factors = torch.where(present, moved * total, self.factors)


def last_layer(shared: Sequence[nn.Parameter]) -> nn.Parameter | None:
    """Return the last of the parameters with the most axes, None if there are none to train."""
    trained = [p for p in shared if p.requires_grad]
    most = max((p.ndim for p in trained), default=0)
    return next((p for p in reversed(trained) if p.ndim == most), None)


def gradient_norms(
    losses: Tensor, place: Tensor | None, partners: Partners | None = None
) -> Tensor:
    """Return the norm of each loss's gradient at a parameter or features: (K,) -> (K,)."""
    norms = torch.zeros_like(losses.detach())
    if place is None or not place.requires_grad:
        return norms
    own: list[Tensor | None] = []
    for k in range(len(losses)):
        (gradient,) = torch.autograd.grad(losses[k], [place], retain_graph=True, allow_unused=True)
        if gradient is not None and not isinstance(place, nn.Parameter):
            gradient = gradient.sum(1)  # of K equal slices of features (B, K, H)
        own.append(gradient)
    if partners is not None and isinstance(place, nn.Parameter):
        (whole,) = add_up([TaskGradients.of(own, place)], partners)
        return torch.linalg.vector_norm(whole.rows, dim=1)
    for k, found in enumerate(own):
        if found is not None:
            entries = found.coalesce().values() if found.is_sparse else found
            norms[k] = torch.linalg.vector_norm(entries)
    if partners is not None:  # each process has features of its own rows
        (squares,) = partners.sum_all([norms.square()])
        return squares.sqrt()
    return norms
