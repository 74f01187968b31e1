"""Sorted places on the number line, some for each column, and where values stand among them."""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn


class Precise(nn.Module):
    """A module some of whose buffers keep their precision when the module is cast.

    Attributes
    ----------
    precise : tuple of str
        Names of these buffers, a class attribute.
    """

    precise: ClassVar[tuple[str, ...]] = ()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move and cast as any module, but keep the precision of some buffers."""
        before = {name: self.get_buffer(name) for name in self.precise}
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            setattr(self, name, buffer.to(self.get_buffer(name).device))
        return self


class Grid(Precise):
    """Find the places of values among the sorted edges of their columns.

    Parameters
    ----------
    edges : sequence of array-like
        For each of the F columns its edges, sorted and distinct, at least one.

    Attributes
    ----------
    edges : Tensor of shape (F, M), float64
        The edges, infinity behind the last one of a column.
    n_edges : list of int
        Number of edges of each column.

    Notes
    -----
    Shape: (B, F) float64 without NaN -> (B, F) int64, how many edges are at most the value.
    """

    precise: ClassVar[tuple[str, ...]] = ("edges",)
    edges: Tensor
    starts: Tensor

    def __init__(self, edges: Sequence[Any]) -> None:
        super().__init__()
        self.n_edges = [len(own) for own in edges]
        padded = self.pad(edges, math.inf)
        self.register_buffer("edges", padded, persistent=False)
        n, most = padded.shape
        self.register_buffer("starts", torch.arange(n) * most, persistent=False)

    def pad(self, rows: Sequence[Any], value: float) -> Tensor:
        """Return numbers of each column's edges as one matrix, `value` behind them: (F, M)."""
        most = max(self.n_edges, default=1)
        padded = torch.full((len(rows), most), value, dtype=torch.float64)
        for row, own in zip(padded, rows, strict=True):
            row[: len(own)] = torch.as_tensor(own, dtype=torch.float64)
        return padded

    def forward(self, x: Tensor) -> Tensor:
        """Count the edges that are at most the value: (B, F) -> (B, F)."""
        if torch.compiler.is_compiling():  # ONNX knows no `searchsorted`
            return self._halve(x)
        return torch.searchsorted(self.edges, x.T.contiguous(), right=True).T

    def _halve(self, x: Tensor) -> Tensor:
        """Do the same by halving what is left, in a fixed number of steps."""
        flat, most = self.edges.flatten(), self.edges.shape[1]
        count = torch.zeros_like(x, dtype=torch.int64)
        for power in reversed(range(most.bit_length())):
            further = count + 2**power
            at = self.starts + (further - 1).clamp(max=most - 1)
            fits = (further <= most) & (flat[at] <= x)
            count = torch.where(fits, further, count)
        return count

    def read(self, table: Tensor, place: Tensor) -> Tensor:
        """Read what belongs to the edges at given places: (F * M, c), (B, F) -> (B, F, c)."""
        at = (place + self.starts).flatten()
        return table.index_select(0, at).view(place.shape[0], place.shape[1], table.shape[1])
