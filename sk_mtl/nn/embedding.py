"""From columns to one vector per row: standardized numbers and embedded categories."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

N_SPECIAL = 2
"""Codes before the known categories: 0 for a missing value, 1 for an unknown category."""

SPARSE_ROWS = 50_000
"""Tables with more rows than this pass sparse gradients, so that a step costs its rows only."""


def _lookup(table: Tensor, rows: Tensor, sparse: bool) -> Tensor:
    """Return rows of a table, (R, d), (N,) -> (N, d); the gradient is sparse if asked."""
    if torch.compiler.is_compiling():
        return torch.nn.functional.embedding(rows, table, sparse=sparse)
    if not torch.is_grad_enabled():
        return table.index_select(0, rows)
    return _Lookup.apply(table, rows, sparse)


class _Lookup(torch.autograd.Function):
    """`torch.nn.functional.embedding` with cheaper sums of the gradients of equal rows."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, sparse: bool) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape, ctx.sparse = table.shape, sparse
        return table.index_select(0, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (rows,) = ctx.saved_tensors
        if not ctx.sparse:
            return sum_rows(grad, rows, ctx.shape[0]), None, None
        # Equal rows stand several times: the optimizer adds them up, in less time than a sort.
        gradient = torch.sparse_coo_tensor(
            rows.unsqueeze(0), grad, ctx.shape, check_invariants=False
        )
        return gradient, None, None


def sum_rows(values: Tensor, rows: Tensor, n: int) -> Tensor:
    """Add up the values of equal rows: (N, d), (N,) -> (n, d)."""
    sums = values.new_zeros(n, values.shape[1])
    threads = torch.get_num_threads()
    large = values.shape[1] > 8 and values.numel() > 2**18
    if large or threads == 1 or values.device.type != "cpu":
        return sums.index_add_(0, rows, values)
    # Threads share cache lines of narrow rows, and sort the indices first: over five times slower.
    torch.set_num_threads(1)
    try:
        return sums.index_add_(0, rows, values)
    finally:
        torch.set_num_threads(threads)


class FeatureEmbedding(nn.Module):
    """Standardize numeric columns, embed categorical ones, and set them side by side.

    Columns with the same embedding width share one table, each at an offset of its own, so that
    all of them take one gather.

    Parameters
    ----------
    n_numeric : int, default=0
        Number of numeric columns F.
    n_categories : sequence of int, default=()
        Number of known categories of each of the C categorical columns.
    embedding_dims : sequence of int, default=()
        Width of each categorical column's embedding.
    mean, scale : Tensor of shape (F,), optional
        A numeric value enters the network as (value - mean) / scale. Default: 0 and 1.
    fill : Tensor of shape (F,), optional
        What stands, on that scale, for a missing value. Default: 0.
    missing_columns : sequence of int, default=()
        Numeric columns that get an indicator of missing values beside them.
    generator : torch.Generator, optional
        Source of the initial embeddings.

    Attributes
    ----------
    out_features : int
        Width D of the output: numbers, indicators, embeddings.
    sparse : tuple of bool
        For each table, whether it passes sparse gradients.

    Notes
    -----
    Shape: numeric (B, F) float with NaN where missing, categorical (B, C) integer codes -> (B, D).

    Code 0 is a missing value, 1 an unknown category, 2 and up the known categories.
    Numbers are standardized in the precision they come in: a time stamp in float64 keeps its
    digits.
    """

    mean: Tensor
    scale: Tensor
    fill: Tensor
    missing_columns: Tensor
    special_seen: Tensor

    def __init__(
        self,
        n_numeric: int = 0,
        n_categories: Sequence[int] = (),
        embedding_dims: Sequence[int] = (),
        *,
        mean: Tensor | None = None,
        scale: Tensor | None = None,
        fill: Tensor | None = None,
        missing_columns: Sequence[int] = (),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        zeros = torch.zeros(n_numeric, dtype=torch.float64)
        self.register_buffer("mean", zeros if mean is None else mean)
        self.register_buffer("scale", zeros + 1.0 if scale is None else scale)
        self.register_buffer(
            "fill", (zeros if fill is None else fill).to(torch.get_default_dtype())
        )
        self.register_buffer("missing_columns", torch.tensor(missing_columns, dtype=torch.int64))
        # Whether a column's missing and unknown rows were ever trained, see `fill_unseen`.
        self.register_buffer(
            "special_seen", torch.zeros(len(n_categories), N_SPECIAL, dtype=torch.bool)
        )
        by_width: dict[int, list[int]] = {}
        for column, width in enumerate(embedding_dims):
            by_width.setdefault(width, []).append(column)
        self.columns = list(by_width.values())
        self.sizes = [[n_categories[c] + N_SPECIAL for c in columns] for columns in self.columns]
        self.tables = nn.ParameterList()
        for index, (width, sizes) in enumerate(zip(by_width, self.sizes, strict=True)):
            starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)
            self.register_buffer(f"offsets_{index}", starts, persistent=False)
            table = torch.empty(sum(sizes), width).normal_(std=0.01, generator=generator)
            for start in starts.tolist():
                table[start : start + N_SPECIAL] = 0.0
            self.tables.append(nn.Parameter(table))
        self.sparse = tuple(len(table) > SPARSE_ROWS for table in self.tables)
        self.n_numeric, self.n_categorical = n_numeric, len(n_categories)
        self.out_features = n_numeric + len(missing_columns) + sum(embedding_dims)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move and cast as any module, but keep the statistics in the precision they came in."""
        mean, scale = self.mean, self.scale
        super()._apply(fn, recurse)
        self.mean = mean.to(self.mean.device)
        self.scale = scale.to(self.scale.device)
        return self

    def _rows(self, categorical: Tensor, index: int) -> Tensor:
        """Return the rows of table `index` that a batch of codes reads: (B, columns)."""
        columns = self.columns[index]
        codes = categorical if len(columns) == self.n_categorical else categorical[:, columns]
        return codes + self.get_buffer(f"offsets_{index}")

    def prepare(self, numeric: Tensor, categorical: Tensor) -> tuple[Tensor, Tensor]:
        """Do what depends on no weight, once for all batches that are cut from the result.

        Parameters
        ----------
        numeric : Tensor of shape (B, F)
            Numbers, NaN where missing.
        categorical : Tensor of shape (B, C)
            Category codes.

        Returns
        -------
        dense : Tensor of shape (B, F + indicators)
            Standardized numbers and the indicators of missing ones.
        rows : Tensor of shape (B, C), int64
            Rows of the tables, the columns of one table side by side, table after table.
        """
        dense = numeric.new_empty(len(numeric), 0, dtype=self.fill.dtype)
        if self.n_numeric:
            z = ((numeric - self.mean) / self.scale).to(self.fill.dtype)
            missing = z.isnan()
            dense = torch.where(missing, self.fill, z)
            if len(self.missing_columns):
                indicators = missing[:, self.missing_columns].to(z.dtype)
                dense = torch.cat([dense, indicators], dim=1)
        parts = [self._rows(categorical, index) for index in range(len(self.tables))]
        rows = categorical if not parts else parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return dense, rows

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Return the rows' vectors: (B, F), (B, C) -> (B, D)."""
        return self.embed(*self.prepare(numeric, categorical))

    def embed(self, dense: Tensor, rows: Tensor) -> Tensor:
        """Return the vectors of rows that are prepared, (B, D); see `prepare`."""
        parts = [dense] if dense.shape[1] else []
        start = 0
        for table, columns, sparse in zip(self.tables, self.columns, self.sparse, strict=True):
            stop = start + len(columns)
            own = rows if len(self.tables) == 1 else rows[:, start:stop]
            found = _lookup(table, own.flatten(), sparse)
            parts.append(found.view(len(own), len(columns) * table.shape[1]))
            start = stop
        return dense if not parts else parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    @torch.no_grad()
    def fill_unseen(self, categorical: Tensor) -> None:
        """Give the missing and unknown rows that were never trained their column's mean.

        A category that training never showed would otherwise be read as an arbitrary vector.
        The mean is weighted by how often each category stands in `categorical`, the codes trained
        on.

        Parameters
        ----------
        categorical : Tensor of shape (n, C)
            Codes of the rows trained on.
        """
        for special in range(N_SPECIAL):
            self.special_seen[:, special] |= (categorical == special).any(0)
        for index, table in enumerate(self.tables):
            counts = torch.bincount(self._rows(categorical, index).flatten(), minlength=len(table))
            start = 0
            for column, size in zip(self.columns[index], self.sizes[index], strict=True):
                known = slice(start + N_SPECIAL, start + size)
                total = counts[known].sum()
                if total > 0:
                    mean = (counts[known].to(table.dtype) @ table[known]) / total
                    for special in range(N_SPECIAL):
                        if not self.special_seen[column, special]:
                            table[start + special] = mean
                start += size
