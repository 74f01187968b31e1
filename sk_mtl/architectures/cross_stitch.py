"""Cross-stitch networks: a network for each task, and combinations of them after each layer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sk_mtl.base import (
    NON_EMPTY_UNITS,
    POSITIVE,
    MultiTaskEstimator,
    Range,
    StrOptions,
    Units,
    parameter,
)
from sk_mtl.nn import StackedMLP, Stitch


class CrossStitchBottom(nn.Module):
    """A network for each task; after each layer every task takes a combination of all.

    Parameters
    ----------
    in_features : int
        Width D of the input.
    n_tasks : int
        Number of tasks K.
    units : sequence of int
        Widths of each network's layers.
    alpha_unit : {"layer", "unit"}, default="layer"
        Whether the weights of a combination hold for a layer or for one of its units.
    alpha_rate : float, default=1.0
        Factor of these weights' learning rate.
    n_members : int, default=1
        Number M of members.
    **network
        Further parameters of `sk_mtl.nn.StackedMLP`.

    Notes
    -----
    Shape: (B, D) -> (B, M * K, H)
    """

    def __init__(
        self,
        in_features: int,
        n_tasks: int,
        *,
        units: Sequence[int],
        alpha_unit: str = "layer",
        alpha_rate: float = 1.0,
        n_members: int = 1,
        **network: Any,
    ) -> None:
        super().__init__()
        self.layers, self.stitches = nn.ModuleList(), nn.ModuleList()
        width = in_features
        for unit in units:
            layer = StackedMLP(n_tasks, width, (unit,), n_members=n_members, **network)
            each = unit if alpha_unit == "unit" else None
            self.layers.append(layer)
            self.stitches.append(Stitch(n_tasks, each, rate=alpha_rate, n_members=n_members))
            width = unit
        self.out_features = width

    def forward(self, x: Tensor) -> Tensor:
        """Return each task's combination of the networks' last layers."""
        for layer, stitch in zip(self.layers, self.stitches, strict=True):
            x = stitch(layer(x))
        return x

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what a single task moves: its weights of the last combination."""
        return self.stitches[-1].parameters()


@dataclass(kw_only=True, eq=False, repr=False)
class CrossStitch(MultiTaskEstimator):
    r"""Cross-stitch networks: a network for each task, combined linearly after each layer.

    How much a task takes from the others is learned layer by layer, in a few numbers that do not
    depend on the row: `sk_mtl.inspection.stitch_weights` shows them.

    Parameters
    ----------
    bottom_units : tuple of int, default=(256, 128)
        Widths of each network's layers; a combination follows each of them.
    alpha_unit : {"layer", "unit"}, default="layer"
        Whether there is one weight for each pair of tasks in a layer, or one for each of the
        layer's units, as the paper has one for each channel of an image.
    alpha_rate : float, default=10.0
        Factor of these weights' learning rate.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}

    See Also
    --------
    SingleTask : The networks without the combinations.
    AdaTT : Combinations that depend on the row.

    Notes
    -----
    With the layers :math:`f^l_k` and :math:`\tilde x^0_k = x`, the embedding that all share:

    .. math:: x^l_k = f^l_k(\tilde x^{l-1}_k), \qquad
        \tilde x^l_k = \sum_j \alpha^l_{kj}\, x^l_j

    At first :math:`\alpha_{kk} = .9` and the others share .1. Weight decay leaves them alone.

    NOTE[DIFF]: the paper starts from networks that were trained on one task each, and finds that
    training all jointly from the start, which is done here, is worse. Its rate of alpha is 100 to
    1000 times that of the networks, under plain gradient descent. Adam's steps are as long as the
    rate, whatever the gradient: 100 times the default `lr` would move alpha by .2 a step.

    References
    ----------
    I. Misra et al., "Cross-stitch Networks for Multi-task Learning", CVPR 2016, equation 1.

    Examples
    --------
    >>> from sk_mtl import CrossStitch
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = CrossStitch(bottom_units=(16,), max_epochs=2, random_state=0).fit(X, Y)
    >>> model.predict(X).shape
    (500, 3)
    """

    bottom_units: Units = parameter(
        (256, 128), NON_EMPTY_UNITS, search=[(128, 64), (256, 128), (512, 256), (256, 256, 128)]
    )
    alpha_unit: str = parameter("layer", StrOptions({"layer", "unit"}))
    alpha_rate: float = parameter(10.0, POSITIVE, search=Range(1.0, 100.0, log=True))

    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any) -> nn.Module:
        alpha: dict[str, Any] = {"alpha_unit": self.alpha_unit, "alpha_rate": self.alpha_rate}
        return CrossStitchBottom(in_features, n_tasks, units=self.bottom_units, **alpha, **network)
