"""Shared-Bottom: one network for all tasks, a tower for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sk_mtl.base import NON_EMPTY_UNITS, MultiTaskEstimator, Units, parameter
from sk_mtl.nn import StackedMLP, repeat_per_task


class SharedBottomBottom(nn.Module):
    """The constant bottom: every task gets the same representation.

    Parameters
    ----------
    in_features : int
        Width D of the input.
    n_tasks : int
        Number of tasks K.
    units : sequence of int
        Widths of the network's layers.
    activation, dropout, batch_norm, n_members, generator
        As in `sk_mtl.nn.StackedMLP`.

    Notes
    -----
    Shape: (B, D) -> (B, M * K, H)
    """

    one_representation = True

    def __init__(
        self,
        in_features: int,
        n_tasks: int,
        *,
        units: Sequence[int],
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        n_members: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.n_tasks = n_tasks
        self.mlp = StackedMLP(
            1,
            in_features,
            units,
            activation=activation,
            dropout=dropout,
            batch_norm=batch_norm,
            n_members=n_members,
            generator=generator,
        )
        self.out_features = self.mlp.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Return the shared representation once per task."""
        return repeat_per_task(self.mlp(x), self.n_tasks)


@dataclass(kw_only=True, eq=False, repr=False)
class SharedBottom(MultiTaskEstimator):
    """Shared-Bottom: one network shared by all tasks, and a tower for each.

    The simplest multi-task network and the one to beat. Everything before the towers is shared,
    so tasks that want different representations get in each other's way.

    Parameters
    ----------
    bottom_units : tuple of int, default=(256, 128)
        Widths of the shared network's layers.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}

    See Also
    --------
    MMoE : Softly shared experts instead of one network.

    Notes
    -----
    .. math:: y_k = t_k(f(x))

    References
    ----------
    R. Caruana, "Multitask Learning", Machine Learning 28, 1997 (CMU-CS-97-203).

    Examples
    --------
    >>> from sk_mtl import SharedBottom
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = SharedBottom(bottom_units=(16,), max_epochs=2, random_state=0).fit(X, Y)
    >>> model.predict_proba(X).shape
    (500, 4)
    """

    bottom_units: Units = parameter(
        (256, 128), NON_EMPTY_UNITS, search=[(128, 64), (256, 128), (512, 256), (256, 256, 128)]
    )

    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any) -> nn.Module:
        return SharedBottomBottom(in_features, n_tasks, units=self.bottom_units, **network)
