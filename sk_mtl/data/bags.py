"""Codes of rows of which some columns hold several categories in a cell."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Bags:
    """Codes of n rows: one in each cell of some columns, several in each cell of others.

    Rows are cut by a slice, in views, or by a tensor of positions.

    Parameters
    ----------
    codes : Tensor of shape (n, P)
        Codes of the columns with one category in a cell.
    values : sequence of Tensor
        For each column of the others the codes of all its cells, one cell after another.
    offsets : sequence of Tensor of int64 of shape (n + 1,)
        Where in it each cell's codes begin, and where the last one's end, counted from any start.
    """

    def __init__(self, codes: Tensor, values: Sequence[Tensor], offsets: Sequence[Tensor]) -> None:
        self.codes, self.values, self.offsets = codes, list(values), list(offsets)

    def __len__(self) -> int:
        return self.codes.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows, and codes in a row of the usual length."""
        n = len(self)
        n_values = sum(len(values) for values in self.values)
        return n, self.codes.shape[1] + len(self.values) + n_values // max(n, 1)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return sum(tensor.nbytes for tensor in (self.codes, *self.values, *self.offsets))

    def __getitem__(self, index: Any) -> "Bags":
        """Return some rows."""
        if isinstance(index, Tensor):
            return self._take(index.to(self.codes.device))
        start, stop, step = index.indices(len(self))
        if step != 1:
            raise ValueError(f"rows are cut in runs; got the slice {index}")
        values, offsets = [], []
        for own, ends in zip(self.values, self.offsets, strict=True):
            base, ends = int(ends[0]), ends[start : max(start, stop) + 1]
            values.append(own[int(ends[0]) - base : int(ends[-1]) - base])
            offsets.append(ends)
        return Bags(self.codes[start:stop], values, offsets)

    def _take(self, index: Tensor) -> "Bags":
        """Return rows by their positions."""
        values, offsets = [], []
        for own, ends in zip(self.values, self.offsets, strict=True):
            starts = ends.index_select(0, index)
            lengths = ends.index_select(0, index + 1) - starts
            new = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
            shift = (starts - ends[0] - new[:-1]).repeat_interleave(lengths)
            values.append(own.index_select(0, shift + torch.arange(len(shift), device=own.device)))
            offsets.append(new)
        return Bags(self.codes.index_select(0, index), values, offsets)

    def replace(self, codes: Tensor, values: Sequence[Tensor]) -> "Bags":
        """Return the same rows with other numbers in place of their codes."""
        return Bags(codes, values, self.offsets)

    def to(self, device: Any, non_blocking: bool = False) -> "Bags":
        """Return the rows on a device."""
        tensors = (self.codes, *self.values, *self.offsets)
        if all(tensor.device == torch.device(device) for tensor in tensors):
            return self
        moved = [tensor.to(device, non_blocking=non_blocking) for tensor in tensors]
        n = len(self.values) + 1
        return Bags(moved[0], moved[1:n], moved[n:])


class BagStore:
    """Take the codes of rows some at a time, from the first to the last."""

    def __init__(self) -> None:
        self.pieces: list[Bags] = []

    def __setitem__(self, at: slice, piece: Bags) -> None:
        self.pieces.append(piece)

    def smallest(self) -> Bags:
        """Return all rows."""
        if len(self.pieces) == 1:
            return self.pieces[0]
        codes = torch.cat([piece.codes for piece in self.pieces])
        values, offsets = [], []
        for k in range(len(self.pieces[0].values)):
            values.append(torch.cat([piece.values[k] for piece in self.pieces]))
            lengths = torch.cat([piece.offsets[k].diff() for piece in self.pieces])
            offsets.append(torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))
        return Bags(codes, values, offsets)


def as_bags(codes: Any, values: Sequence[Any], lengths: Sequence[Any]) -> Bags:
    """Return arrays of codes, and of how many each cell has, as rows."""
    ends = [torch.from_numpy(own).cumsum(0) for own in lengths]
    offsets = [torch.cat([own.new_zeros(1), own]) for own in ends]
    return Bags(torch.from_numpy(codes), [torch.from_numpy(own) for own in values], offsets)
