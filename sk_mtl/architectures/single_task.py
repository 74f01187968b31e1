"""SingleTask: a network for each task, and nothing shared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sk_mtl.base import NON_EMPTY_UNITS, MultiTaskEstimator, Units, parameter
from sk_mtl.nn import StackedMLP


class SingleTaskBottom(nn.Module):
    """A network for each task, on an embedding of its own or on one for all.

    Parameters
    ----------
    in_features : int
        Width D of the input.
    n_tasks : int
        Number of tasks K.
    units : sequence of int
        Widths of each network's layers.
    n_members, **network
        As in `sk_mtl.nn.StackedMLP`.

    Notes
    -----
    Shape: (B, K, D), an input for each task, or (B, D), one for all -> (B, M * K, H)
    """

    def __init__(
        self,
        in_features: int,
        n_tasks: int,
        *,
        units: Sequence[int],
        n_members: int = 1,
        **network: Any,
    ) -> None:
        super().__init__()
        self.n_members = n_members
        self.mlps = StackedMLP(n_tasks, in_features, units, n_members=n_members, **network)
        self.out_features = self.mlps.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Return what each task's network makes of its input."""
        # The networks stand member after member, and each member has all tasks.
        return self.mlps(x if x.ndim == 2 else x.repeat(1, self.n_members, 1))

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what a single task moves: everything."""
        return self.parameters()


@dataclass(kw_only=True, eq=False, repr=False)
class SingleTask(MultiTaskEstimator):
    """Single-task networks: one for each task, trained side by side.

    The yardstick of multi-task learning: the same network as `SharedBottom`, once for each task,
    with an embedding of its own. What another architecture gains over it, it gains by sharing.
    The tasks still share the rows of a batch, the number of epochs and the rows held out.

    Parameters
    ----------
    bottom_units : tuple of int, default=(256, 128)
        Widths of each network's layers.
    shared_embedding : bool, default=False
        Whether the tasks' networks read one embedding of the columns instead of one each.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}

    See Also
    --------
    SharedBottom : One such network for all tasks.
    CrossStitch : Such networks that read one another's layers.

    Notes
    -----
    With embeddings :math:`e_k`, or :math:`e_k = e`:

    .. math:: y_k = t_k(f_k(e_k(x)))

    Without a shared embedding no parameter serves two tasks, and no balancer changes the
    directions in which they train.

    References
    ----------
    R. Caruana, "Multitask Learning", Machine Learning 28, 1997 (CMU-CS-97-203), where it is
    called single-task learning (STL).

    Examples
    --------
    >>> from sk_mtl import SingleTask
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = SingleTask(bottom_units=(16,), max_epochs=2, random_state=0).fit(X, Y)
    >>> model.predict(X).shape
    (500, 3)
    """

    bottom_units: Units = parameter(
        (256, 128), NON_EMPTY_UNITS, search=[(128, 64), (256, 128), (512, 256), (256, 256, 128)]
    )
    shared_embedding: bool = parameter(False, "boolean")

    def _embedding_copies(self, n_tasks: int) -> tuple[int, bool]:
        return (0, True) if self.shared_embedding else (n_tasks, False)

    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any) -> nn.Module:
        return SingleTaskBottom(in_features, n_tasks, units=self.bottom_units, **network)
