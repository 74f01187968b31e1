"""Exact values of numbers, looked up in embedding tables."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sk_mtl.nn.blocks.columns import as_columns, pick
from sk_mtl.nn.blocks.grid import Grid
from sk_mtl.nn.blocks.tables import N_SPECIAL, TablesBlock
from sk_mtl.nn.stacked import Dropout

CHUNK = 65_536
"""Rows that are coded at once where all rows are counted."""


class ValuesBlock(TablesBlock):
    """Embed the exact values of numeric columns as if they were categories.

    Parameters
    ----------
    values : sequence of array-like
        For each of the F columns its known values, sorted and distinct.
    embedding_dims : sequence of int
        Width of each column's embedding.
    dropout : float, default=0.0
        Probability, in training, that a row does without a column's vector.
    columns : sequence of int, optional
        Positions of the block's columns in the part. Default: all of them.
    copies : int, default=0
        As in `TablesBlock`.
    generator : torch.Generator, optional
        Source of the initial embeddings.

    Notes
    -----
    Shape: (B, all columns) float with NaN where missing -> (B, out_features).

    Values are compared in float64. Everything else is as in `TablesBlock`: a missing value has a
    slot of its own, and so have all values that are not known; a slot that training did not show
    is the mean of what it did show.

    Examples
    --------
    >>> import torch
    >>> from sk_mtl.nn import ValuesBlock
    >>> block = ValuesBlock(values=[[0.0, 5.0]], embedding_dims=[3])
    >>> block.codes(torch.tensor([[float("nan")], [0.1], [0.0], [5.0]])).flatten()
    tensor([0, 1, 2, 3])
    """

    kind: ClassVar[str] = "values"
    positions: Tensor | None
    output_column: Tensor

    def __init__(
        self,
        values: Sequence[Any],
        embedding_dims: Sequence[int],
        *,
        dropout: float = 0.0,
        columns: Sequence[int] | None = None,
        copies: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        sizes = [len(own) for own in values]
        super().__init__(sizes, embedding_dims, copies=copies, generator=generator)
        # A column without a known value has a place that is none: infinity.
        self.grid = Grid([own if len(own) else [torch.inf] for own in values])
        self.register_buffer("positions", as_columns(columns), persistent=False)
        self.dropout = Dropout(dropout)
        order = [column for own in self.columns for column in own]  # as `embed` has them
        widths = torch.tensor([embedding_dims[column] for column in order])
        owner = torch.arange(len(order)).repeat_interleave(widths)
        self.register_buffer("output_column", owner, persistent=False)

    def codes(self, part: Tensor) -> Tensor:
        """Return the codes of values: (B, all columns) -> (B, F) int64."""
        x = pick(part.to(self.grid.edges.device), self.positions).to(torch.float64)
        missing = x.isnan()
        x = torch.where(missing, 0.0, x)
        place = (self.grid(x) - 1).clamp(min=0)
        found = self.grid.read(self.grid.edges.flatten().unsqueeze(1), place).squeeze(2)
        codes = torch.where(found == x, place + N_SPECIAL, 1)
        return torch.where(missing, 0, codes)

    def places(self) -> list[tuple[int, list[int]]]:
        """Return each column's places: the columns of one width stand side by side."""
        where = self.positions
        return [
            (column if where is None else int(where[column]), own)
            for column, own in super().places()
        ]

    def prepare(self, part: Tensor) -> Tensor:
        """Return the slots that rows read: (B, all columns) -> (B, F) int64."""
        return super().prepare(self.codes(part))

    def embed(self, prepared: Tensor) -> Tensor:
        """Look the slots up: (B, F) -> (B, out_features)."""
        found = super().embed(prepared)
        if not self.training or self.dropout.p == 0.0:
            return found
        kept = self.dropout(found.new_ones(prepared.shape))
        kept = kept.index_select(1, self.output_column)
        return found * (kept.unsqueeze(1) if self.copies else kept)

    def touched(self, part: Tensor) -> dict[str, Tensor]:
        """Return the slots of the tables with sparse gradients that rows read, each once."""
        if not any(self.sparse):
            return {}
        return super().touched(torch.cat(list(self._all_codes(part))))

    def count(self, part: Tensor) -> None:
        """Count how often each value stands in the rows trained on."""
        for codes in self._all_codes(part):
            super().count(codes)

    def _all_codes(self, part: Tensor) -> Iterator[Tensor]:
        """Yield the codes of all rows, some rows at a time."""
        for start in range(0, max(part.shape[0], 1), CHUNK):
            yield self.codes(part[start : start + CHUNK])
