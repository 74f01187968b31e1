"""Numbers by a line with a bend at every edge of a bin."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sk_mtl.nn.blocks.columns import ColumnsBlock
from sk_mtl.nn.blocks.grid import Grid
from sk_mtl.nn.blocks.periodic import build_number
from sk_mtl.nn.blocks.tables import lookup


class PiecewiseBlock(ColumnsBlock):
    """Embed numbers by a linear part and one that bends at the edges of bins.

    A column's vector is ``bias + slope * z`` plus, for every bin below the value, the bin's
    weight, and of the value's own bin the part of the weight that it has passed. The weights of
    bins start at zero, so that a column starts as a line. It is "version B" of
    ``rtdl_num_embeddings.PiecewiseLinearEmbeddings``.

    Parameters
    ----------
    edges : sequence of array-like
        For each column the edges of its bins, sorted and distinct, at least two.
    number : (str, mapping)
        Kind and arguments of the `ScalarsBlock` that makes z.
    embedding_dim : int, default=16
        Width of a column's vector.
    generator : torch.Generator, optional
        Source of the initial weights.
    **columns
        ``fill``, ``held``, ``columns``, ``missing_columns``: see `ColumnsBlock`.

    Attributes
    ----------
    weight : nn.Parameter of shape (F, M - 1, embedding_dim)
        The weights of the bins; of a column with fewer than others the last ones are not used.

    Notes
    -----
    Shape: (B, all columns) float with NaN where missing -> (B, F * embedding_dim + indicators).

    NOTE[DIFF]: beyond the first and the last edge the bins' part stays as it is at the edge, where
    rtdl_num_embeddings goes on along the outer bins. An outer bin may be narrow, and a value far
    out would be multiplied by its distance in widths of that bin.

    References
    ----------
    Y. Gorishniy, I. Rubachev, A. Babenko, "On embeddings for numerical features in tabular deep
    learning", NeurIPS 2022. Y. Gorishniy, A. Kotelnikov, A. Babenko, "TabM", ICLR 2025.

    Examples
    --------
    >>> import torch
    >>> from sk_mtl.nn import PiecewiseBlock
    >>> columns = {"fill": [1.0], "held": [False]}
    >>> number = ("scaled", {"center": [1.0], "scale": [2.0], **columns})
    >>> block = PiecewiseBlock(edges=[[0.0, 1.0, 5.0]], number=number, embedding_dim=3, **columns)
    >>> block.embed(block.prepare(torch.tensor([[3.0], [1.0]]))).shape
    torch.Size([2, 3])
    """

    kind: ClassVar[str] = "piecewise"
    precise: ClassVar[tuple[str, ...]] = ("fill", "table")
    table: Tensor
    last: Tensor
    first: Tensor

    def __init__(
        self,
        *,
        edges: Sequence[Any],
        number: tuple[str, Mapping[str, Any]],
        embedding_dim: int = 16,
        generator: torch.Generator | None = None,
        **columns: Any,
    ) -> None:
        super().__init__(embedding_dim, **columns)
        self.number = build_number(number)
        self.grid = Grid(edges)
        left, width = self.grid.edges, torch.ones_like(self.grid.edges)
        width[:, :-1] = left.diff(dim=1).nan_to_num(1.0)
        table = torch.stack([left, width], dim=-1).flatten(0, 1)
        self.register_buffer("table", table, persistent=False)
        last = torch.tensor(self.grid.n_edges, dtype=torch.int64) - 2
        self.register_buffer("last", last, persistent=False)  # each column's last bin
        n, n_bins, bound = self.n_columns, left.shape[1] - 1, embedding_dim**-0.5
        slope, bias = torch.empty(n, embedding_dim), torch.empty(n, embedding_dim)
        self.slope = nn.Parameter(slope.uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(bias.uniform_(-bound, bound, generator=generator))
        self.weight = nn.Parameter(torch.zeros(n, n_bins, embedding_dim))
        self.register_buffer("first", torch.arange(n) * n_bins, persistent=False)

    def bins(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bin of each value, and which part of it the value has passed: (B, F) each."""
        bin_ = torch.minimum((self.grid(x) - 1).clamp(min=0), self.last)
        left, width = self.grid.read(self.table, bin_).unbind(-1)
        return bin_, ((x - left) / width).clamp(0.0, 1.0)

    def prepare(self, part: Tensor) -> Tensor:
        """Find z, the bins and the parts passed: (B, all) -> (B, 3 F + indicators).

        Bins are counted over all columns, as floats: float32 is exact up to 16 million of them.
        """
        x = self.clean(part)
        bin_, passed = self.bins(x)
        return self.join([self.number.numbers(x), passed, bin_ + self.first], part)

    def embed(self, prepared: Tensor) -> Tensor:
        """Embed them: (B, 3 F + indicators) -> (B, out_features)."""
        n, width = self.n_columns, self.weight.shape[2]
        z, passed, bin_ = prepared[:, : 3 * n].split(n, dim=1)
        # One gather of a row per value: the sum of the weights below, and the bin's own.
        below = self.weight.cumsum(1) - self.weight
        both = torch.cat([below, self.weight], dim=2).flatten(0, 1)
        rows = lookup(both, bin_.to(torch.int64).flatten(), sparse=False)
        start, own = rows.view(-1, n, 2 * width).split(width, dim=2)
        line = torch.addcmul(self.bias, self.slope, z.unsqueeze(2))
        return self.finish(line + torch.addcmul(start, own, passed.unsqueeze(2)), prepared)
