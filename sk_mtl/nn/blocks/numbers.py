"""Numbers: standardized, missing ones filled in."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sk_mtl.nn.blocks.base import Block
from sk_mtl.nn.blocks.columns import as_columns, number_places, pick
from sk_mtl.nn.blocks.grid import Precise


class NumbersBlock(Precise, Block):
    """Standardize numeric columns, and mark their missing values.

    Parameters
    ----------
    n_columns : int, default=0
        Number of columns F.
    mean, scale : array-like of shape (F,), optional
        A value enters the network as (value - mean) / scale. Default: 0 and 1. A column whose
        scale is NaN is held at its fill, whatever its values: of a column that was constant when
        the statistics were taken no other value has been learned.
    fill : array-like of shape (F,), optional
        The number that stands for a missing value, on the network's scale. Default: 0.
    missing_columns : sequence of int, default=()
        Those of the F columns, by position, that get an indicator of missing values beside them.
    columns : sequence of int, optional
        Positions of the block's columns in the part. Default: all of them.
    generator : torch.Generator, optional
        Not used: the block has no weights.

    Attributes
    ----------
    out_features : int
        Number of columns and of indicators.

    Notes
    -----
    Shape: (B, F) float with NaN where missing -> (B, F + indicators).

    Numbers are standardized in the precision they come in: a time stamp in float64 keeps its
    digits.

    Examples
    --------
    >>> import torch
    >>> from sk_mtl.nn import NumbersBlock
    >>> block = NumbersBlock(2, mean=[1.0, 0.0], scale=[2.0, 1.0], missing_columns=[1])
    >>> block.embed(block.prepare(torch.tensor([[3.0, float("nan")]])))
    tensor([[1., 0., 1.]])
    """

    kind: ClassVar[str] = "numbers"
    precise: ClassVar[tuple[str, ...]] = ("mean", "scale")
    columns: Tensor | None
    mean: Tensor
    scale: Tensor
    held: Tensor
    fill: Tensor
    missing_columns: Tensor

    def __init__(
        self,
        n_columns: int = 0,
        *,
        mean: Any = None,
        scale: Any = None,
        fill: Any = None,
        missing_columns: Sequence[int] = (),
        columns: Sequence[int] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.n_columns = n_columns
        self.register_buffer("columns", as_columns(columns), persistent=False)
        self.register_buffer("mean", torch.zeros(n_columns, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(n_columns, dtype=torch.float64))
        self.register_buffer("held", torch.zeros(n_columns, dtype=torch.bool))
        self.register_buffer("fill", torch.zeros(n_columns))
        self.register_buffer("missing_columns", torch.tensor(missing_columns, dtype=torch.int64))
        self.set_statistics(mean=mean, scale=scale, fill=fill)
        self.out_features = n_columns + len(missing_columns)

    @torch.no_grad()
    def set_statistics(self, **statistics: Any) -> None:
        """Take other statistics; None leaves one as it is.

        Parameters
        ----------
        **statistics
            ``mean``, ``scale`` and ``fill``, as in the constructor.
        """
        for name, values in statistics.items():
            if values is not None:
                self.get_buffer(name).copy_(torch.as_tensor(values))
        if statistics.get("scale") is not None:
            self.held.copy_(self.scale.isnan())
            self.scale.nan_to_num_(1.0)

    def places(self) -> list[tuple[int, list[int]]]:
        """Return each column's places: its number, and its indicator behind all numbers."""
        return number_places(self.columns, self.n_columns, 1, self.missing_columns)

    def prepare(self, part: Tensor) -> Tensor:
        """Standardize, fill and mark: (B, F) -> (B, F + indicators)."""
        if self.n_columns == 0:
            return part.new_empty(part.shape[0], 0, dtype=self.fill.dtype)
        part = pick(part, self.columns)
        z = ((part - self.mean) / self.scale).to(self.fill.dtype)
        dense = torch.where(z.isnan() | self.held, self.fill, z)
        if self.out_features == self.n_columns:
            return dense
        missing = part[:, self.missing_columns].isnan()
        return torch.cat([dense, missing.to(dense.dtype)], dim=1)

    def embed(self, prepared: Tensor) -> Tensor:
        """Return the prepared numbers: nothing is left to do."""
        return prepared
